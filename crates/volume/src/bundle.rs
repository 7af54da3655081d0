//! Bundles: archives as read-only file systems, made once for each content.
//!
//! A tar file, compressed or not, becomes `bundles/<sha256 of the file>.erofs`. Whoever uses one holds a shared lock on
//! it, so that nobody removes it meanwhile. What a guest writes to a bundle goes to the disk of its own machine.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use home::{ContentLimits, Exclusive, Home, LimitsError, LockError, Unfinished, hexadecimal, open_shared};
use rootfs::{ArchiveFile, LayerError};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

/// Grows with what is made of an archive: files of other versions are not used.
const LAYOUT: u32 = 1;

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It could not be read.
    #[error("failed to read the bundle `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no archive that can be used.
    #[error("cannot use the bundle `{}`", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: LayerError,
    },
    /// What it becomes could not be kept.
    #[error("failed to keep the bundle's file system")]
    Keep(#[from] io::Error),
    /// The lock on its place failed.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// What it may take cannot be told.
    #[error(transparent)]
    Limits(#[from] LimitsError),
}

impl BundleError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Archive { source, .. } => source.limit().map(home::Limit::hint),
            _ => None,
        }
    }
}

/// The file system that the archive at `path` makes, made now if it is not there. `progress` hears how many bytes of
/// how many are done.
pub(crate) fn open_bundle(
    home: &Home,
    path: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<File, BundleError> {
    let archive = identify(path)?;
    let place = home.bundles().join(format!("{}-{LAYOUT}.erofs", hexadecimal(&archive.digest)));
    loop {
        if let Some(file) = open_shared(&place)? {
            return Ok(file);
        }
        let lock = Exclusive::wait(&place.with_extension("lock"))?;
        // Whoever held the lock may have made it.
        if !place.exists() {
            let new = Unfinished::new(home, &home.bundles())?;
            let mut report = |bytes| progress(bytes, archive.size);
            let limits = ContentLimits::from_environment()?.into();
            rootfs::convert_archive(&archive, new.file(), &limits, &mut report)
                .map_err(|source| BundleError::Archive { path: path.to_owned(), source })?;
            new.place(&place)?;
        }
        lock.delete()?;
    }
}

fn identify(path: &Path) -> Result<ArchiveFile, BundleError> {
    let failed = |source| BundleError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("it is no regular file")));
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        let length = match file.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            outcome => outcome.map_err(failed)?,
        };
        if length == 0 {
            return Ok(ArchiveFile { path: path.to_owned(), digest: hash.finalize().into(), size });
        }
        hash.update(&buffer[..length]);
        size += length as u64;
    }
}

/// Those that nobody has open, with what they take in bytes. They are made again when they are needed.
pub fn unneeded_bundles(home: &Home) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(home.bundles())? {
        let path = entry?.path();
        let is_bundle = path.extension().is_some_and(|extension| extension == "erofs");
        let Ok(file) = File::open(&path) else { continue };
        if is_bundle && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let blocks = std::os::unix::fs::MetadataExt::blocks(&file.metadata()?);
            found.push((path, blocks * 512));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn tar(directory: &Path, content: &[u8]) -> PathBuf {
        let path = directory.join("x.tar");
        let mut header = [0; 512];
        header[..9].copy_from_slice(b".wh.file\0");
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[136..148].copy_from_slice(b"00000000000\0");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut file = File::create(&path).unwrap();
        file.write_all(&header).unwrap();
        file.write_all(content).unwrap();
        file.write_all(&vec![0; 512 - content.len() % 512 + 1024]).unwrap();
        path
    }

    #[test]
    fn a_bundle_is_made_once_for_each_content() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&parent.path().join("home"))).unwrap();
        let path = tar(parent.path(), b"one");
        let mut told = 0;
        let first = open_bundle(&home, &path, &mut |_, _| told += 1).unwrap();
        assert!(told > 0);
        let again = open_bundle(&home, &path, &mut |_, _| panic!("it is there")).unwrap();
        assert_eq!(first.metadata().unwrap().len(), again.metadata().unwrap().len());
        tar(parent.path(), b"two");
        open_bundle(&home, &path, &mut |_, _| ()).unwrap();
        assert_eq!(unneeded_bundles(&home).unwrap().len(), 1, "one of the two is open");
        drop((first, again));
        assert_eq!(unneeded_bundles(&home).unwrap().len(), 2);
        assert_eq!(std::fs::read_dir(home.bundles()).unwrap().count(), 2, "no lock stays");
    }

    #[test]
    fn what_is_no_archive_is_refused_and_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&parent.path().join("home"))).unwrap();
        let path = parent.path().join("x.tar");
        std::fs::write(&path, vec![7; 2000]).unwrap();
        let error = open_bundle(&home, &path, &mut |_, _| ()).unwrap_err();
        assert!(matches!(error, BundleError::Archive { .. }), "{error}");
        assert!(matches!(open_bundle(&home, parent.path(), &mut |_, _| ()), Err(BundleError::Read { .. })));
        let left: Vec<_> =
            std::fs::read_dir(home.bundles()).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(left.iter().all(|path| path.extension().is_some_and(|end| end == "lock")), "{left:?}");
        assert_eq!(std::fs::read_dir(home.tmp()).unwrap().count(), 0);
    }
}
