//! A workspace on disk: its directory, its record, its disk.
//!
//! ```text
//! workspaces/<name>/
//! ├── workspace.json    what it is made from
//! ├── state.json        the facts of its life; see `state`
//! ├── lock              held by its supervisor, or by whoever changes it at rest
//! ├── control.sock      where its supervisor is asked
//! ├── logs/             what it said
//! └── disk.ext4         its changes to the image
//! ```

use std::fs::File;
use std::path::PathBuf;

use home::{Exclusive, Home, LockError, Name, Record, RecordError, fault_point, write_record};
use image::Image;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::machine_id::MachineId;
use crate::root::chain_id;
use crate::service::Service;
use crate::spec::WorkspaceSpec;
use volume::{DiskError, named_copy, named_disk};

/// What a workspace is made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkspaceRecord {
    /// What tells its machine from others, at every start the same.
    #[serde(default = "MachineId::random")]
    pub id: MachineId,
    /// The image's name.
    pub image: String,
    /// The image's manifest digest.
    pub image_digest: String,
    /// The chain ID of the image's root file system, in hexadecimal.
    #[serde(default)]
    pub root: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// What it was asked to be.
    #[serde(default)]
    pub spec: WorkspaceSpec,
    /// Its long-running process.
    #[serde(default)]
    pub service: Service,
}

impl Record for WorkspaceRecord {
    const VERSION: u32 = 2;
}

impl WorkspaceRecord {
    /// The record of a new workspace.
    pub(crate) fn new(image: &Image, spec: WorkspaceSpec, service: Service) -> Self {
        Self {
            id: MachineId::random(),
            image: spec.image.clone(),
            image_digest: image.manifest_digest.to_string(),
            root: chain_id(image),
            created_at: Timestamp::now(),
            spec,
            service,
        }
    }
}

/// Why a workspace could not be made.
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

/// A workspace that was just made, with its lock and its disk.
#[derive(Debug)]
pub(crate) struct New {
    /// Held until somebody else may use the workspace.
    pub(crate) lock: Exclusive,
    pub(crate) disk: File,
}

/// What a new workspace has on its disk.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NewDisk<'a> {
    /// Nothing.
    Blank,
    /// What this disk has.
    Copy(&'a File),
}

/// Makes the workspace `name`; it is there whole or not at all.
pub(crate) fn make(
    home: &Home,
    name: &Name,
    record: &WorkspaceRecord,
    disk: NewDisk<'_>,
) -> Result<New, KeepError> {
    let place = place(home, name);
    if place.exists() {
        return Err(KeepError::Exists(name.clone()));
    }
    let scratch = home::Scratch::new(home)?;
    let new = scratch.path().join("workspace");
    fs_err::create_dir(&new)?;
    fault_point("create.directory");
    let path = new.join("disk.ext4");
    let disk = match disk {
        NewDisk::Blank => named_disk(home, record.spec.disk_size, &path)?,
        NewDisk::Copy(original) => named_copy(original, &path)?,
    };
    fault_point("create.disk");
    let lock = Exclusive::wait(&new.join("lock"))?;
    write_record(&new.join("workspace.json"), record)?;
    fault_point("create.record");
    // Renaming onto a directory that is not empty fails, so of two that make one, one wins.
    std::fs::rename(&new, &place).map_err(|error| match error.kind() {
        std::io::ErrorKind::DirectoryNotEmpty | std::io::ErrorKind::AlreadyExists => {
            KeepError::Exists(name.clone())
        }
        _ => KeepError::Io(error),
    })?;
    fault_point("create.placed");
    home::sync_directory(&home.workspaces())?;
    Ok(New { lock, disk })
}

/// Whether there is a workspace `name`.
pub(crate) fn exists(home: &Home, name: &Name) -> bool {
    place(home, name).exists()
}

/// Where the workspace `name` is, or would be.
pub(crate) fn place(home: &Home, name: &Name) -> PathBuf {
    home.workspaces().join(name.as_str())
}
