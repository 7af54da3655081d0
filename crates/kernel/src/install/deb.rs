//! Reading a Debian package.
//!
//! ```text
//! "!<arch>\n"                                         an ar archive, deb(5)
//! 60 bytes   name: 16, date: 12, owner: 6, group: 6, mode: 8, size: 10 decimal digits, "`\n"
//! size bytes content, and a byte more if size is odd
//! ....       more of both: debian-binary, control.tar.*, data.tar[.xz|.zst|.gz] with the files
//! ```
//!
//! Only what a kernel consists of is taken: regular files of known names. Links, devices, maintainer scripts
//! and all else are passed over.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

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

/// Takes the kernel's files in the package at `path` into `staging`.
pub(super) fn unpack(path: &Path, staging: &mut Staging<'_>) -> Result<(), InstallError> {
    let failed = |source| InstallError::Deb { path: path.to_owned(), source };
    let damaged = |error: io::Error| failed(error.into());
    let mut package = fs_err::File::open(path)?;
    let packed = find_data(&mut package).map_err(failed)?;
    let data = unpacked(BufReader::with_capacity(1 << 18, packed)).map_err(damaged)?;
    let mut archive = tar::Archive::new(data.take(MAX_DATA));
    let mut long_path = None;
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        match entry.header().entry_type() {
            EntryType::GNULongName => long_path = Some(read_path(&mut entry).map_err(failed)?),
            EntryType::GNULongLink => {}
            EntryType::XHeader => return Err(failed(DebError::ExtendedHeader)),
            _ => take_wanted(&mut entry, long_path.take(), staging, failed)?,
        }
    }
    Ok(())
}

fn take_wanted<R: Read>(
    entry: &mut Entry<'_, R>,
    long_path: Option<PathBuf>,
    staging: &mut Staging<'_>,
    failed: impl Fn(DebError) -> InstallError,
) -> Result<(), InstallError> {
    if !matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous) {
        return Ok(());
    }
    let path = match long_path {
        Some(path) => path,
        None => entry.path().map_err(|error| failed(error.into()))?.into_owned(),
    };
    if let Some((release, member)) = Member::of_package(&path) {
        staging.expect_release(&release)?;
        staging.take(&member, entry)?;
    }
    Ok(())
}

/// Finds `data.tar` in the archive, and reads it alone.
fn find_data(package: &mut fs_err::File) -> Result<io::Take<&mut fs_err::File>, DebError> {
    let mut magic = [0; 8];
    package.read_exact(&mut magic).map_err(|_| DebError::NotDeb)?;
    if &magic != b"!<arch>\n" {
        return Err(DebError::NotDeb);
    }
    loop {
        let mut header = [0; 60];
        package.read_exact(&mut header).map_err(|_| DebError::NotDeb)?;
        let size = member_size(&header).ok_or(DebError::NotDeb)?;
        if header.starts_with(b"data.tar") {
            return Ok(package.take(size));
        }
        package.seek(SeekFrom::Current((size + size % 2).cast_signed()))?;
    }
}

/// At most ten digits: too few to overflow.
fn member_size(header: &[u8; 60]) -> Option<u64> {
    let digits = std::str::from_utf8(&header[48..58]).ok()?.trim_end();
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn read_path(entry: &mut impl Read) -> Result<PathBuf, DebError> {
    let mut path = Vec::new();
    entry.take(MAX_PATH + 1).read_to_end(&mut path)?;
    if path.len() as u64 > MAX_PATH {
        return Err(DebError::LongPath);
    }
    while path.last() == Some(&0) {
        path.pop();
    }
    Ok(std::ffi::OsString::from_vec(path).into())
}
