//! Work in progress, which a crash must not leave lying about.
//!
//! A scratch directory lives in `tmp/` beside a lock file that its maker holds. Whoever makes the next one
//! first removes those whose makers are gone.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{Exclusive, Home};

/// A private directory that is removed with this value, or by a later process if this one is killed.
#[derive(Debug)]
pub struct Scratch {
    directory: tempfile::TempDir,
    lock: Option<Exclusive>,
}

impl Scratch {
    /// Makes an empty scratch directory in `home`, and clears away those of makers that were killed.
    pub fn new(home: &Home) -> io::Result<Self> {
        remove_abandoned(&home.tmp());
        let directory = tempfile::Builder::new().prefix("work-").tempdir_in(home.tmp())?;
        let lock = Exclusive::wait(&lock_of(directory.path())).map_err(io::Error::other)?;
        Ok(Self { directory, lock: Some(lock) })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays after a failure here is removed by the next maker of a scratch directory.
        let _ = std::fs::remove_dir_all(self.directory.path());
        if let Some(lock) = self.lock.take() {
            let _ = lock.delete();
        }
    }
}

fn lock_of(directory: &Path) -> PathBuf {
    directory.with_extension("lock")
}

/// Best effort: what cannot be removed now is tried again next time.
fn remove_abandoned(tmp: &Path) {
    let Ok(entries) = std::fs::read_dir(tmp) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == "lock") {
            remove_if_abandoned(&path);
        } else if !lock_of(&path).exists() && is_old(&path) {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

fn remove_if_abandoned(lock: &Path) {
    if let Ok(Some(held)) = Exclusive::try_now(lock) {
        let _ = std::fs::remove_dir_all(lock.with_extension(""));
        let _ = held.delete();
    }
}

/// A directory without a lock is either being made right now or was left between two steps.
fn is_old(path: &Path) -> bool {
    let age = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    age.and_then(|time| time.elapsed().ok()).is_some_and(|elapsed| elapsed.as_secs() > 60)
}

/// Replaces the file at `path` with `content`, atomically and durably; it is readable by its owner only.
pub fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let parent = path.parent().expect("a file of ours has a directory");
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(parent)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_directory(parent)
}

/// Makes what was created, renamed or removed in the directory at `path` outlive a crash of the host.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_space_of_a_dead_maker_is_removed_by_the_next() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::open(Some(parent.path())).unwrap();
        let mut dead = Scratch::new(&home).unwrap();
        let live = Scratch::new(&home).unwrap();
        std::fs::write(dead.path().join("half"), "x").unwrap();
        drop(dead.lock.take());
        let abandoned = dead.path().to_owned();
        std::mem::forget(dead);
        drop(Scratch::new(&home).unwrap());
        assert!(!abandoned.exists());
        assert!(live.path().exists());
        drop(live);
        assert_eq!(std::fs::read_dir(home.tmp()).unwrap().count(), 0);
    }
}
