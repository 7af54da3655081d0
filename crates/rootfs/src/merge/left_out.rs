//! What is in a layer and not in the image that it becomes.

use serde::{Deserialize, Serialize};

use super::printable;

/// Of how many attributes it is told which: a layer can have millions.
const TOLD: usize = 32;
/// Of a name that is told, in bytes.
const LONGEST: usize = 1024;

/// Extended attributes that no file can have here, and were left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LeftOut {
    /// The first of them: the file, and the attribute's name.
    first: Vec<(String, String)>,
    /// How many there are.
    count: u64,
}

impl LeftOut {
    pub(super) fn add(&mut self, path: &[u8], name: &[u8]) {
        self.count += 1;
        if self.first.len() < TOLD {
            self.first.push((printable(path), printable(name)));
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first of them: the file, and the attribute's name. What comes from a reader is bounded here once more.
    pub fn first(&self) -> impl Iterator<Item = (&str, &str)> {
        let short = |text: &'_ String| text.len() <= LONGEST;
        let shown = self.first.iter().filter(move |(path, name)| short(path) && short(name));
        shown.take(TOLD).map(|(path, name)| (path.as_str(), name.as_str()))
    }

    /// Says so in the log.
    pub(crate) fn warn(&self) {
        for (path, name) in self.first() {
            tracing::warn!(path, name, "dropped an extended attribute");
        }
        let told = self.first().count() as u64;
        if self.count > told {
            tracing::warn!(count = self.count - told, "dropped more extended attributes");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_named_and_all_are_counted() {
        let mut left_out = LeftOut::default();
        for number in 0..1000 {
            left_out.add(b"a\nb", format!("odd.{number}").as_bytes());
        }
        assert_eq!((left_out.count(), left_out.first().count()), (1000, TOLD));
        assert_eq!(left_out.first().next(), Some(("a\\nb", "odd.0")));
    }

    #[test]
    fn what_a_reader_makes_up_is_bounded() {
        let first = vec![("x".repeat(LONGEST + 1), String::new()); 5000];
        assert_eq!(LeftOut { first, count: 0 }.first().count(), 0);
        let first = vec![(String::new(), String::new()); 5000];
        assert_eq!(LeftOut { first, count: 0 }.first().count(), TOLD);
    }
}
