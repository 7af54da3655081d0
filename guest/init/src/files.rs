//! Files that the host wants or brings, in a process of their own.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use proto::{ReceivedFiles, Transfer};
use transfer::{
    Destination, Owners, PackOptions, PageCache, Policy, Receiving, Region, Sending, UnpackError,
};

use crate::root;
use crate::scaffold::SCAFFOLDS;

/// The disk for exchange, and the number of the region that a copy has.
type Exchange<'fd> = Option<(BorrowedFd<'fd>, u32)>;

/// Does what `transfer` says, over the standard streams; returns the process's exit code. `below` is where the disks
/// are mounted.
pub(crate) fn transfer(transfer: &Transfer, exchange: Exchange<'_>, below: BorrowedFd<'_>) -> u8 {
    // Modes are those that files bring.
    rustix::process::umask(rustix::fs::Mode::empty());
    let outcome = region(exchange).and_then(|region| match transfer {
        Transfer::Pack { path, follow, attributes } => pack(path, *follow, *attributes, region),
        Transfer::Unpack { path, name, owners } => unpack(path, name.clone(), *owners, region),
        Transfer::PackChanges => pack_changes(below, region),
    });
    u8::from(outcome.is_err())
}

/// Packs what is at `path`, with all that it has, for somebody in this guest.
pub(crate) fn pack_at_once(path: &Path) -> u8 {
    u8::from(pack(path.as_os_str().as_bytes(), true, true, None).is_err())
}

fn region(exchange: Exchange<'_>) -> io::Result<Option<Region>> {
    let region = exchange.map(|(disk, number)| {
        let disk = disk.try_clone_to_owned()?;
        Ok(Region::new(disk, number, PageCache::Bypassed))
    });
    region.transpose()
}

/// Standard input says what may be used again.
fn sending(region: Option<Region>) -> io::Result<Option<Sending>> {
    region.map(|region| Ok(Sending::new(region, standard(rustix::stdio::stdin())?))).transpose()
}

/// The stream says how it went.
fn pack(path: &[u8], follow: bool, attributes: bool, region: Option<Region>) -> io::Result<()> {
    let mut out = standard(rustix::stdio::stdout())?;
    let options = PackOptions { follow, attributes };
    transfer::pack(&from_root(path), options, &mut out, sending(region)?).map_err(io::Error::other)
}

fn pack_changes(below: BorrowedFd<'_>, region: Option<Region>) -> io::Result<()> {
    let (upper, image) = root::layers(below)?;
    let mut out = standard(rustix::stdio::stdout())?;
    transfer::pack_changes(upper.as_fd(), image.as_fd(), &SCAFFOLDS, &mut out, sending(region)?)
        .map_err(io::Error::other)
}

fn unpack(path: &[u8], name: Option<Vec<u8>>, owners: bool, region: Option<Region>) -> io::Result<()> {
    let destination = Destination { path: from_root(path), name, merge: false };
    let owners = if owners { Owners::Kept } else { Owners::Own };
    let policy = Policy { owners, privileged: true };
    let input = standard(rustix::stdio::stdin())?;
    let free = standard(rustix::stdio::stderr())?;
    let exchange = region.map(|region| Receiving::new(region, free));
    let outcome = transfer::unpack(input, exchange, &destination, policy, &mut |_| ());
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
