//! What `-v` says: which disk is to be at which path of the guest. The shape of the source decides what it is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use home::{InvalidName, Name, hexadecimal};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A disk at a path of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mount {
    /// The disk.
    pub source: Source,
    /// Where the guest sees it.
    pub place: MountPoint,
    /// What the guest may do with it.
    pub access: Access,
}

/// Where a disk comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A named volume.
    Volume(Name),
    /// An archive, whose content the disk has.
    Bundle(PathBuf),
    /// A file that is the disk.
    Image(PathBuf),
}

/// What a guest may do with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Read and write.
    ReadWrite,
    /// Read.
    ReadOnly,
}

/// An absolute path of the guest at which a disk can be: not the root, and not where the kernel shows itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MountPoint(String);

/// A text that says no mount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMount {
    /// There is no path of the guest.
    #[error("cannot use `{0}` as a volume: it names no path in the guest")]
    NoPlace(String),
    /// A path stands alone, which for Docker is a volume without a name.
    #[error("cannot use `{0}` as a volume: it has no name")]
    Anonymous(String),
    /// It is a directory of the host.
    #[error(
        "cannot share the host's directory `{source_path}`: a guest never sees a live file system of the host"
    )]
    HostDirectory {
        /// The directory, as it was typed.
        source_path: String,
        /// Where it was to be.
        place: String,
    },
    /// The name breaks the rule for names.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// No disk can be there.
    #[error("cannot put a volume at `{place}`: {why}")]
    Place {
        /// The path.
        place: String,
        /// Why.
        why: &'static str,
    },
    /// An option is not known.
    #[error("cannot use the volume option `{0}`: there are `ro` and `rw`")]
    Option(String),
}

impl InvalidMount {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoPlace(text) => Some(format!("say where it is to be: -v {text}:/path")),
            Self::Anonymous(path) => {
                Some(format!("give it a name, by which it can be found again: -v NAME:{path}"))
            }
            Self::HostDirectory { source_path, place } => {
                let directory = source_path.trim_end_matches('/');
                let name = directory.rsplit('/').next().filter(|name| name.parse::<Name>().is_ok());
                let name = name.unwrap_or("data");
                Some(format!(
                    "bring its files in as a bundle: tar -C {source_path} -cf {name}.tar . && … -v {name}.tar:{place}; \
                     get files out with `microagent cp` or `--output`"
                ))
            }
            _ => None,
        }
    }
}

impl FromStr for Mount {
    type Err = InvalidMount;

    fn from_str(text: &str) -> Result<Self, InvalidMount> {
        let (source, rest) = match text.split_once(':') {
            None | Some((_, "")) if text.starts_with('/') => {
                return Err(InvalidMount::Anonymous(text.trim_end_matches(':').to_owned()));
            }
            None | Some((_, "")) => return Err(InvalidMount::NoPlace(text.trim_end_matches(':').to_owned())),
            Some(parts) => parts,
        };
        let (place, options) = rest.split_once(':').unwrap_or((rest, "rw"));
        let source = Source::parse(source, place)?;
        let mut access = Access::ReadWrite;
        for option in options.split(',') {
            access = match option {
                "ro" => Access::ReadOnly,
                "rw" => Access::ReadWrite,
                other => return Err(InvalidMount::Option(other.to_owned())),
            };
        }
        Ok(Self { source, place: place.parse()?, access })
    }
}

impl Source {
    fn parse(text: &str, place: &str) -> Result<Self, InvalidMount> {
        if is_bundle(text) {
            return Ok(Self::Bundle(text.into()));
        }
        if has_suffix(text, &[".ext4", ".img"]) {
            return Ok(Self::Image(text.into()));
        }
        let is_path = text.contains('/') || text == "." || text == ".." || text.starts_with('~');
        if is_path {
            return Err(InvalidMount::HostDirectory {
                source_path: text.to_owned(),
                place: place.to_owned(),
            });
        }
        Ok(Self::Volume(text.parse()?))
    }

    /// The file on the host that it is, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Volume(_) => None,
            Self::Bundle(path) | Self::Image(path) => Some(path),
        }
    }
}

fn is_bundle(text: &str) -> bool {
    has_suffix(text, &[".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"])
}

fn has_suffix(text: &str, suffixes: &[&str]) -> bool {
    suffixes.iter().any(|suffix| text.len() > suffix.len() && text.ends_with(suffix))
}

impl Mount {
    /// The same with a path that is absolute: it is kept, and found from wherever it is looked for.
    pub fn absolute(self) -> std::io::Result<Self> {
        let source = match self.source {
            Source::Bundle(path) => Source::Bundle(std::path::absolute(path)?),
            Source::Image(path) => Source::Image(std::path::absolute(path)?),
            volume @ Source::Volume(_) => volume,
        };
        Ok(Self { source, ..self })
    }

    /// The volume that it names, if it names one.
    pub fn volume(&self) -> Option<&Name> {
        match &self.source {
            Source::Volume(name) => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(name) => formatter.pad(name.as_str()),
            Self::Bundle(path) | Self::Image(path) => formatter.pad(&path.to_string_lossy()),
        }
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.source, self.place)?;
        if self.access == Access::ReadOnly { formatter.write_str(":ro") } else { Ok(()) }
    }
}

impl From<Mount> for String {
    fn from(mount: Mount) -> Self {
        mount.to_string()
    }
}

impl TryFrom<String> for Mount {
    type Error = InvalidMount;

    fn try_from(text: String) -> Result<Self, InvalidMount> {
        text.parse()
    }
}

impl MountPoint {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A short file name that tells it from other places.
    pub fn key(&self) -> String {
        let digest = Sha256::digest(&self.0);
        hexadecimal(&digest[..16])
    }

    /// Whether `path`, without dots, is this or below it.
    pub fn contains(&self, path: &Path) -> bool {
        path.starts_with(&self.0)
    }
}

impl FromStr for MountPoint {
    type Err = InvalidMount;

    fn from_str(text: &str) -> Result<Self, InvalidMount> {
        let refused = |why| InvalidMount::Place { place: text.to_owned(), why };
        if !text.starts_with('/') {
            return Err(refused("it is no absolute path"));
        }
        if text.len() > 4095 || text.contains('\0') {
            return Err(refused("it is no path that Linux takes"));
        }
        let components: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if components.contains(&"..") {
            return Err(refused("there is `..` in it"));
        }
        match components.first() {
            None => Err(refused("the root file system is the image's")),
            Some(&"proc" | &"sys") => Err(refused("the guest's kernel shows itself there")),
            Some(&"dev") if components.len() == 1 => Err(refused("the guest's devices are there")),
            Some(_) => Ok(Self(format!("/{}", components.join("/")))),
        }
    }
}

impl fmt::Display for MountPoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Mount, InvalidMount> {
        text.parse()
    }

    #[test]
    fn the_shape_of_the_source_decides() {
        let source = |text: &str| parse(text).unwrap().source;
        assert_eq!(source("data:/d"), Source::Volume("data".parse().unwrap()));
        assert_eq!(source("data.v2:/d"), Source::Volume("data.v2".parse().unwrap()));
        for bundle in ["x.tar", "./x.tar.gz", "/a/x.tgz", "x.tar.zst"] {
            assert_eq!(source(&format!("{bundle}:/d")), Source::Bundle(bundle.into()));
        }
        for image in ["x.ext4", "/a/x.img"] {
            assert_eq!(source(&format!("{image}:/d:ro")), Source::Image(image.into()));
        }
        for directory in ["/data", "./data", "../x", ".", "~/x", "a/b", "/"] {
            let error = parse(&format!("{directory}:/d")).unwrap_err();
            assert!(matches!(error, InvalidMount::HostDirectory { .. }), "{directory}: {error}");
            assert!(error.hint().unwrap().contains("microagent cp"), "{directory}");
        }
    }

    #[test]
    fn a_mount_is_read_as_it_is_written() {
        for text in ["data:/d", "data:/d:ro", "x.tar:/a/b", "/x/y.img:/a/b:ro"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
            let json = serde_json::to_string(&parse(text).unwrap()).unwrap();
            assert_eq!(serde_json::from_str::<Mount>(&json).unwrap(), parse(text).unwrap());
        }
        assert_eq!(parse("data:/d:rw").unwrap().to_string(), "data:/d");
        assert_eq!(parse("data://d/./e/").unwrap().place.as_str(), "/d/e");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_reason() {
        for (text, reason) in [
            ("data", "names no path"),
            ("data:", "names no path"),
            ("/data", "has no name"),
            ("data:d", "no absolute path"),
            ("data:/", "root file system"),
            ("data:/a/../b", "`..`"),
            ("data:/proc/x", "kernel"),
            ("data:/dev", "devices"),
            ("data:/d:rx", "option `rx`"),
            ("data:/d:ro:z", "option `ro:z`"),
            ("-data:/d", "invalid name"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(parse("data:/dev/shm/x").is_ok());
    }
}
