//! Files that the host wants or brings, in a process of their own.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use proto::{ReceivedFiles, Transfer};
use transfer::{Destination, Owners, PackOptions, Policy, UnpackError};

use crate::root;
use crate::scaffold::SCAFFOLDS;

/// Does what `transfer` says, over the standard streams; returns the process's exit code. `below` is where the disks
/// are mounted, if it needs that.
pub(crate) fn transfer(transfer: &Transfer, below: Option<BorrowedFd<'_>>) -> u8 {
    // Modes are those that files bring.
    rustix::process::umask(rustix::fs::Mode::empty());
    let outcome = match transfer {
        Transfer::Pack { path, follow, attributes } => pack(path, *follow, *attributes),
        Transfer::Unpack { path, name, owners } => unpack(path, name.clone(), *owners),
        Transfer::PackChanges => pack_changes(below),
    };
    u8::from(outcome.is_err())
}

/// The stream says how it went.
fn pack(path: &[u8], follow: bool, attributes: bool) -> io::Result<()> {
    let mut out = standard(rustix::stdio::stdout())?;
    let options = PackOptions { follow, attributes };
    transfer::pack(&from_root(path), options, &mut out).map_err(io::Error::other)
}

fn pack_changes(below: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let below = below.ok_or(io::ErrorKind::NotFound)?;
    let (upper, image) = root::layers(below)?;
    let mut out = standard(rustix::stdio::stdout())?;
    transfer::pack_changes(upper.as_fd(), image.as_fd(), &SCAFFOLDS, &mut out).map_err(io::Error::other)
}

fn unpack(path: &[u8], name: Option<Vec<u8>>, owners: bool) -> io::Result<()> {
    let destination = Destination { path: from_root(path), name, merge: false };
    let owners = if owners { Owners::Kept } else { Owners::Own };
    let policy = Policy { owners, privileged: true };
    let input = standard(rustix::stdio::stdin())?;
    let outcome = transfer::unpack(input, &destination, policy, &mut |_| ());
    let received = match &outcome {
        Ok(report) => Ok(ReceivedFiles { entries: report.entries, bytes: report.bytes }),
        Err(error) => Err(in_words(error)),
    };
    standard(rustix::stdio::stdout())?.write_all(&proto::encode_received(&received))?;
    outcome.map(drop).map_err(io::Error::other)
}

/// An error and those behind it.
fn in_words(error: &UnpackError) -> String {
    let mut words = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        words.push_str(": ");
        words.push_str(&cause.to_string());
        next = cause.source();
    }
    words
}

/// A path without a slash is one below the root, as in Docker.
fn from_root(path: &[u8]) -> PathBuf {
    let path = Path::new(OsStr::from_bytes(path));
    if path.is_absolute() { path.to_owned() } else { Path::new("/").join(path) }
}

fn standard(stream: BorrowedFd<'_>) -> io::Result<File> {
    Ok(File::from(stream.try_clone_to_owned()?))
}
