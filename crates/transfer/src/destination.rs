//! Where a tree goes: the rules of `docker cp`.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// The most links that lead to one another; `path_resolution(7)`.
const MOST_LINKS: usize = 40;

/// Where a tree is asked to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The path that was named. A final slash demands a directory.
    pub path: PathBuf,
    /// What the tree's root is called if the path is a directory that is there; `None` if the tree's content goes
    /// right into it.
    pub name: Option<Vec<u8>>,
    /// Whether a directory goes right into one that is there, while anything else has its name in it.
    pub merge: bool,
}

/// Why a tree cannot go there.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The directory that it would be in is not there.
    #[error("there is no directory `{}`", .0.display())]
    NoDirectory(PathBuf),
    /// It is to be in something that is no directory.
    #[error("`{}` is not a directory", .0.display())]
    NotDirectory(PathBuf),
    /// A directory would replace something else.
    #[error("cannot replace `{}`, which is not a directory, by one", .0.display())]
    DirectoryOverFile(PathBuf),
    /// Something else would replace a directory.
    #[error("cannot replace the directory `{}` by a file", .0.display())]
    FileOverDirectory(PathBuf),
    /// A file could not be looked at.
    #[error("cannot use `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Where a tree goes in the end.
#[derive(Debug)]
pub(crate) enum Place {
    /// Into a directory that is there.
    Into(OwnedFd),
    /// To a name in a directory: of something that is not there, or of a file that it replaces.
    At {
        /// The directory.
        parent: OwnedFd,
        /// The name.
        name: Vec<u8>,
        /// Whether there is nothing of that name.
        free: bool,
    },
}

impl Destination {
    /// Where a tree whose root is a directory, or is none, goes, and what that is called.
    pub(crate) fn resolve(&self, is_directory: bool) -> Result<(Place, PathBuf), PlaceError> {
        let bytes = self.path.as_os_str().as_bytes();
        let demands_directory = bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b".";
        let there = match std::fs::metadata(&self.path) {
            Ok(metadata) => Some(metadata.is_dir()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            // What comes before a slash is none.
            Err(error) if error.raw_os_error() == Some(Errno::NOTDIR.raw_os_error()) => {
                return Err(PlaceError::NotDirectory(self.path.clone()));
            }
            Err(source) => return Err(PlaceError::Io { path: self.path.clone(), source }),
        };
        match there {
            Some(true) => self.in_directory(is_directory),
            Some(false) if is_directory => Err(PlaceError::DirectoryOverFile(self.path.clone())),
            Some(false) if demands_directory => Err(PlaceError::NotDirectory(self.path.clone())),
            Some(false) => {
                // A link that was named stands for what it leads to, as anywhere.
                let path = std::fs::canonicalize(&self.path)
                    .map_err(|source| PlaceError::Io { path: self.path.clone(), source })?;
                at(&path, false)
            }
            // What is to be filled must be there; what is to be a directory may be made.
            None if bytes.ends_with(b"/.") || demands_directory && !is_directory => {
                Err(PlaceError::NoDirectory(self.path.clone()))
            }
            None => at(&end_of_links(&self.path)?, true),
        }
    }

    /// Where content goes: a directory that is there.
    pub(crate) fn resolve_content(&self) -> Result<(Place, PathBuf), PlaceError> {
        Ok((Place::Into(open_directory(&self.path)?), self.path.clone()))
    }

    fn in_directory(&self, is_directory: bool) -> Result<(Place, PathBuf), PlaceError> {
        let directory = open_directory(&self.path)?;
        let Some(name) = self.name.as_ref().filter(|_| !(self.merge && is_directory)) else {
            return if is_directory {
                Ok((Place::Into(directory), self.path.clone()))
            } else {
                Err(PlaceError::FileOverDirectory(self.path.clone()))
            };
        };
        let path = self.path.join(OsStr::from_bytes(name));
        match rustix::fs::statat(&directory, &name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok((Place::At { parent: directory, name: name.clone(), free: true }, path)),
            Err(error) => Err(PlaceError::Io { path, source: error.into() }),
            Ok(stat) => match (FileType::from_raw_mode(stat.st_mode) == FileType::Directory, is_directory) {
                (true, true) => Ok((Place::Into(open_below(&directory, name, &path)?), path)),
                (true, false) => Err(PlaceError::FileOverDirectory(path)),
                (false, true) => Err(PlaceError::DirectoryOverFile(path)),
                (false, false) => {
                    Ok((Place::At { parent: directory, name: name.clone(), free: false }, path))
                }
            },
        }
    }
}

/// Where a link leads that was named and leads to nothing, or the path itself.
fn end_of_links(path: &Path) -> Result<PathBuf, PlaceError> {
    let mut end = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(target) = std::fs::read_link(&end) else { return Ok(end) };
        end.pop();
        end.push(target);
    }
    Err(PlaceError::Io { path: path.to_owned(), source: Errno::LOOP.into() })
}

/// A name in its directory, which must be there.
fn at(path: &Path, free: bool) -> Result<(Place, PathBuf), PlaceError> {
    let mut bytes = path.as_os_str().as_bytes();
    while let Some(shorter) = bytes.strip_suffix(b"/.").or_else(|| bytes.strip_suffix(b"/")) {
        bytes = shorter;
    }
    let shown = PathBuf::from(OsStr::from_bytes(bytes));
    let (directory, name) = match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(0) => (&b"/"[..], &bytes[1..]),
        Some(slash) => (&bytes[..slash], &bytes[slash + 1..]),
        None => (&b"."[..], bytes),
    };
    if matches!(name, b"" | b"." | b"..") {
        return Err(PlaceError::NoDirectory(shown));
    }
    let parent = open_directory(Path::new(OsStr::from_bytes(directory)))?;
    Ok((Place::At { parent, name: name.to_vec(), free }, shown))
}

fn open_directory(path: &Path) -> Result<OwnedFd, PlaceError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOENT => PlaceError::NoDirectory(path.to_owned()),
        Errno::NOTDIR => PlaceError::NotDirectory(path.to_owned()),
        error => PlaceError::Io { path: path.to_owned(), source: error.into() },
    })
}

fn open_below(directory: &OwnedFd, name: &[u8], path: &Path) -> Result<OwnedFd, PlaceError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
        .map_err(|error| PlaceError::Io { path: path.to_owned(), source: error.into() })
}
