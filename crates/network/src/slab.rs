//! Things that are found by a number which is never used for two of them at the same time, nor soon after.

/// Where a thing is: its place, and how often that was used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    place: u32,
    use_number: u32,
}

/// Use numbers have so many bits, so that a key fits beside a kind in what epoll(7) keeps.
const USES: u32 = 0x00ff_ffff;

impl Key {
    /// As one number of 56 bits.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.use_number) << 32 | u64::from(self.place)
    }

    /// Back again.
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self { place: bits as u32, use_number: (bits >> 32) as u32 & USES }
    }
}

#[derive(Debug)]
struct Entry<T> {
    use_number: u32,
    content: Option<T>,
}

/// The things.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Keeps what `make` makes for its key.
    pub(crate) fn insert(&mut self, content: T) -> Key {
        let place = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { use_number: 0, content: None });
            (self.entries.len() - 1) as u32
        });
        let entry = &mut self.entries[place as usize];
        entry.content = Some(content);
        Key { place, use_number: entry.use_number }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.place as usize)?;
        if entry.use_number == key.use_number { entry.content.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entries.get_mut(key.place as usize)?;
        if entry.use_number != key.use_number {
            return None;
        }
        let content = entry.content.take()?;
        entry.use_number = (entry.use_number + 1) & USES;
        self.free.push(key.place);
        Some(content)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.entries.iter().enumerate().filter_map(|(place, entry)| {
            let key = Key { place: place as u32, use_number: entry.use_number };
            Some((key, entry.content.as_ref()?))
        })
    }

    /// Everything, which is gone from it.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        let keys: Vec<Key> = self.iter().map(|(key, _)| key).collect();
        keys.into_iter().filter_map(|key| self.remove(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_key_finds_nothing_new() {
        let mut slab = Slab::default();
        let old = slab.insert('a');
        assert_eq!(Key::from_bits(old.to_bits()), old);
        assert_eq!(slab.remove(old), Some('a'));
        let new = slab.insert('b');
        assert_eq!(slab.get_mut(old), None);
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.get_mut(new), Some(&mut 'b'));
        assert_eq!((slab.len(), slab.drain().len(), slab.len()), (1, 1, 0));
    }
}
