//! Writable disks: sparse ext4 files, made once for each size and copied from then on.
//!
//! A blank file system of ten gibibytes is a few hundred kilobytes of data in a file of holes, so a copy of
//! its data extents takes about a millisecond; `mke2fs` runs once.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::str::FromStr;

use home::{Exclusive, Home, LockError};
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// Grows with what blank disks are made of: files of other versions are not used.
const LAYOUT: u32 = 1;

/// The size of a disk, in whole mebibytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskSize {
    mebibytes: u64,
}

/// A text that is no disk size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a disk size between 64m and 15t; write it like `10g`")]
pub struct InvalidDiskSize(String);

/// Why a disk could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The program that makes file systems is not there.
    #[error("cannot find `mke2fs`")]
    Missing,
    /// It failed.
    #[error("`mke2fs` failed: {0}")]
    Failed(String),
    /// A file could not be made or copied.
    #[error("failed to make a disk")]
    Io(#[from] io::Error),
    /// The lock on the disk's place failed.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl DiskError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        matches!(self, Self::Missing).then(|| "install it: sudo apt-get install e2fsprogs".to_owned())
    }
}

impl DiskSize {
    /// It in bytes.
    pub const fn bytes(self) -> u64 {
        self.mebibytes << 20
    }
}

impl Default for DiskSize {
    /// What it says takes no space until it is written.
    fn default() -> Self {
        Self { mebibytes: 10 << 10 }
    }
}

impl FromStr for DiskSize {
    type Err = InvalidDiskSize;

    fn from_str(text: &str) -> Result<Self, InvalidDiskSize> {
        let invalid = || InvalidDiskSize(text.to_owned());
        let lower = text.to_ascii_lowercase();
        let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
        let (shift, digits) = match lower.as_bytes().last() {
            Some(b'm') => (0, &lower[..lower.len() - 1]),
            Some(b'g') => (10, &lower[..lower.len() - 1]),
            Some(b't') => (20, &lower[..lower.len() - 1]),
            _ => return Err(invalid()),
        };
        let number: u64 = digits.parse().map_err(|_| invalid())?;
        let mebibytes = number.checked_mul(1 << shift).ok_or_else(invalid)?;
        if (64..=15 << 20).contains(&mebibytes) { Ok(Self { mebibytes }) } else { Err(invalid()) }
    }
}

impl fmt::Display for DiskSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mebibytes {
            whole if whole % 1024 == 0 => write!(formatter, "{}g", whole / 1024),
            mebibytes => write!(formatter, "{mebibytes}m"),
        }
    }
}

/// A blank disk that has no name: it is gone when the last process that has it open ends.
pub fn scratch_disk(home: &Home, size: DiskSize) -> Result<File, DiskError> {
    Ok(scratch_copy(home, &File::open(blank_disk(home, size)?)?)?)
}

/// A disk that has no name, with the content of `original`.
pub fn scratch_copy(home: &Home, original: &File) -> io::Result<File> {
    let disk = tempfile::tempfile_in(home.tmp())?;
    if rustix::fs::ioctl_ficlone(&disk, original).is_err() {
        copy_data(original, &disk)?;
    }
    Ok(disk)
}

/// Makes the empty file `disk` a blank disk.
pub fn fill_blank(home: &Home, size: DiskSize, disk: &File) -> Result<(), DiskError> {
    Ok(copy_data(&File::open(blank_disk(home, size)?)?, disk)?)
}

/// What tells one blank disk from another.
pub fn blank_name(size: DiskSize) -> String {
    format!("blank-{LAYOUT}-{size}.ext4")
}

/// A blank disk at `path`, which must not exist.
pub fn named_disk(home: &Home, size: DiskSize, path: &Path) -> Result<File, DiskError> {
    Ok(named_copy(&File::open(blank_disk(home, size)?)?, path)?)
}

/// A disk at `path`, which must not exist, with the content of `original`: the same blocks where the file system can
/// share them.
pub fn named_copy(original: &File, path: &Path) -> io::Result<File> {
    let mut options = File::options();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let disk = options.read(true).write(true).create_new(true).open(path)?;
    if rustix::fs::ioctl_ficlone(&disk, original).is_err() {
        copy_data(original, &disk)?;
    }
    disk.sync_all()?;
    Ok(disk)
}

fn blank_disk(home: &Home, size: DiskSize) -> Result<PathBuf, DiskError> {
    let path = home.boot().join(blank_name(size));
    if path.exists() {
        return Ok(path);
    }
    let lock = Exclusive::wait(&path.with_extension("lock"))?;
    if !path.exists() {
        let new = tempfile::Builder::new().prefix(".new-").tempfile_in(home.boot())?;
        new.as_file().set_len(size.bytes())?;
        make_file_system(new.path())?;
        new.as_file().sync_all()?;
        new.persist(&path).map_err(|error| error.error)?;
    }
    lock.delete()?;
    Ok(path)
}

/// Makes a small file system on a disk that is gone afterwards.
pub fn try_file_system(home: &Home) -> Result<(), DiskError> {
    let disk = tempfile::Builder::new().prefix("trial-").tempfile_in(home.tmp())?;
    disk.as_file().set_len(64 << 20)?;
    make_file_system(disk.path())
}

/// Inode tables and journal are holes, which read as the zeros that they start as, so nothing writes them.
fn make_file_system(path: &Path) -> Result<(), DiskError> {
    let options =
        ["-q", "-F", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"];
    let output = mke2fs(|command| command.args(options).arg(path).output())?;
    if output.status.success() {
        return Ok(());
    }
    Err(DiskError::Failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Distributions keep it where ordinary users' `PATH` does not look.
fn mke2fs(run: impl Fn(&mut Command) -> io::Result<Output>) -> Result<Output, DiskError> {
    for program in ["mke2fs", "/usr/sbin/mke2fs", "/sbin/mke2fs"] {
        match run(&mut Command::new(program)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => return Ok(outcome?),
        }
    }
    Err(DiskError::Missing)
}

/// Copies what is not a hole. Both files then have the same content and length.
fn copy_data(from: &File, to: &File) -> io::Result<()> {
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut position = 0;
    while position < length {
        let start = match rustix::fs::seek(from, SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start))?;
        copy_range(from, to, start, end)?;
        position = end;
    }
    Ok(())
}

fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let length = usize::try_from(end - read_at).unwrap_or(usize::MAX);
        let copied = rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), length)?;
        if copied == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_scratch_disk_is_sparse_and_a_file_system() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::open(Some(parent.path())).unwrap();
        let size = "1g".parse().unwrap();
        for _ in 0..2 {
            let disk = scratch_disk(&home, size).unwrap();
            let metadata = disk.metadata().unwrap();
            assert_eq!(metadata.len(), 1 << 30);
            assert!(metadata.blocks() * 512 < 4 << 20, "{} blocks", metadata.blocks());
            let mut magic = [0; 2];
            rustix::io::pread(&disk, &mut magic, 1024 + 56).unwrap();
            assert_eq!(magic, [0x53, 0xef]);
        }
        let names = |directory| std::fs::read_dir(directory).unwrap().count();
        assert_eq!((names(home.tmp()), names(home.boot())), (0, 1));
    }

    #[test]
    fn a_copy_has_data_and_holes_where_the_original_has_them() {
        let from = tempfile::tempfile().unwrap();
        from.set_len(1 << 20).unwrap();
        rustix::io::pwrite(&from, b"data", 300_000).unwrap();
        let mut to = tempfile::tempfile().unwrap();
        copy_data(&from, &to).unwrap();
        let mut content = Vec::new();
        to.read_to_end(&mut content).unwrap();
        assert_eq!(content.len(), 1 << 20);
        assert_eq!(&content[300_000..300_004], b"data");
        assert_eq!(content.iter().filter(|byte| **byte != 0).count(), 4);
    }

    #[test]
    fn disk_sizes_have_bounds() {
        assert_eq!("10g".parse::<DiskSize>(), Ok(DiskSize::default()));
        assert_eq!("1TiB".parse::<DiskSize>().unwrap().to_string(), "1024g");
        for bad in ["", "10", "1k", "63m", "17t", "-1g", "99999999999999999999g"] {
            assert!(bad.parse::<DiskSize>().is_err(), "{bad}");
        }
    }
}
