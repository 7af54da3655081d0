//! The read-only root file system of an image: its layers as one EROFS, made once and kept by chain ID.

mod arriving;

use std::fs::File;
use std::path::{Path, PathBuf};

pub use arriving::ArrivingRoot;
use home::{
    ContentLimits, Exclusive, Home, LimitsError, LockError, Unfinished, hexadecimal, is_still_at, open_shared,
};
use image::{Digest, Image, Store};
use rootfs::{ConvertError, LayerBlob, Limits};
use rustix::fs::{FlockOperation, flock};

/// Why there is no root file system.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The layers could not be merged.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// A file could not be made.
    #[error("failed to keep the root file system")]
    Io(#[from] std::io::Error),
    /// The image store could not be held still meanwhile.
    #[error(transparent)]
    Store(#[from] image::StoreError),
    /// The lock on its place failed.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// What the image may take cannot be told.
    #[error(transparent)]
    Limits(#[from] LimitsError),
}

impl RootError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Convert(error) => error.limit().map(home::Limit::hint),
            Self::Store(error) => error.hint(),
            _ => None,
        }
    }
}

/// The root file system of `image`, made now if it is not there.
///
/// `progress` hears how many bytes of the layers are done.
pub(crate) fn root_file_system(
    home: &Home,
    image: &Image,
    progress: &mut dyn FnMut(u64),
) -> Result<File, RootError> {
    let path = place(home, image.layers.iter().map(|layer| &layer.diff_id));
    if let Some(root) = open_shared(&path)? {
        return Ok(root);
    }
    let lock = Exclusive::wait(&path.with_extension("lock"))?;
    // Whoever held the lock may have made it.
    if open_shared(&path)?.is_none() {
        make(home, image, &path, progress)?;
    }
    lock.delete()?;
    // It was just there, and was not removed unless it is unused.
    open_shared(&path)?.ok_or_else(|| RootError::Io(std::io::ErrorKind::NotFound.into()))
}

/// A root file system with nothing in it, and its chain ID.
pub(crate) fn empty_root(home: &Home) -> Result<(File, String), RootError> {
    let id = hexadecimal(&rootfs::chain_id(&[]));
    let path = home.rootfs().join(format!("{id}.erofs"));
    loop {
        if let Some(root) = open_shared(&path)? {
            return Ok((root, id));
        }
        let new = Unfinished::new(home, &home.rootfs())?;
        rootfs::convert(&[], new.file(), &Limits::default(), &mut |_| ())?;
        new.place(&path)?;
    }
}

/// The root file system with this chain ID, if it is there.
pub(crate) fn open_root(home: &Home, chain_id: &str) -> std::io::Result<Option<File>> {
    open_shared(&home.rootfs().join(format!("{chain_id}.erofs")))
}

/// Where the root file system of layers with these diff IDs is, once it is made.
fn place<'a>(home: &Home, diff_ids: impl Iterator<Item = &'a Digest>) -> PathBuf {
    let diff_ids: Vec<_> = diff_ids.map(Digest::bytes).collect();
    home.rootfs().join(format!("{}.erofs", hexadecimal(&rootfs::chain_id(&diff_ids))))
}

/// What identifies the root file system of `image`: its chain ID, in hexadecimal.
pub(crate) fn chain_id(image: &Image) -> String {
    let diff_ids: Vec<_> = image.layers.iter().map(|layer| layer.diff_id.bytes()).collect();
    hexadecimal(&rootfs::chain_id(&diff_ids))
}

/// Removes the root file system at `path` if nobody has it open and `needed` says that nobody will; tells whether.
pub(crate) fn remove_unused(path: &Path, needed: impl FnOnce() -> bool) -> std::io::Result<bool> {
    let file = File::open(path)?;
    let free = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    if !free || needed() || !is_still_at(&file, path)? {
        return Ok(false);
    }
    std::fs::remove_file(path).map(|()| true)
}

fn make(home: &Home, image: &Image, path: &Path, progress: &mut dyn FnMut(u64)) -> Result<(), RootError> {
    // The layers stay until they are read, even if the image is deleted now.
    let _kept = Store::open(&home.images())?.add()?;
    let layers: Vec<_> = image.layers.iter().map(blob).collect();
    let new = Unfinished::new(home, &home.rootfs())?;
    let limits = ContentLimits::from_environment()?.into();
    rootfs::convert(&layers, new.file(), &limits, progress)?;
    new.place(path)?;
    Ok(())
}

fn blob(layer: &image::Layer) -> LayerBlob {
    LayerBlob {
        path: layer.path.clone(),
        digest: layer.digest.bytes(),
        diff_id: layer.diff_id.bytes(),
        size: layer.size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_or_needed_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.erofs");
        std::fs::write(&path, "x").unwrap();
        let used = open_shared(&path).unwrap().unwrap();
        assert!(!remove_unused(&path, || false).unwrap());
        drop(used);
        assert!(!remove_unused(&path, || true).unwrap());
        assert!(remove_unused(&path, || false).unwrap());
        assert!(open_shared(&path).unwrap().is_none());
    }
}
