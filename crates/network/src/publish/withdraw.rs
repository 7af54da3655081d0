//! What is left of the ports that are to be published when some are withdrawn: of ranges the rest.

use std::net::IpAddr;

use super::{PublishSpec, Published};

/// Takes what `named` names out of `kept`; whether there was anything. `live` are the ports that were withdrawn of a
/// guest that runs: they tell which port of this host was chosen where there is a choice.
pub fn withdraw(kept: &mut Vec<PublishSpec>, named: &PublishSpec, live: Option<&[Published]>) -> bool {
    let before = kept.clone();
    *kept = before
        .iter()
        .flat_map(|spec| {
            spec.without(|address, offset| {
                let chosen = live.is_some_and(|live| {
                    live.iter().any(|port| spec.chose(port, address, offset) && !is_fixed(&before, port))
                });
                chosen || spec.is_named(named, address, offset, live.is_some())
            })
        })
        .collect();
    *kept != before
}

/// Whether a port is one that was asked for by its number.
fn is_fixed(specs: &[PublishSpec], port: &Published) -> bool {
    specs.iter().any(|spec| !spec.has_choice() && spec.names(port))
}

impl PublishSpec {
    fn has_choice(&self) -> bool {
        self.host == 0 || self.choices > 1
    }

    /// Whether this port may have been chosen for one of its own.
    fn chose(&self, port: &Published, address: IpAddr, offset: u16) -> bool {
        self.has_choice()
            && self.names(port)
            && port.address.ip() == address
            && self.guest.checked_add(offset) == Some(port.guest)
    }

    /// Whether `named` names one of its ports, as far as that can be told without asking which was chosen.
    fn is_named(&self, named: &Self, address: IpAddr, offset: u16, is_live: bool) -> bool {
        let guest = self.guest.saturating_add(offset);
        let Some(at) = guest.checked_sub(named.guest).filter(|at| *at < named.number) else { return false };
        let (own, its) = (self.hosts(offset), named.hosts(at));
        let overlap = own.start() <= its.end() && its.start() <= own.end();
        let host = named.host == 0 || overlap && !(is_live && self.has_choice());
        host && self.protocol == named.protocol && named.address.is_none_or(|named| named == address)
    }

    /// What is left without those of its ports, each an address and an offset, that are `gone`.
    fn without(&self, gone: impl Fn(IpAddr, u16) -> bool) -> Vec<Self> {
        let addresses = self.addresses();
        let mut left: Vec<Self> = Vec::new();
        for offset in 0..self.number {
            let stay: Vec<IpAddr> =
                addresses.iter().copied().filter(|address| !gone(*address, offset)).collect();
            let address = match stay[..] {
                [] => continue,
                [one] => Some(one),
                _ => None,
            };
            match left.last_mut() {
                Some(last) if last.address == address && last.guest + last.number == self.guest + offset => {
                    last.number += 1;
                }
                _ => left.push(self.part(address, offset)),
            }
        }
        left
    }

    fn part(&self, address: Option<IpAddr>, offset: u16) -> Self {
        let host = if self.host == 0 { 0 } else { self.host.saturating_add(offset) };
        Self { address, host, guest: self.guest.saturating_add(offset), number: 1, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(kept: &[&str], named: &str, live: Option<&[(&str, u16)]>) -> Vec<String> {
        let mut kept: Vec<PublishSpec> = kept.iter().map(|text| text.parse().unwrap()).collect();
        let named: PublishSpec = named.parse().unwrap();
        let live: Option<Vec<Published>> = live.map(|ports| {
            let port = |(address, guest): &(&str, u16)| Published {
                address: address.parse().unwrap(),
                guest: *guest,
                protocol: named.protocol,
            };
            ports.iter().map(port).collect()
        });
        let before = kept.len();
        let changed = withdraw(&mut kept, &named, live.as_deref());
        let shown: Vec<String> = kept.iter().map(ToString::to_string).collect();
        assert!(changed || shown.len() == before);
        shown
    }

    #[test]
    fn of_a_range_the_rest_is_left() {
        let range = ["127.0.0.1:5000-5003:6000-6003"];
        assert_eq!(
            left(&range, "6001", None),
            ["127.0.0.1:5000:6000/tcp", "127.0.0.1:5002-5003:6002-6003/tcp"]
        );
        assert_eq!(left(&range, "5000-5002:6000-6002", None), ["127.0.0.1:5003:6003/tcp"]);
        assert_eq!(left(&range, "6000-6003", None), [""; 0]);
        for other in ["6004", "5001:6002", "192.0.2.1::6001", "6001/udp"] {
            assert_eq!(left(&range, other, None), ["127.0.0.1:5000-5003:6000-6003/tcp"], "{other}");
        }
        assert_eq!(left(&["65534-65535:65534-65535"], "65535", None), ["65534:65534/tcp"]);
    }

    #[test]
    fn of_all_addresses_the_other_family_is_left() {
        assert_eq!(left(&["8080:80"], "0.0.0.0:8080:80", None), ["[::]:8080:80/tcp"]);
        assert_eq!(left(&["8080:80"], "[::]:8080:80", Some(&[("[::]:8080", 80)])), ["0.0.0.0:8080:80/tcp"]);
        assert_eq!(left(&["8080:80"], "8080:80", Some(&[("0.0.0.0:8080", 80)])), [""; 0]);
    }

    #[test]
    fn a_port_that_was_chosen_is_known_by_what_was_withdrawn() {
        let live = [("127.0.0.1:43517", 80)];
        assert_eq!(left(&["127.0.0.1:0:80"], "43517:80", Some(&live)), [""; 0]);
        assert_eq!(left(&["127.0.0.1:0:80"], "43517:80", None), ["127.0.0.1:0:80/tcp"]);
        assert_eq!(left(&["127.0.0.1:0:80"], "80", None), [""; 0]);
        let chosen = [("127.0.0.1:8003", 80)];
        assert_eq!(left(&["127.0.0.1:8000-8009:80"], "8003:80", Some(&chosen)), [""; 0]);
        // One that has its number is no other's choice.
        let both = ["127.0.0.1:0:80", "127.0.0.1:8003:80", "127.0.0.1:8000-8009:80"];
        assert_eq!(
            left(&both, "8003:80", Some(&chosen)),
            ["127.0.0.1:0:80/tcp", "127.0.0.1:8000-8009:80/tcp"]
        );
    }
}
