//! The disk through which large files go between host and guest, and whose copy has which part of it.
//!
//! On this side it is a file in memory without a name, which takes as much as copies that are under way need. A copy
//! has a *region* of it until the guest's process that uses it has ended, so no two ever write to the same place.
//! What is on it is the guest's word, and whoever has the region reads it as that.
//!
//! ```text
//! supervisor, run, helper      the machine is theirs: they give out regions
//! client ── Request::Exchange ──▶ supervisor                  the connection holds the region for the client,
//! client ◀── its number, and the file as a descriptor ──      and its process holds it in the guest
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex, Weak};

use proto::OutputStream;
use rustix::fs::{FallocateFlags, MemfdFlags};
use transfer::{PageCache, REGION, Receiving, Region, Sending};

use crate::agent::ProcessHandle;
use crate::control::{self, Reply, Request};
use crate::descriptors;

/// How many copies of one machine can have a region at the same time. The others go without.
const REGIONS: usize = 4;

/// A machine's disk for exchange. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Exchange(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    disk: File,
    leases: Mutex<[Option<Weak<Lease>>; REGIONS]>,
}

impl Exchange {
    /// An empty file for one.
    pub(crate) fn blank() -> io::Result<File> {
        let disk = File::from(rustix::fs::memfd_create("microagent-exchange", MemfdFlags::CLOEXEC)?);
        disk.set_len(REGIONS as u64 * REGION)?;
        Ok(disk)
    }

    /// The one whose file this is. Nobody else gives out its regions.
    pub(crate) fn new(disk: File) -> Self {
        Self(Arc::new(Shared { disk, leases: Mutex::default() }))
    }

    /// Its file.
    pub(crate) fn disk(&self) -> &File {
        &self.0.disk
    }

    /// A region that nobody has, unless all are taken.
    pub(crate) fn lease(&self) -> Option<Arc<Lease>> {
        let mut leases = self.0.leases.lock().expect("no holder panics");
        let number = leases.iter().position(Option::is_none)?;
        let lease = Arc::new(Lease { exchange: self.clone(), number });
        leases[number] = Some(Arc::downgrade(&lease));
        Some(lease)
    }

    /// The lease of a region that somebody has.
    pub(crate) fn leased(&self, number: u32) -> Option<Arc<Lease>> {
        let leases = self.0.leases.lock().expect("no holder panics");
        leases.get(number as usize)?.as_ref()?.upgrade()
    }
}

/// The right to a region, until the last copy of it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    exchange: Exchange,
    number: usize,
}

impl Lease {
    pub(crate) fn number(&self) -> u32 {
        u32::try_from(self.number).expect("there are few")
    }

    fn region(&self) -> io::Result<Region> {
        let disk = self.exchange.disk().try_clone()?;
        Ok(Region::new(disk.into(), self.number(), PageCache::Used))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What was on its way is nobody's any more, and takes no memory.
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let start = self.number as u64 * REGION;
        let _ = rustix::fs::fallocate(self.exchange.disk(), punch, start, REGION);
        self.exchange.0.leases.lock().expect("no holder panics")[self.number] = None;
    }
}

/// Where an agent's copies get their regions.
#[derive(Debug, Clone)]
pub(crate) enum Regions {
    /// Nowhere.
    None,
    /// The machine is ours.
    Own(Exchange),
    /// From the supervisor of the workspace in this directory.
    Supervisor(PathBuf),
}

/// What keeps a region from others: to be held until the process in the guest has ended, and by whoever here still
/// reads or writes it.
#[derive(Debug, Clone)]
#[expect(dead_code, reason = "it is held, and not looked at")]
pub(crate) enum Holder {
    Own(Arc<Lease>),
    Supervisor(Arc<StdUnixStream>),
}

/// A region that a copy has.
#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) number: u32,
    pub(crate) holder: Holder,
    region: Region,
}

impl Leased {
    /// A region, if one is to be had.
    pub(crate) fn get(regions: &Regions) -> Option<Self> {
        let leased = match regions {
            Regions::None => return None,
            Regions::Own(exchange) => Self::own(exchange.lease()?),
            Regions::Supervisor(directory) => Self::ask(directory),
        };
        // Without one everything is as it should be, and slower.
        leased.inspect_err(|error| tracing::debug!(%error, "the copy has no region for exchange")).ok()
    }

    fn own(lease: Arc<Lease>) -> io::Result<Self> {
        Ok(Self { number: lease.number(), region: lease.region()?, holder: Holder::Own(lease) })
    }

    fn ask(directory: &Path) -> io::Result<Self> {
        let (reply, stream) = control::open(directory, &Request::Exchange).map_err(io::Error::other)?;
        let Reply::Region { number } = reply else {
            return Err(io::Error::other("the supervisor has none to give"));
        };
        let mut received = descriptors::receive(&stream)?;
        let disk = received.pop().ok_or(io::ErrorKind::UnexpectedEof)?;
        let region = Region::new(disk, number, PageCache::Used);
        Ok(Self { number, region, holder: Holder::Supervisor(Arc::new(stream)) })
    }

    /// Receives what `process` packs, and lets it use the blocks again.
    pub(crate) fn receiving(self, process: ProcessHandle) -> Receiving {
        Receiving::new(self.region, Freeing { process, _holder: self.holder })
    }

    /// Sends to a process in the guest that unpacks, and which says how many blocks may be used again through what this
    /// returns beside.
    pub(crate) fn sending(self) -> (blocking::Sender<usize>, Sending) {
        let (sender, waiting) = blocking::channel();
        (sender, Sending::new(self.region, Freed { waiting, left: 0, _holder: Some(self.holder) }))
    }
}

/// Gives a client a region, and holds it until the client hangs up.
pub(crate) async fn give(lease: &Lease, stream: &mut tokio::net::UnixStream) -> io::Result<()> {
    descriptors::send(&*stream, &[lease.exchange.disk().as_fd()])?;
    tokio::io::AsyncReadExt::read(stream, &mut [0]).await.map(drop)
}

/// Says through a process's input that blocks may be used again.
struct Freeing {
    process: ProcessHandle,
    _holder: Holder,
}

impl Write for Freeing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // There is always room for what an honest guest waits for.
        if self.process.input_now(bytes) { Ok(bytes.len()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Freeing {
    fn drop(&mut self) {
        // Whoever still waits learns that nothing more will be free.
        self.process.end_input();
    }
}

/// How many blocks a process in the guest says may be used again, a byte each.
struct Freed {
    waiting: blocking::Receiver<usize>,
    left: usize,
    _holder: Option<Holder>,
}

impl Read for Freed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            let Ok(more) = self.waiting.recv() else { return Ok(0) };
            self.left += more;
        }
        let length = buffer.len().min(self.left);
        buffer[..length].fill(b'.');
        self.left -= length;
        Ok(length)
    }
}

/// Credits what a process wrote to its standard error while it unpacked.
pub(crate) fn hear_freed(process: &ProcessHandle, freed: Option<&blocking::Sender<usize>>, length: usize) {
    process.credit(OutputStream::Stderr, length);
    if let Some(freed) = freed {
        // Whoever sends may be done.
        let _ = freed.send(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn a_region_is_held_by_one_copy_and_takes_no_memory_afterwards() {
        let exchange = Exchange::new(Exchange::blank().unwrap());
        let leases: Vec<_> = std::iter::from_fn(|| exchange.lease()).collect();
        let numbers: Vec<_> = leases.iter().map(|lease| lease.number()).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        assert!(exchange.leased(4).is_none());
        let disk = exchange.disk();
        disk.write_all_at(&vec![1; 5 << 20], REGION + 3).unwrap();
        let in_guest = exchange.leased(1).unwrap();
        drop(leases);
        assert!(exchange.leased(0).is_none());
        assert!(disk.metadata().unwrap().blocks() * 512 >= 5 << 20);
        let others = [(); 2].map(|()| exchange.lease().unwrap());
        assert_eq!(others.map(|lease| lease.number()), [0, 2], "the guest still uses 1");
        drop(in_guest);
        assert_eq!(disk.metadata().unwrap().blocks(), 0);
    }

    #[test]
    fn blocks_are_freed_a_byte_each() {
        let (sender, waiting) = blocking::channel();
        let mut freed = Freed { waiting, left: 0, _holder: None };
        sender.send(2).unwrap();
        sender.send(1).unwrap();
        for _ in 0..3 {
            freed.read_exact(&mut [0]).unwrap();
        }
        drop(sender);
        assert_eq!(freed.read(&mut [0]).unwrap(), 0);
    }
}
