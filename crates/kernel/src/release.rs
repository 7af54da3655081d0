//! A kernel's release, as `uname -r` prints it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A release of the form `[0-9][A-Za-z0-9._+~-]{0,127}`; safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Release(String);

/// A text that is no kernel release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid kernel release `{0}`: it has 1 to 128 letters, digits, `.`, `_`, `+`, `~` or `-`, and starts with a digit"
)]
pub struct InvalidRelease(pub(crate) String);

impl Release {
    /// The release as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Release {
    type Err = InvalidRelease;

    fn from_str(text: &str) -> Result<Self, InvalidRelease> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._+~-".contains(&byte);
        let starts_well = text.bytes().next().is_some_and(|first| first.is_ascii_digit());
        if starts_well && text.len() <= 128 && text.bytes().all(inner) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidRelease(text.to_owned()))
    }
}

impl TryFrom<String> for Release {
    type Error = InvalidRelease;

    fn try_from(text: String) -> Result<Self, InvalidRelease> {
        text.parse()
    }
}

impl From<Release> for String {
    fn from(release: Release) -> Self {
        release.0
    }
}

impl fmt::Display for Release {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_accepted_and_paths_are_not() {
        for good in ["6.1.0-56-cloud-amd64", "6.8.0-45-generic", "5.14.0-503.el9.x86_64", "6.12.3+", "7"] {
            assert!(good.parse::<Release>().is_ok(), "{good}");
        }
        let too_long = "6".repeat(129);
        for bad in ["", "default", "lock", "..", "6/1", "6.1 2", "6.1\n", "-6", too_long.as_str()] {
            assert!(bad.parse::<Release>().is_err(), "{bad}");
        }
    }
}
