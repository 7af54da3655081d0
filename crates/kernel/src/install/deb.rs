//! Reading a Debian package.
//!
//! ```text
//! "!<arch>\n"                                         an ar archive, deb(5)
//! 60 bytes   name: 16, date: 12, owner: 6, group: 6, mode: 8, size: 10 decimal digits, "`\n"
//! size bytes content, and a byte more if size is odd
//! ....       more of both: debian-binary, control.tar.*, data.tar[.xz|.zst|.gz] with the files
//! ```
//!
//! A [`reader`] takes it apart, a process that may do nothing else. Only what a kernel consists of is taken: regular files of known names. Links, devices, maintainer scripts
//! and all else are passed over.

use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use reader::{Input, Items, Job, Output, ReadError, ask};
use serde::{Deserialize, Serialize};
use tar::{Entry, EntryType};

use super::InstallError;
use super::staging::{Member, Staging};
use crate::decompress::unpacked;

/// What a package may unpack to; the largest kernel packages are below 2 GiB.
const MAX_DATA: u64 = 8 << 30;
/// Longer than any path that Linux takes.
const MAX_PATH: u64 = 4096;

/// Why a package could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// The file is no such archive, or has no member with the files.
    #[error("it is not a Debian package")]
    NotDeb,
    /// A path is longer than any path can be.
    #[error("it has a path of more than {MAX_PATH} bytes")]
    LongPath,
    /// The archive is of a kind that packages do not use.
    #[error("its `data.tar` has extended headers, which packages do not use")]
    ExtendedHeader,
    /// The archive could not be read.
    #[error("it is damaged")]
    Damaged(#[from] io::Error),
}

/// Takes a package apart: the files in it that kernels consist of.
pub static READ_PACKAGE: Job<(), UnreadablePackage> = Job { name: "kernel-package", work: read_package };

/// Why a package could not be read, in the words of who read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnreadablePackage {
    /// [`DebError::NotDeb`].
    NotDeb,
    /// [`DebError::LongPath`].
    LongPath,
    /// [`DebError::ExtendedHeader`].
    ExtendedHeader,
    /// [`DebError::Damaged`].
    Damaged(String),
}

/// Takes the kernel's files in the package at `path` into `staging`.
pub(super) fn unpack(path: &Path, staging: &mut Staging<'_>) -> Result<(), InstallError> {
    let package = fs_err::File::open(path)?;
    let asked = ask(&READ_PACKAGE, &(), package, |files| take(files, staging));
    asked.map(drop).map_err(|error| match error {
        Failure::Taking(error) => error,
        Failure::Reading(source) => InstallError::Deb { path: path.to_owned(), source },
    })
}

/// Whose fault it was: that of what came, or of the package.
enum Failure {
    Taking(InstallError),
    Reading(DebError),
}

/// What a reader sends is looked at as if it were the package itself.
fn take(files: &mut Items, staging: &mut Staging<'_>) -> Result<(), Failure> {
    let broken = |error: io::Error| Failure::Reading(error.into());
    while let Some(path) = files.next_item::<PathBuf>().map_err(broken)? {
        if let Some((release, member)) = Member::of_package(&path) {
            staging.expect_release(&release).map_err(Failure::Taking)?;
            staging.take(&member, files).map_err(Failure::Taking)?;
        }
    }
    Ok(())
}

fn read_package((): (), package: &mut Input, output: &mut Output) -> Result<(), UnreadablePackage> {
    let packed = BufReader::with_capacity(1 << 18, find_data(package)?);
    let mut archive = tar::Archive::new(unpacked(packed)?.take(MAX_DATA));
    let mut long_path = None;
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        match entry.header().entry_type() {
            EntryType::GNULongName => long_path = Some(read_path(&mut entry)?),
            EntryType::GNULongLink => {}
            EntryType::XHeader => return Err(UnreadablePackage::ExtendedHeader),
            _ => send_wanted(&mut entry, long_path.take(), output)?,
        }
    }
    Ok(())
}

fn send_wanted<R: Read>(
    entry: &mut Entry<'_, R>,
    long_path: Option<PathBuf>,
    output: &mut Output,
) -> Result<(), UnreadablePackage> {
    if !matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous) {
        return Ok(());
    }
    let path = match long_path {
        Some(path) => path,
        None => entry.path()?.into_owned(),
    };
    // What it is for is looked at again by whoever gets it.
    if Member::of_package(&path).is_some() {
        output.item(&path, entry)?;
    }
    Ok(())
}

/// Finds `data.tar` in the archive, and reads it alone.
fn find_data(package: &mut Input) -> Result<impl Read, UnreadablePackage> {
    let not_deb = |_| UnreadablePackage::NotDeb;
    let mut magic = [0; 8];
    package.read_exact(&mut magic).map_err(not_deb)?;
    if &magic != b"!<arch>\n" {
        return Err(UnreadablePackage::NotDeb);
    }
    loop {
        let mut header = [0; 60];
        package.read_exact(&mut header).map_err(not_deb)?;
        let size = member_size(&header).ok_or(UnreadablePackage::NotDeb)?;
        if header.starts_with(b"data.tar") {
            return Ok(package.take(size));
        }
        io::copy(&mut (&mut *package).take(size + size % 2), &mut io::sink())?;
    }
}

impl From<io::Error> for UnreadablePackage {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl From<ReadError<UnreadablePackage>> for Failure {
    fn from(error: ReadError<UnreadablePackage>) -> Self {
        Self::Reading(match error {
            ReadError::Input(error) => error.into(),
            ReadError::Failed(UnreadablePackage::NotDeb) => DebError::NotDeb,
            ReadError::Failed(UnreadablePackage::LongPath) => DebError::LongPath,
            ReadError::Failed(UnreadablePackage::ExtendedHeader) => DebError::ExtendedHeader,
            ReadError::Failed(UnreadablePackage::Damaged(said)) => {
                let printable: String = said.chars().filter(|c| !c.is_control()).take(1024).collect();
                io::Error::other(printable).into()
            }
            other => io::Error::other(other).into(),
        })
    }
}

/// At most ten digits: too few to overflow.
fn member_size(header: &[u8; 60]) -> Option<u64> {
    let digits = std::str::from_utf8(&header[48..58]).ok()?.trim_end();
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn read_path(entry: &mut impl Read) -> Result<PathBuf, UnreadablePackage> {
    let mut path = Vec::new();
    entry.take(MAX_PATH + 1).read_to_end(&mut path)?;
    if path.len() as u64 > MAX_PATH {
        return Err(UnreadablePackage::LongPath);
    }
    while path.last() == Some(&0) {
        path.pop();
    }
    Ok(std::ffi::OsString::from_vec(path).into())
}
