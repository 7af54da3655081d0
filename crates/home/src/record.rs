//! Durable facts: small JSON files with a version, replaced atomically.
//!
//! A record is written beside its place, flushed, renamed over it, and the directory flushed; a reader sees
//! the old facts or the new ones. A record from a newer release is refused and never rewritten.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::scratch::replace_file;

/// Facts that are kept in a file of their own.
pub trait Record: Serialize + DeserializeOwned {
    /// The version that this release writes. Older ones must still be readable by the type.
    const VERSION: u32;
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A newer release wrote the record.
    #[error("the record `{}` is of version {found}, and this release knows up to {known}", path.display())]
    Newer {
        /// The record's file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The file is not a record of this kind.
    #[error("the record `{}` is damaged", path.display())]
    Damaged {
        /// The record's file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The file could not be read or written.
    #[error("failed to access the record `{}`", path.display())]
    Access {
        /// The record's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    version: u32,
    #[serde(flatten)]
    facts: &'a T,
}

/// Reads the record at `path`; `None` if there is none.
pub fn read_record<T: Record>(path: &Path) -> Result<Option<T>, RecordError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RecordError::Access { path: path.to_owned(), source }),
    };
    let damaged = |source| RecordError::Damaged { path: path.to_owned(), source };
    let Version { version } = serde_json::from_slice(&text).map_err(damaged)?;
    if version > T::VERSION {
        return Err(RecordError::Newer { path: path.to_owned(), found: version, known: T::VERSION });
    }
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

/// Replaces the record at `path`. When this returns, the new facts outlive a crash of the host.
pub fn write_record<T: Record>(path: &Path, facts: &T) -> Result<(), RecordError> {
    let versioned = Versioned { version: T::VERSION, facts };
    let mut text = serde_json::to_vec_pretty(&versioned).expect("records are plain data");
    text.push(b'\n');
    replace_file(path, &text).map_err(|source| RecordError::Access { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Facts {
        answer: u32,
    }

    impl Record for Facts {
        const VERSION: u32 = 2;
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("facts.json");
        assert_eq!(read_record::<Facts>(&path).unwrap(), None);
        write_record(&path, &Facts { answer: 42 }).unwrap();
        assert_eq!(read_record(&path).unwrap(), Some(Facts { answer: 42 }));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_record_of_a_newer_release_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("facts.json");
        std::fs::write(&path, r#"{"version":3,"other":1}"#).unwrap();
        assert!(matches!(read_record::<Facts>(&path), Err(RecordError::Newer { found: 3, known: 2, .. })));
    }

    #[test]
    fn a_damaged_record_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("facts.json");
        std::fs::write(&path, "{\"version\":1").unwrap();
        assert!(matches!(read_record::<Facts>(&path), Err(RecordError::Damaged { .. })));
    }
}
