//! What images and archives may take, which bounds what hostile ones can cost.
//!
//! ```text
//! ~/.config/microagent/limits.yaml      or $XDG_CONFIG_HOME/microagent/limits.yaml
//!   unpacked_size: 256g     what the layers of an image unpack to, all together, and the file system that they make;
//!                           the same for the files of a bundle
//!   files: 4000000          entries of all layers together
//!   names_size: 512m        names, link targets and extended attributes of all layers together, which are kept in memory
//!   archive_size: 64g       what is in an image archive that is loaded, unpacked
//! ```
//!
//! Sizes are in bytes, or in units of 1024, 1024², … of them: `64k`, `512m`, `256g`, `2t`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

/// What images and archives may take at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContentLimits {
    /// Bytes of what all layers of an image unpack to, and of the file system that they make.
    #[serde(deserialize_with = "size")]
    pub unpacked_size: u64,
    /// Entries of all layers of an image.
    pub files: u64,
    /// Bytes of names, link targets and extended attributes of all layers of an image.
    #[serde(deserialize_with = "size")]
    pub names_size: u64,
    /// Bytes of the unpacked content of an image archive.
    #[serde(deserialize_with = "size")]
    pub archive_size: u64,
}

/// One of the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// [`ContentLimits::unpacked_size`].
    UnpackedSize,
    /// [`ContentLimits::files`].
    Files,
    /// [`ContentLimits::names_size`].
    NamesSize,
    /// [`ContentLimits::archive_size`].
    ArchiveSize,
}

/// Why the limits that are written down cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// The file could not be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It says what makes no sense.
    #[error("cannot use the limits in `{}`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_yaml_ng::Error,
    },
}

/// Far beyond what images have: they bound the disk by some hundred gigabytes and the memory by two.
impl Default for ContentLimits {
    fn default() -> Self {
        Self { unpacked_size: 256 << 30, files: 4_000_000, names_size: 512 << 20, archive_size: 64 << 30 }
    }
}

impl ContentLimits {
    /// Those that the user has written down, and the usual ones for the rest.
    pub fn from_environment() -> Result<Self, LimitsError> {
        limits_file().map_or_else(|| Ok(Self::default()), |path| Self::from_file(&path))
    }

    /// Those in a file, which need not be there.
    pub fn from_file(path: &Path) -> Result<Self, LimitsError> {
        match std::fs::read_to_string(path) {
            Ok(text) if text.trim().is_empty() => Ok(Self::default()),
            Ok(text) => serde_yaml_ng::from_str(&text)
                .map_err(|source| LimitsError::Damaged { path: path.to_owned(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(LimitsError::Read { path: path.to_owned(), source }),
        }
    }
}

impl Limit {
    /// What to do about something that passes it.
    pub fn hint(self) -> String {
        let file = limits_file().unwrap_or_else(|| PathBuf::from("~/.config/microagent/limits.yaml"));
        format!("if you trust where it is from, raise `{self}` in {}", file.display())
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::UnpackedSize => "unpacked_size",
            Self::Files => "files",
            Self::NamesSize => "names_size",
            Self::ArchiveSize => "archive_size",
        })
    }
}

/// Where the user's settings are: `$XDG_CONFIG_HOME/microagent`, else `~/.config/microagent`.
pub fn configuration_directory() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
    Some(base.join("microagent"))
}

fn limits_file() -> Option<PathBuf> {
    configuration_directory().map(|directory| directory.join("limits.yaml"))
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a size is a number of bytes, or one like `512m` or `64g`")]
    enum Written {
        Bytes(u64),
        Text(String),
    }
    match Written::deserialize(deserializer)? {
        Written::Bytes(bytes) => Ok(bytes),
        Written::Text(text) => parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{text}` is not a size; write a number of bytes, or one like `512m` or `64g`"
            ))
        }),
    }
}

fn parse(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let unit = lower.chars().last()?;
    let shift = 10 * (1 + "kmgt".find(unit)?);
    let number: u64 = lower.strip_suffix(unit)?.parse().ok()?;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<ContentLimits, LimitsError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("limits.yaml");
        std::fs::write(&path, text).unwrap();
        ContentLimits::from_file(&path)
    }

    #[test]
    fn what_is_written_down_counts_and_the_rest_is_as_usual() {
        let limits = written("unpacked_size: 2T\nfiles: 10\nnames_size: 4096").unwrap();
        assert_eq!((limits.unpacked_size, limits.files, limits.names_size), (2 << 40, 10, 4096));
        assert_eq!(limits.archive_size, ContentLimits::default().archive_size);
        assert_eq!(written("").unwrap(), ContentLimits::default());
        assert_eq!(ContentLimits::from_file(Path::new("/nonexistent")).unwrap(), ContentLimits::default());
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (text, said) in [
            ("unpacked: 1g", "unknown field `unpacked`"),
            ("unpacked_size: much", "`much` is not a size"),
            ("unpacked_size: 99999999999t", "is not a size"),
            ("archive_size: [1]", "a size is a number of bytes"),
            ("files: -1", "files"),
            ("- 1", "invalid type"),
        ] {
            let error = written(text).unwrap_err();
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert!(source.contains(said), "{text}: {source}");
        }
    }

    #[test]
    fn a_hint_names_the_key_and_the_file() {
        let hint = Limit::UnpackedSize.hint();
        assert!(hint.contains("`unpacked_size`") && hint.contains("limits.yaml"), "{hint}");
    }
}
