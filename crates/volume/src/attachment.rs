//! A mount whose disk is open and locked: what a machine gets.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use home::{Home, Name};

use crate::bundle::{BundleError, open_bundle};
use crate::mount::{Access, Mount, MountPoint, Source};
use crate::volume::{Volume, VolumeError, lock};

/// A disk for a machine. It is locked for as long as any process has its file open.
#[derive(Debug)]
pub struct Attachment {
    /// What was asked for.
    pub mount: Mount,
    /// The disk, opened for what the machine may do with it.
    pub disk: File,
    /// What the machine may do with the disk; more than the workload may where a volume is to be filled.
    pub access: Access,
    /// What is on the disk.
    pub content: Content,
}

/// What is on a disk, and how the workload sees it.
#[derive(Debug, Clone)]
pub enum Content {
    /// A volume that a guest has filled: its files are in a directory of an ext4 file system.
    Volume(Volume),
    /// A volume that the guest is to fill first, with what the image has at the place.
    Unfilled(Volume),
    /// A read-only EROFS file system; what is written to it goes elsewhere.
    Bundle,
    /// An ext4 file system of the user's.
    Image,
}

/// Why a disk cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The volume cannot be used.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The archive cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The file cannot be used.
    #[error("cannot use the disk image `{}`", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others have the file attached.
    #[error("the disk image `{}` is in use", .0.display())]
    ImageInUse(PathBuf),
}

impl AttachError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Volume(error) => error.hint(),
            Self::ImageInUse(_) => Some(
                "one may write to a disk image, or many read it: halt what uses it, or attach it with :ro everywhere"
                    .to_owned(),
            ),
            Self::Image { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("attach it with :ro if you may only read it".to_owned())
            }
            Self::Bundle(error) => error.hint(),
            Self::Image { .. } => None,
        }
    }
}

impl Attachment {
    /// Opens the disk that `mount` names. `progress` hears how many bytes of how many of an archive are done.
    pub fn open(home: &Home, mount: &Mount, progress: &mut dyn FnMut(u64, u64)) -> Result<Self, AttachError> {
        let mount = mount.clone();
        match &mount.source {
            Source::Volume(name) => Self::volume(&Volume::find_or_create(home, name)?, mount),
            Source::Bundle(path) => {
                let disk = open_bundle(home, path, progress)?;
                Ok(Self { mount, disk, access: Access::ReadOnly, content: Content::Bundle })
            }
            Source::Image(path) => {
                let disk = open_image(path.clone(), mount.access)?;
                Ok(Self { access: mount.access, mount, disk, content: Content::Image })
            }
        }
    }

    /// A volume that nobody has filled, or left clean, is written to, whatever the workload may do with it.
    fn volume(volume: &Volume, mount: Mount) -> Result<Self, AttachError> {
        if mount.access == Access::ReadOnly && is_settled(volume) {
            let disk = volume.open(Access::ReadOnly)?;
            // Whoever had it before may have left it as it was.
            let volume = Volume::find(volume.home(), volume.name())?;
            if is_settled(&volume) {
                return Ok(Self { access: Access::ReadOnly, mount, disk, content: Content::Volume(volume) });
            }
        }
        let disk = volume.locked(Access::ReadWrite, Some(mount.access))?;
        let volume = volume.note(|record| record.unclean = true)?;
        let content =
            if volume.record().filled { Content::Volume(volume) } else { Content::Unfilled(volume) };
        Ok(Self { mount, disk, access: Access::ReadWrite, content })
    }

    /// Where the workload sees it.
    pub fn place(&self) -> &MountPoint {
        &self.mount.place
    }

    /// The volume that it is, if it is one.
    pub fn volume_name(&self) -> Option<&Name> {
        self.mount.volume()
    }
}

impl Content {
    /// Notes what a guest has done: it has mounted the disk, and filled it if that was due.
    pub fn note_mounted(&self) -> Result<(), VolumeError> {
        match self {
            Self::Unfilled(volume) => volume.note(|record| record.filled = true).map(drop),
            Self::Volume(_) | Self::Bundle | Self::Image => Ok(()),
        }
    }

    /// Notes that a guest that could write to the disk has unmounted it.
    pub fn note_clean(&self) -> Result<(), VolumeError> {
        match self {
            Self::Unfilled(volume) | Self::Volume(volume) => {
                volume.note(|record| record.unclean = false).map(drop)
            }
            Self::Bundle | Self::Image => Ok(()),
        }
    }
}

/// Whether there is nothing that had to be written before it can be read.
fn is_settled(volume: &Volume) -> bool {
    volume.record().filled && !volume.record().unclean
}

fn open_image(path: PathBuf, access: Access) -> Result<File, AttachError> {
    let failed = |source| AttachError::Image { path: path.clone(), source };
    let file = File::options().read(true).write(access == Access::ReadWrite).open(&path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("it is no regular file")));
    }
    if metadata.len() == 0 || metadata.len() % 512 != 0 {
        return Err(failed(io::Error::other("its size is not a whole number of 512-byte sectors")));
    }
    if lock(&file, access).map_err(failed)? { Ok(file) } else { Err(AttachError::ImageInUse(path)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attach(home: &Home, text: &str) -> Result<Attachment, AttachError> {
        Attachment::open(home, &text.parse().unwrap(), &mut |_, _| ())
    }

    #[test]
    fn a_volume_is_filled_by_one_and_read_by_many() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::open(Some(parent.path())).unwrap();
        let first = attach(&home, "data:/d:ro").unwrap();
        assert!(matches!(first.content, Content::Unfilled(_)));
        assert_eq!(first.access, Access::ReadWrite);
        let error = attach(&home, "data:/d:ro").unwrap_err();
        assert!(error.to_string().contains("in use"), "{error}");
        first.content.note_mounted().unwrap();
        drop(first);
        let second = attach(&home, "data:/d:ro").unwrap();
        assert_eq!(second.access, Access::ReadWrite, "it was not left clean");
        assert!(attach(&home, "data:/d:ro").is_err());
        second.content.note_clean().unwrap();
        drop(second);
        let readers = [attach(&home, "data:/d:ro").unwrap(), attach(&home, "data:/d:ro").unwrap()];
        assert!(readers.iter().all(|reader| matches!(reader.content, Content::Volume(_))));
        assert!(attach(&home, "data:/d").is_err());
    }

    #[test]
    fn a_disk_image_is_a_whole_number_of_sectors_and_locked() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&parent.path().join("home"))).unwrap();
        let path = parent.path().join("x.img");
        let text = format!("{}:/d", path.display());
        assert!(matches!(attach(&home, &text), Err(AttachError::Image { .. })));
        for (content, usable) in [(0, false), (700, false), (1024, true)] {
            std::fs::write(&path, vec![0; content]).unwrap();
            assert_eq!(attach(&home, &text).is_ok(), usable, "{content}");
        }
        let held = attach(&home, &text).unwrap();
        assert!(matches!(attach(&home, &format!("{text}:ro")), Err(AttachError::ImageInUse(_))));
        drop(held);
        assert!(attach(&home, &format!("{text}:ro")).is_ok());
    }
}
