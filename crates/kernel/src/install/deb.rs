//! Reading a Debian package: an `ar` archive whose member `data.tar[.xz|.zst|.gz]` holds the files.
//!
//! Source: deb(5). Only what a kernel consists of is looked at: regular files of known names. Links,
//! devices, maintainer scripts and all else are passed over. Nothing in here writes.

use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use tar::EntryType;

use super::InstallError;
use super::staging::Member;
use crate::Release;
use crate::decompress::unpacked;

/// What a package may unpack to; the largest kernel packages are below 2 GiB.
const MAX_DATA: u64 = 8 << 30;
/// Longer than any path that Linux takes.
const MAX_PATH: u64 = 4096;

/// Why a package could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// The archive has no member with the files.
    #[error("it is not a Debian package: it has no `data.tar`")]
    NoData,
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

/// The unpacked `data.tar` of the package in `file`.
pub(super) fn data_member(file: fs_err::File) -> Result<Box<dyn Read>, DebError> {
    let mut archive = ar::Archive::new(file);
    let size = loop {
        let member = archive.next_entry().ok_or(DebError::NoData)??;
        if member.header().identifier().starts_with(b"data.tar") {
            break member.header().size();
        }
    };
    let data = BufReader::with_capacity(1 << 18, archive.into_inner()?.take(size));
    Ok(Box::new(unpacked(data)?.take(MAX_DATA)))
}

/// Hands each file of a kernel in the tar archive `data` to `take`.
pub(super) fn each_kernel_file(
    data: &mut dyn Read,
    failed: impl Fn(DebError) -> InstallError,
    take: &mut dyn FnMut(&Release, &Member, &mut dyn Read) -> Result<(), InstallError>,
) -> Result<(), InstallError> {
    let mut archive = tar::Archive::new(data);
    let damaged = |error: io::Error| failed(error.into());
    let mut long_path = None;
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        match entry.header().entry_type() {
            EntryType::GNULongName => long_path = Some(read_path(&mut entry).map_err(&failed)?),
            EntryType::XHeader => return Err(failed(DebError::ExtendedHeader)),
            EntryType::Regular | EntryType::Continuous => {
                let path = match long_path.take() {
                    Some(path) => path,
                    None => entry.path().map_err(damaged)?.into_owned(),
                };
                if let Some((release, member)) = Member::of_package(&path) {
                    take(&release, &member, &mut entry)?;
                }
            }
            EntryType::GNULongLink => {}
            _ => long_path = None,
        }
    }
    Ok(())
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
