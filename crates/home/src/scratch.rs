//! Work in progress, which a crash must not leave lying about.
//!
//! A scratch directory lives in `tmp/` beside a lock file that its maker holds. Whoever makes the next one
//! first removes those whose makers are gone.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

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
        loop {
            let directory = tempfile::Builder::new().prefix("work-").tempdir_in(home.tmp())?;
            let lock = Exclusive::wait(&lock_of(directory.path())).map_err(io::Error::other)?;
            // Whoever cleared away between the lock's making and its taking thought that nobody was here.
            if directory.path().is_dir() {
                return Ok(Self { directory, lock: Some(lock) });
            }
            lock.delete()?;
        }
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

/// A file in the making: until it is put in its place it has no name, so a crash leaves nothing.
///
/// Where the file system cannot make files without a name, a scratch directory takes its place.
#[derive(Debug)]
pub struct Unfinished {
    file: File,
    named: Option<(Scratch, PathBuf)>,
}

impl Unfinished {
    /// Makes an empty file that can later be placed in `directory`, which is part of `home`.
    pub fn new(home: &Home, directory: &Path) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        match rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(Self { file: file.into(), named: None }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let scratch = Scratch::new(home)?;
                let path = scratch.path().join("unfinished");
                let file = File::options().read(true).write(true).create_new(true).open(&path)?;
                Ok(Self { file, named: Some((scratch, path)) })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The file, open for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Puts the file in its place, durably. If one is there already, that one stays.
    pub fn place(self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        let linked = match &self.named {
            Some((_, from)) => std::fs::hard_link(from, path),
            None => link_by_descriptor(&self.file, path),
        };
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            outcome => outcome?,
        }
        sync_directory(path.parent().expect("a file of ours has a directory"))
    }
}

fn link_by_descriptor(file: &File, path: &Path) -> io::Result<()> {
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, from, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
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
    fn an_unfinished_file_has_no_name_until_it_is_placed() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::open(Some(parent.path())).unwrap();
        let count = || std::fs::read_dir(home.rootfs()).unwrap().count();
        let unfinished = Unfinished::new(&home, &home.rootfs()).unwrap();
        { unfinished.file() }.write_all(b"x").unwrap();
        assert_eq!(count(), 0);
        let path = home.rootfs().join("done");
        unfinished.place(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
        Unfinished::new(&home, &home.rootfs()).unwrap().place(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
    }

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
