//! Directories by their paths, each part opened by itself and no link followed.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// A directory below `root`, no link followed.
pub(super) fn walk(root: &OwnedFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let mut current = rustix::fs::openat(root, c".", DIRECTORY, Mode::empty())?;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        current = open_directory(&current, name)?;
    }
    Ok(current)
}

/// The same; what is missing is made.
pub(super) fn walk_and_make(root: &OwnedFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let mut current = rustix::fs::openat(root, c".", DIRECTORY, Mode::empty())?;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        current = match open_directory(&current, name) {
            Err(Errno::NOENT) => {
                rustix::fs::mkdirat(&current, name, Mode::from_raw_mode(0o755))?;
                open_directory(&current, name)?
            }
            opened => opened?,
        };
    }
    Ok(current)
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

pub(super) fn open_directory(parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
}
