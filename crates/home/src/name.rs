//! The one rule for the names that users give: workspaces, volumes, snapshots.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name of the form `[A-Za-z0-9][A-Za-z0-9_.-]{0,62}`; safe as a file name and as a host name's source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A name that breaks the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid name `{0}`: a name has 1 to 63 letters, digits, `_`, `.` or `-`, and starts with a letter or digit"
)]
pub struct InvalidName(String);

/// The names that there are in a directory, in order. What is called otherwise is not counted.
pub fn names_in(directory: &Path) -> std::io::Result<Vec<Name>> {
    let entries = std::fs::read_dir(directory)?;
    let mut names: Vec<Name> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let starts_well = text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
        if starts_well && text.len() <= 63 && text.bytes().all(inner) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName(text.to_owned()))
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_one_rule() {
        let longest = "a".repeat(63);
        for good in ["a", "0", "web-1", "A_b.c", longest.as_str()] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        let too_long = "a".repeat(64);
        for bad in ["", "-a", ".a", "_a", "a/b", "a b", "ä", "a\n", too_long.as_str()] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
