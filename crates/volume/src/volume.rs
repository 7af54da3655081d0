//! Named volumes: disks that outlive the workspaces that use them.
//!
//! ```text
//! volumes/<name>/
//! ├── volume.json     its size, and whether a guest has filled it for the first time
//! └── disk.ext4       locked by whoever has it attached: by one who writes, or by many who read
//! ```
//!
//! The lock is on the disk's open file, which QEMU inherits: it lasts until the last process that could still write
//! is gone. On the disk, the files are in the directory `data`, which a guest makes when it is attached for the first
//! time; so `lost+found` is out of sight, and a first fill that was cut short is done again.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use home::{
    Home, Name, Record, RecordError, Scratch, fault_point, is_still_at, names_in, read_record, write_record,
};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::disk::{DiskError, DiskSize, named_disk};
use crate::mount::Access;

/// How long a machine may take to be gone once it was ended, or a process to start with what it inherits.
const LAST_STEPS: Duration = Duration::from_millis(500);

/// A volume that was found.
#[derive(Debug, Clone)]
pub struct Volume {
    home: Home,
    name: Name,
    record: VolumeRecord,
}

/// What is known of a volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// The size of its disk.
    #[serde(with = "home::as_text")]
    pub size: DiskSize,
    /// When it was created.
    pub created_at: Timestamp,
    /// Whether a guest has made its directory for files, with what the image had there.
    #[serde(default)]
    pub filled: bool,
    /// Whether somebody who may write to it has not said yet that its file system is clean.
    #[serde(default)]
    pub unclean: bool,
}

impl Record for VolumeRecord {
    const VERSION: u32 = 1;
}

/// Why a volume cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// There is none of that name.
    #[error("there is no volume `{0}`")]
    Unknown(Name),
    /// There is one of that name.
    #[error("a volume `{0}` exists already")]
    Exists(Name),
    /// Others have it attached.
    #[error("volume `{name}` is in use{}", match wanted {
        Some(Access::ReadOnly) => " by one that writes to it",
        _ => "",
    })]
    InUse {
        /// The volume.
        name: Name,
        /// What it was wanted for; nothing if it was to be changed or deleted.
        wanted: Option<Access>,
    },
    /// Its disk could not be made.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its record could not be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A file could not be used.
    #[error("failed to access volume `{name}`")]
    Io {
        /// The volume.
        name: Name,
        /// What the system said.
        source: io::Error,
    },
}

impl VolumeError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown(_) => Some("see those there are: microagent volume list".to_owned()),
            Self::Exists(name) => {
                Some(format!("choose another name, or delete it: microagent volume delete {name}"))
            }
            Self::InUse { name, wanted: Some(_) } => Some(format!(
                "one may write to a volume, or many read it; see who does: microagent volume status {name}; \
                 to read it from several, attach it with :ro everywhere"
            )),
            Self::InUse { name, wanted: None } => {
                Some(format!("halt what uses it first; see what does: microagent volume status {name}"))
            }
            Self::Disk(error) => error.hint(),
            _ => None,
        }
    }
}

/// A volume in a list; a damaged one is not left out.
pub type Found = (Name, Result<Volume, VolumeError>);

/// How a volume is used right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Nobody has it attached.
    Free,
    /// It is attached to be read.
    Readers,
    /// It is attached to be written to.
    Writer,
}

impl Volume {
    /// Makes the volume `name` with a blank disk; it is there whole or not at all.
    pub fn create(home: &Home, name: &Name, size: DiskSize) -> Result<Self, VolumeError> {
        let io = |source| VolumeError::Io { name: name.clone(), source };
        let place = place(home, name);
        if place.exists() {
            return Err(VolumeError::Exists(name.clone()));
        }
        let scratch = Scratch::new(home).map_err(io)?;
        let new = scratch.path().join("volume");
        std::fs::create_dir(&new).map_err(io)?;
        named_disk(home, size, &new.join("disk.ext4"))?;
        fault_point("volume.disk");
        let record = VolumeRecord { size, created_at: Timestamp::now(), filled: false, unclean: false };
        write_record(&new.join("volume.json"), &record)?;
        fault_point("volume.record");
        // Renaming onto a directory that is not empty fails, so of two that make one, one wins.
        std::fs::rename(&new, &place).map_err(|error| match error.kind() {
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
                VolumeError::Exists(name.clone())
            }
            _ => io(error),
        })?;
        fault_point("volume.placed");
        home::sync_directory(&home.volumes()).map_err(io)?;
        Ok(Self { home: home.clone(), name: name.clone(), record })
    }

    /// The volume of this name.
    pub fn find(home: &Home, name: &Name) -> Result<Self, VolumeError> {
        let record = read_record(&place(home, name).join("volume.json"))?;
        let record = record.ok_or_else(|| VolumeError::Unknown(name.clone()))?;
        Ok(Self { home: home.clone(), name: name.clone(), record })
    }

    /// The volume of this name, made now if there is none.
    pub fn find_or_create(home: &Home, name: &Name) -> Result<Self, VolumeError> {
        loop {
            match Self::find(home, name) {
                Err(VolumeError::Unknown(_)) => match Self::create(home, name, DiskSize::default()) {
                    // Somebody else was faster.
                    Err(VolumeError::Exists(_)) if place(home, name).join("volume.json").exists() => {}
                    outcome => return outcome,
                },
                outcome => return outcome,
            }
        }
    }

    /// All volumes, by name.
    pub fn all(home: &Home) -> io::Result<Vec<Found>> {
        let found = names_in(&home.volumes())?.into_iter().map(|name| {
            let found = Self::find(home, &name);
            (name, found)
        });
        // One that was deleted meanwhile is no volume.
        Ok(found.filter(|(_, found)| !matches!(found, Err(VolumeError::Unknown(_)))).collect())
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What is known of it.
    pub fn record(&self) -> &VolumeRecord {
        &self.record
    }

    /// Its directory.
    pub fn directory(&self) -> PathBuf {
        place(&self.home, &self.name)
    }

    /// What its disk takes on this host, in bytes.
    pub fn allocated(&self) -> u64 {
        std::fs::metadata(self.disk()).map_or(0, |metadata| metadata.blocks() * 512)
    }

    /// How it is used right now.
    pub fn in_use(&self) -> Use {
        let Ok(file) = File::open(self.disk()) else { return Use::Free };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Use::Free;
        }
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Use::Readers,
            Err(_) => Use::Writer,
        }
    }

    /// Its disk, locked for as long as any process has it open.
    pub fn open(&self, access: Access) -> Result<File, VolumeError> {
        self.locked(access, Some(access))
    }

    /// The same for a wish that needs more than it says: to read what is to be repaired first.
    pub(crate) fn locked(&self, access: Access, wanted: Option<Access>) -> Result<File, VolumeError> {
        let io = |source| VolumeError::Io { name: self.name.clone(), source };
        let disk = self.disk();
        let file = match File::options().read(true).write(access == Access::ReadWrite).open(&disk) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(VolumeError::Unknown(self.name.clone()));
            }
            outcome => outcome.map_err(io)?,
        };
        if !lock(&file, access).map_err(io)? {
            return Err(VolumeError::InUse { name: self.name.clone(), wanted });
        }
        // Whoever deleted it meanwhile held the lock.
        if !is_still_at(&file, &disk).map_err(io)? {
            return Err(VolumeError::Unknown(self.name.clone()));
        }
        Ok(file)
    }

    /// Notes what became of it, and is what is known then. Whoever says so has it attached to be written to.
    pub(crate) fn note(&self, change: impl FnOnce(&mut VolumeRecord)) -> Result<Self, VolumeError> {
        fault_point("volume.noted");
        // Another process may have noted something since it was read.
        let before = Self::find(&self.home, &self.name)?.record;
        let mut record = before.clone();
        change(&mut record);
        if record != before {
            write_record(&self.record_path(), &record)?;
        }
        Ok(Self { record, ..self.clone() })
    }

    /// Deletes it. Nobody may have it attached; who would attach it again is for the caller to ask.
    pub fn delete(&self) -> Result<(), VolumeError> {
        let io = |source| VolumeError::Io { name: self.name.clone(), source };
        let held = self.locked(Access::ReadWrite, None)?;
        let scratch = Scratch::new(&self.home).map_err(io)?;
        std::fs::rename(self.directory(), scratch.path().join("deleted")).map_err(io)?;
        fault_point("volume.moved");
        home::sync_directory(&self.home.volumes()).map_err(io)?;
        drop(held);
        Ok(())
    }

    /// Makes its disk's file larger; the file system in it is for a guest to grow, and [`Self::note_size`] to say.
    pub fn grow_file(&self, size: DiskSize) -> Result<File, VolumeError> {
        let io = |source| VolumeError::Io { name: self.name.clone(), source };
        let disk = self.locked(Access::ReadWrite, None)?;
        // A file that is larger already is what an earlier attempt left.
        if disk.metadata().map_err(io)?.len() < size.bytes() {
            disk.set_len(size.bytes()).map_err(io)?;
        }
        fault_point("volume.grown");
        Ok(disk)
    }

    /// Notes its new size.
    pub fn note_size(&self, size: DiskSize) -> Result<(), VolumeError> {
        self.note(|record| record.size = size).map(drop)
    }

    fn disk(&self) -> PathBuf {
        self.directory().join("disk.ext4")
    }

    fn record_path(&self) -> PathBuf {
        self.directory().join("volume.json")
    }
}

/// Locks an open disk for `access`; false if others have it, and not only on their last steps.
pub(crate) fn lock(disk: &File, access: Access) -> io::Result<bool> {
    let deadline = Instant::now() + LAST_STEPS;
    while !try_lock(disk, access)? {
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(true)
}

fn try_lock(disk: &File, access: Access) -> io::Result<bool> {
    let operation = match access {
        Access::ReadWrite => FlockOperation::NonBlockingLockExclusive,
        Access::ReadOnly => FlockOperation::NonBlockingLockShared,
    };
    match rustix::io::retry_on_intr(|| flock(disk, operation)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn place(home: &Home, name: &Name) -> PathBuf {
    home.volumes().join(name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::open(Some(parent.path())).unwrap();
        (parent, home)
    }

    fn size(text: &str) -> DiskSize {
        text.parse().unwrap()
    }

    #[test]
    fn one_writes_or_many_read() {
        let (_parent, home) = home();
        let volume = Volume::create(&home, &"data".parse().unwrap(), size("64m")).unwrap();
        assert_eq!(volume.in_use(), Use::Free);
        let first = volume.open(Access::ReadOnly).unwrap();
        let second = volume.open(Access::ReadOnly).unwrap();
        assert_eq!(volume.in_use(), Use::Readers);
        assert!(matches!(volume.open(Access::ReadWrite), Err(VolumeError::InUse { .. })));
        drop((first, second));
        let writer = volume.open(Access::ReadWrite).unwrap();
        assert_eq!(volume.in_use(), Use::Writer);
        for access in [Access::ReadOnly, Access::ReadWrite] {
            assert!(matches!(volume.open(access), Err(VolumeError::InUse { .. })));
        }
        assert!(matches!(volume.delete(), Err(VolumeError::InUse { .. })));
        // A copy of the descriptor, as a child process has it, holds the lock on.
        let inherited = writer.try_clone().unwrap();
        drop(writer);
        assert_eq!(volume.in_use(), Use::Writer);
        drop(inherited);
        volume.delete().unwrap();
        assert!(matches!(volume.open(Access::ReadOnly), Err(VolumeError::Unknown(_))));
        assert!(Volume::all(&home).unwrap().is_empty());
    }

    #[test]
    fn a_volume_is_made_once() {
        let (_parent, home) = home();
        let name: Name = "data".parse().unwrap();
        Volume::create(&home, &name, size("64m")).unwrap();
        assert!(matches!(Volume::create(&home, &name, size("64m")), Err(VolumeError::Exists(_))));
        let found = Volume::find_or_create(&home, &name).unwrap();
        assert_eq!(found.record().size, size("64m"));
        found.note(|record| record.filled = true).unwrap();
        found.note_size(size("128m")).unwrap();
        let found = Volume::find(&home, &name).unwrap();
        assert!(found.record().filled);
        assert_eq!(found.record().size, size("128m"));
    }

    #[test]
    fn crowds_make_one_volume_together() {
        let (_parent, home) = home();
        let name: Name = "data".parse().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| Volume::find_or_create(&home, &name).unwrap());
            }
        });
        assert_eq!(Volume::all(&home).unwrap().len(), 1);
    }
}
