//! Files that a workspace is expected to make, by a name for people and programs.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use transfer::{Destination, source_name};

use crate::copy::{GuestSource, HostTarget};

/// A file or directory in the guest that is to be fetched: `NAME=/guest/path[:HOST]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Artifact {
    /// What it is called.
    pub name: String,
    /// Its absolute path in the guest.
    pub path: String,
    /// Where it goes on the host; to its name in the current directory if absent.
    pub host: Option<String>,
}

/// A text that names no artifact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no output: {reason}; write it like `report=/work/report.xml` or `report=/work/report.xml:out/`"
)]
pub struct InvalidArtifact {
    text: String,
    reason: &'static str,
}

impl Artifact {
    /// Where it goes on the host.
    pub fn destination(&self) -> PathBuf {
        PathBuf::from(self.host.as_deref().unwrap_or(&self.name))
    }

    /// It as the two ends of a copy. A directory's content goes right into one that is there.
    pub fn ends(&self) -> (GuestSource, HostTarget) {
        let path = self.path.clone().into_bytes();
        let name = source_name(&path, b"/");
        let destination = Destination { path: self.destination(), name, merge: true };
        (GuestSource { path, follow: true, archive: false }, HostTarget::Path(destination))
    }
}

impl FromStr for Artifact {
    type Err = InvalidArtifact;

    fn from_str(text: &str) -> Result<Self, InvalidArtifact> {
        let invalid = |reason| InvalidArtifact { text: text.to_owned(), reason };
        let (name, rest) = text.split_once('=').ok_or_else(|| invalid("it has no `=`"))?;
        let fits = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(fits) {
            return Err(invalid("its name is not made of letters, digits, `-`, `_` and `.`"));
        }
        let (path, host) = match rest.split_once(':') {
            Some((path, host)) => (path, Some(host.to_owned())),
            None => (rest, None),
        };
        if !path.starts_with('/') {
            return Err(invalid("its path in the guest is not absolute"));
        }
        if host.as_deref() == Some("") {
            return Err(invalid("its path on the host is empty"));
        }
        Ok(Self { name: name.to_owned(), path: path.to_owned(), host })
    }
}

impl fmt::Display for Artifact {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.name, self.path)?;
        self.host.as_ref().map_or(Ok(()), |host| write!(formatter, ":{host}"))
    }
}

impl From<Artifact> for String {
    fn from(artifact: Artifact) -> Self {
        artifact.to_string()
    }
}

impl TryFrom<String> for Artifact {
    type Error = InvalidArtifact;

    fn try_from(text: String) -> Result<Self, InvalidArtifact> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_are_read_as_they_are_written() {
        for text in ["a=/b", "report.xml=/work/report.xml:out/report", "x-1=/a:./b:c"] {
            assert_eq!(text.parse::<Artifact>().unwrap().to_string(), text);
        }
        for bad in ["", "/b", "=/b", "a=b", "a=/b:", "../a=/b", "a b=/c", ".a=/b"] {
            assert!(bad.parse::<Artifact>().is_err(), "{bad}");
        }
    }
}
