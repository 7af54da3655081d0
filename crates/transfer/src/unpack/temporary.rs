//! Names that files have until they are whole.
//!
//! Whoever makes one holds a lock on it. What has such a name and nobody's lock was left by a copy that was killed, and the
//! next one to the same directory removes it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::fs::{Dir, FileType, FlockOperation, Mode, OFlags};

const PREFIX: &str = ".microagent-";

/// What is younger may not be held yet.
const SETTLED: Duration = Duration::from_secs(60);

/// A name that nothing has. Two copies at once have different ones.
pub(super) fn temporary_name() -> Vec<u8> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    format!("{PREFIX}{process}-{:x}-{count}", now().as_nanos()).into_bytes()
}

/// Since the Unix epoch.
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Removes what was begun. What cannot be removed stays under a name that says whose it was.
pub(super) fn remove(parent: &OwnedFd, name: &[u8]) {
    // The descriptor, and no path that somebody could lead elsewhere.
    let directory = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd()));
    let path = directory.join(OsStr::from_bytes(name));
    let _ = match std::fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(&path),
        Ok(_) => std::fs::remove_file(&path),
        Err(_) => Ok(()),
    };
}

/// Says that somebody is at what has a temporary name, until the last copy of its descriptor is closed. Where the file
/// system has no locks, what is left stays.
pub(super) fn hold(file: impl AsFd) {
    let _ = rustix::fs::flock(file, FlockOperation::NonBlockingLockShared);
}

/// Removes what copies left in `directory` that were killed.
pub(super) fn sweep(directory: &OwnedFd) {
    let Ok(entries) = Dir::read_from(directory) else { return };
    let is_old = |name: &[u8]| made_at(name).is_some_and(|made| made + SETTLED <= now());
    let left: Vec<_> = entries.flatten().filter(|entry| is_old(entry.file_name().to_bytes())).collect();
    for entry in left {
        let name = entry.file_name().to_bytes();
        if nobody_is_at(directory, name) {
            remove(directory, name);
        }
    }
}

/// Whether this is a name that only what is not whole has.
pub(super) fn is_temporary(name: &[u8]) -> bool {
    made_at(name).is_some()
}

/// When a temporary name was made; `None` if it is none.
fn made_at(name: &[u8]) -> Option<Duration> {
    let parts = std::str::from_utf8(name).ok()?.strip_prefix(PREFIX)?;
    let parts: Vec<&str> = parts.split('-').collect();
    let [process, time, count] = parts[..] else { return None };
    let _numbers: (u32, u32) = (process.parse().ok()?, count.parse().ok()?);
    u64::from_str_radix(time, 16).ok().map(Duration::from_nanos)
}

/// Whether a file or directory of this user's is at `name`, and no copy holds it.
fn nobody_is_at(directory: &OwnedFd, name: &[u8]) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(directory, name, flags, Mode::empty()) else { return false };
    let Ok(stat) = rustix::fs::fstat(&file) else { return false };
    matches!(FileType::from_raw_mode(stat.st_mode), FileType::Directory | FileType::RegularFile)
        && stat.st_uid == rustix::process::geteuid().as_raw()
        && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn what_killed_copies_left_is_removed_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let directory = OwnedFd::from(File::open(place.path()).unwrap());
        let at = |name: &str| place.path().join(name);
        let name = || String::from_utf8(temporary_name()).unwrap();
        let old = |number: u32| format!("{PREFIX}77-17b31e8dd4f2a9c0-{number}");
        let (left, tree, used, link, new) = (old(1), old(2), old(3), old(4), name());
        fs::write(at(&left), "half").unwrap();
        fs::create_dir_all(at(&tree).join("a/b")).unwrap();
        let held = File::create(at(&used)).unwrap();
        hold(&held);
        let target = at("target");
        fs::write(at(&new), "half").unwrap();
        fs::write(&target, "whole").unwrap();
        std::os::unix::fs::symlink(&target, at(&link)).unwrap();
        for others in
            [".microagent-x", ".microagent-1-2", ".microagent-1-2-3-4", ".microagent-1-2-g", "other"]
        {
            fs::write(at(others), "").unwrap();
        }
        sweep(&directory);
        assert!(!at(&left).exists() && !at(&tree).exists());
        assert!(at(&used).exists() && at(&link).exists() && at(&new).exists());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 9);
        drop(held);
        sweep(&directory);
        assert!(!at(&used).exists());
    }
}
