//! Data of large files beside the stream, through a disk that both sides have.
//!
//! ```text
//! disk       region 0 | region 1 | …           one region for each copy that is under way
//! region     block 0 | … | block BLOCKS - 1    each of BLOCK bytes
//!
//! sender     writes a block ── Header::Exchanged ──▶ receiver    in the stream, in its place
//! sender     may use it again ◀──── one byte ─────── receiver    in the order in which they came
//! ```
//!
//! A guest reads and writes a block with one request to a virtual disk, past its page cache, where the stream would
//! cost it a request for each page. What is in a block is as untrusted as what is in the stream: its length is
//! bounded before it is read, and it is read once.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::page_cache::{ALIGNMENT, Aligned, is_aligned};

/// What is exchanged at once at most, in bytes.
pub const BLOCK: usize = 2 << 20;

/// How many blocks a region has.
pub const BLOCKS: u32 = 4;

/// The size of a region, in bytes.
pub const REGION: u64 = BLOCK as u64 * BLOCKS as u64;

/// Less than this goes with the stream, in bytes.
const LEAST: usize = 64 << 10;

/// Whether a side's files and disks are read and written through its page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageCache {
    /// They are: the other side of the disk sees what is written at once, since it is a file here.
    Used,
    /// They are not: what is in it would be stale. The disk was opened with `O_DIRECT`, which `open(2)` explains.
    Bypassed,
}

/// The part of a disk that belongs to one copy.
#[derive(Debug)]
pub struct Region {
    disk: File,
    start: u64,
    cache: PageCache,
}

impl Region {
    /// The region of this number.
    pub fn new(disk: OwnedFd, number: u32, cache: PageCache) -> Self {
        Self { disk: File::from(disk), start: u64::from(number) * REGION, cache }
    }

    fn offset(&self, block: u32) -> u64 {
        self.start + u64::from(block) * BLOCK as u64
    }
}

/// The sender's side.
pub struct Sending {
    region: Region,
    /// Says a byte for each block that may be used again.
    freed: Box<dyn Read + Send>,
    next: u32,
    in_use: u32,
    sent: Arc<AtomicU64>,
    rest: Aligned,
}

impl Sending {
    /// One that hears from `freed`, a byte at a time, that the oldest block in use may be used again.
    pub fn new(region: Region, freed: impl Read + Send + 'static) -> Self {
        let rest = Aligned::new(ALIGNMENT);
        Self { region, freed: Box::new(freed), next: 0, in_use: 0, sent: Arc::default(), rest }
    }

    /// Counts the bytes that went this way.
    pub fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }

    pub(crate) fn cache(&self) -> PageCache {
        self.region.cache
    }

    /// Whether `bytes` are worth a block, and can be written to one as they are.
    pub(crate) fn takes(&self, bytes: &[u8]) -> bool {
        bytes.len() >= LEAST && (self.region.cache == PageCache::Used || is_aligned(bytes))
    }

    /// Puts `bytes`, at most [`BLOCK`], into a block, once there is one, and returns its number.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> io::Result<u32> {
        if self.in_use == BLOCKS {
            self.freed.read_exact(&mut [0])?;
            self.in_use -= 1;
        }
        let block = self.next;
        let offset = self.region.offset(block);
        let whole = match self.region.cache {
            PageCache::Used => bytes.len(),
            PageCache::Bypassed => bytes.len() / ALIGNMENT * ALIGNMENT,
        };
        let (whole, rest) = bytes.split_at(whole);
        self.region.disk.write_all_at(whole, offset)?;
        if !rest.is_empty() {
            self.rest.fill(0);
            self.rest[..rest.len()].copy_from_slice(rest);
            self.region.disk.write_all_at(&self.rest, offset + whole.len() as u64)?;
        }
        self.next = (block + 1) % BLOCKS;
        self.in_use += 1;
        self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(block)
    }
}

impl fmt::Debug for Sending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sending").field("region", &self.region).finish_non_exhaustive()
    }
}

/// The receiver's side.
pub struct Receiving {
    region: Region,
    /// Takes a byte for each block that may be used again.
    free: Box<dyn Write + Send>,
    block: Aligned,
    length: usize,
}

impl Receiving {
    /// One that says with a byte to `free` that the oldest block in use may be used again.
    pub fn new(region: Region, free: impl Write + Send + 'static) -> Self {
        Self { region, free: Box::new(free), block: Aligned::new(BLOCK), length: 0 }
    }

    pub(crate) fn cache(&self) -> PageCache {
        self.region.cache
    }

    /// Reads the first `length` bytes of a block, both of which are within their bounds.
    pub(crate) fn get(&mut self, block: u32, length: usize) -> io::Result<()> {
        let whole = length.next_multiple_of(ALIGNMENT);
        self.region.disk.read_exact_at(&mut self.block[..whole], self.region.offset(block))?;
        self.length = length;
        // A sender that has no more to send does not wait for it, and may have gone.
        let _ = self.free.write_all(b".").and_then(|()| self.free.flush());
        Ok(())
    }

    /// What was read last.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.block[..self.length]
    }
}

impl fmt::Debug for Receiving {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Receiving").field("region", &self.region).finish_non_exhaustive()
    }
}
