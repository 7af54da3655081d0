//! Which names lead to an address: what was resolved through us, for as long as it counts.
//!
//! An answer counts for its own lifetime, and a while longer, since programs take a moment to connect. There is room
//! for a bounded number; what ends soonest gives way.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The least and the most that an answer counts.
const SHORTEST: Duration = Duration::from_secs(120);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How many pairs of a name and an address are kept, and names for one address.
const MOST: usize = 4096;
const MOST_NAMES: usize = 32;

#[derive(Debug)]
struct Pin {
    name: String,
    until: Instant,
}

/// Names by address.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    by_address: HashMap<IpAddr, Vec<Pin>>,
    number: usize,
}

impl Pins {
    /// Notes that `name` leads to `address` for `lifetime` in seconds.
    pub(crate) fn pin(&mut self, name: &str, address: IpAddr, lifetime: u32, now: Instant) {
        let lifetime = Duration::from_secs(lifetime.into()).clamp(SHORTEST, LONGEST);
        let until = now + lifetime;
        if let Some(pin) =
            self.by_address.get_mut(&address).and_then(|pins| pins.iter_mut().find(|pin| pin.name == name))
        {
            pin.until = pin.until.max(until);
            return;
        }
        if self.number >= MOST {
            self.make_room(now);
        }
        let pins = self.by_address.entry(address).or_default();
        if pins.len() >= MOST_NAMES
            && let Some(soonest) = (0..pins.len()).min_by_key(|place| pins[*place].until)
        {
            pins.swap_remove(soonest);
            self.number -= 1;
        }
        pins.push(Pin { name: name.to_owned(), until });
        self.number += 1;
    }

    /// The names that lead to `address` now.
    pub(crate) fn names(&self, address: IpAddr, now: Instant) -> impl Iterator<Item = &str> {
        let pins = self.by_address.get(&address).into_iter().flatten();
        pins.filter(move |pin| pin.until > now).map(|pin| pin.name.as_str())
    }

    /// Lets go of what counts no more, and of a quarter of the rest if that is not enough.
    fn make_room(&mut self, now: Instant) {
        let mut ends: Vec<Instant> =
            self.by_address.values().flatten().map(|pin| pin.until).filter(|until| *until > now).collect();
        let mut least = now;
        if ends.len() > MOST - MOST / 4 {
            let (_, quarter, _) = ends.select_nth_unstable(MOST / 4);
            least = *quarter;
        }
        self.by_address.retain(|_, pins| {
            pins.retain(|pin| pin.until > least);
            !pins.is_empty()
        });
        self.number = self.by_address.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0b00_0000 + number).into()
    }

    fn names(pins: &Pins, number: u32, now: Instant) -> Vec<&str> {
        pins.names(address(number), now).collect()
    }

    #[test]
    fn an_answer_counts_for_its_lifetime_within_bounds() {
        let (mut pins, now) = (Pins::default(), Instant::now());
        pins.pin("a", address(1), 0, now);
        pins.pin("b", address(1), 600, now);
        pins.pin("c", address(1), u32::MAX, now);
        assert_eq!(names(&pins, 1, now), ["a", "b", "c"]);
        assert_eq!(names(&pins, 1, now + Duration::from_secs(121)), ["b", "c"]);
        assert_eq!(names(&pins, 1, now + Duration::from_secs(601)), ["c"]);
        assert!(names(&pins, 1, now + Duration::from_secs(25 * 3600)).is_empty());
        pins.pin("a", address(1), 300, now);
        assert!(names(&pins, 1, now + Duration::from_secs(200)).contains(&"a"), "it was asked for again");
    }

    #[test]
    fn there_is_room_for_so_many_and_what_ends_soonest_gives_way() {
        let (mut pins, now) = (Pins::default(), Instant::now());
        pins.pin("kept", address(0), 50_000, now);
        for number in 0..3 * MOST as u32 {
            pins.pin("flood", address(1 + number), 200 + number % 100, now);
            assert!(pins.number <= MOST && pins.by_address.len() <= MOST);
        }
        assert_eq!(names(&pins, 0, now), ["kept"]);
        for number in 0..3 * MOST_NAMES {
            pins.pin(&number.to_string(), address(0), 300, now);
        }
        assert_eq!(pins.by_address[&address(0)].len(), MOST_NAMES);
        assert!(names(&pins, 0, now).contains(&"kept"));
        assert_eq!(pins.number, pins.by_address.values().map(Vec::len).sum::<usize>());
    }
}
