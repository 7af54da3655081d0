//! A workspace on disk: its directory, its record, its disk.
//!
//! ```text
//! workspaces/<name>/
//! ├── workspace.json    what it is made from
//! ├── lock              held by whoever runs it
//! └── disk.ext4         its changes to the image
//! ```

use std::fs::File;
use std::path::PathBuf;

use home::{Exclusive, Home, LockError, Name, Record, RecordError, write_record};
use serde::{Deserialize, Serialize};

use crate::disk::{DiskError, DiskSize, named_disk};

/// What a workspace is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceRecord {
    /// The image's name.
    pub image: String,
    /// The image's manifest digest.
    pub image_digest: String,
    /// When it was created.
    pub created_at: jiff::Timestamp,
}

impl Record for WorkspaceRecord {
    const VERSION: u32 = 1;
}

/// Why a run's workspace could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// There is one of that name.
    #[error("a workspace `{0}` exists already")]
    Exists(Name),
    /// Its directory could not be made.
    #[error("failed to make the workspace")]
    Io(#[from] std::io::Error),
    /// Its disk could not be made.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its record could not be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It could not be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// A workspace that is being made, and held while it runs.
#[derive(Debug)]
pub(crate) struct Keep {
    /// Held until the workspace's machine has ended.
    _lock: Exclusive,
}

impl Keep {
    /// Makes the workspace `name` with a blank disk; it is there whole or not at all.
    pub(crate) fn create(
        home: &Home,
        name: &Name,
        record: &WorkspaceRecord,
        size: DiskSize,
    ) -> Result<(Self, File), KeepError> {
        let place = place(home, name);
        if place.exists() {
            return Err(KeepError::Exists(name.clone()));
        }
        let scratch = home::Scratch::new(home)?;
        let new = scratch.path().join("workspace");
        fs_err::create_dir(&new)?;
        let disk = named_disk(home, size, &new.join("disk.ext4"))?;
        let lock = Exclusive::wait(&new.join("lock"))?;
        write_record(&new.join("workspace.json"), record)?;
        // Renaming onto a directory that is not empty fails, so of two that make one, one wins.
        std::fs::rename(&new, &place).map_err(|error| match error.kind() {
            std::io::ErrorKind::DirectoryNotEmpty | std::io::ErrorKind::AlreadyExists => {
                KeepError::Exists(name.clone())
            }
            _ => KeepError::Io(error),
        })?;
        home::sync_directory(&home.workspaces())?;
        Ok((Self { _lock: lock }, disk))
    }
}

/// Whether there is a workspace `name`.
pub(crate) fn exists(home: &Home, name: &Name) -> bool {
    place(home, name).exists()
}

fn place(home: &Home, name: &Name) -> PathBuf {
    home.workspaces().join(name.as_str())
}
