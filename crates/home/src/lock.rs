//! Locks on files, held by a value: who has the guard has the lock.
//!
//! They are `flock(2)` locks, so the kernel releases them when the holder ends, however it ends. The file of
//! a lock may be deleted by its exclusive holder only; whoever then waited on the deleted file tries again.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Why a lock could not be taken.
#[derive(Debug, thiserror::Error)]
#[error("failed to lock `{}`", path.display())]
pub struct LockError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A lock that excludes every other holder.
#[derive(Debug)]
pub struct Exclusive {
    file: File,
    path: PathBuf,
}

/// A lock that other shared holders may hold at the same time.
#[derive(Debug)]
pub struct Shared {
    #[expect(dead_code, reason = "the open file is the lock")]
    file: File,
}

impl Exclusive {
    /// Waits for the lock on the file at `path`, creating the file if needed.
    pub fn wait(path: &Path) -> Result<Self, LockError> {
        let taken = take(path, FlockOperation::LockExclusive)?;
        let file = taken.expect("a blocking lock is taken or fails");
        Ok(Self { file, path: path.to_owned() })
    }

    /// Takes the lock if nobody holds it; `None` if somebody does.
    pub fn try_now(path: &Path) -> Result<Option<Self>, LockError> {
        let taken = take(path, FlockOperation::NonBlockingLockExclusive)?;
        Ok(taken.map(|file| Self { file, path: path.to_owned() }))
    }

    /// The lock that another process took on `file` and passed on by inheritance.
    pub fn inherited(file: File, path: &Path) -> Self {
        Self { file, path: path.to_owned() }
    }

    /// The locked file, for holders that pass the lock to a child process.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Deletes the locked file, then releases the lock.
    pub fn delete(self) -> io::Result<()> {
        fs_err::remove_file(&self.path)
    }
}

impl Shared {
    /// Waits until no exclusive holder is left.
    pub fn wait(path: &Path) -> Result<Self, LockError> {
        let taken = take(path, FlockOperation::LockShared)?;
        Ok(Self { file: taken.expect("a blocking lock is taken or fails") })
    }
}

fn take(path: &Path, operation: FlockOperation) -> Result<Option<File>, LockError> {
    let failed = |source: io::Error| LockError { path: path.to_owned(), source };
    loop {
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        match rustix::io::retry_on_intr(|| flock(&file, operation)) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(failed(errno.into())),
        }
        if is_still_at(&file, path).map_err(failed)? {
            return Ok(Some(file));
        }
    }
}

/// The file at `path`, opened to be read, and shared with others who do so for as long as anybody has it open; `None`
/// if it is not there. Whoever removes it holds it alone.
pub fn open_shared(path: &Path) -> io::Result<Option<File>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockShared))?;
    // Whoever removed it meanwhile held the lock.
    Ok(is_still_at(&file, path)?.then_some(file))
}

/// Whether an open file is what is at `path`, and not one that was removed or replaced.
pub fn is_still_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exclusive_lock_excludes_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Exclusive::wait(&path).unwrap();
        assert!(Exclusive::try_now(&path).unwrap().is_none());
        drop(held);
        assert!(Exclusive::try_now(&path).unwrap().is_some());
    }

    #[test]
    fn a_waiter_on_a_deleted_lock_file_gets_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Exclusive::wait(&path).unwrap();
        let waiter = {
            let path = path.clone();
            std::thread::spawn(move || Exclusive::wait(&path).unwrap())
        };
        std::thread::sleep(std::time::Duration::from_millis(50));
        held.delete().unwrap();
        let second = waiter.join().unwrap();
        assert!(is_still_at(second.file(), &path).unwrap());
    }
}
