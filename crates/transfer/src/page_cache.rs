//! Reading and writing files past the page cache, where the file system can.
//!
//! `open(2)` says what `O_DIRECT` wants: offset, length and memory in whole blocks. Whatever cannot be had so goes
//! through the page cache, and is the same.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::OFlags;

use crate::exchange::PageCache;

/// What offsets, lengths and memory are multiples of, in bytes; no block of a Linux disk is larger.
pub(crate) const ALIGNMENT: usize = 4096;

/// Files with less than this are read and written through the page cache, in bytes.
pub(crate) const WORTH: u64 = 256 << 10;

/// Memory that starts where `O_DIRECT` wants it.
#[derive(Debug)]
pub(crate) struct Aligned {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    pub(crate) fn new(length: usize) -> Self {
        let memory = vec![0; length + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Self { memory, start, length }
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..][..self.length]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.length]
    }
}

/// Whether `bytes` start where `O_DIRECT` wants it.
pub(crate) fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().align_offset(ALIGNMENT) == 0
}

/// How one file is read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    /// Whether the page cache is to be bypassed as long as that works.
    wanted: bool,
    /// Whether it is now.
    direct: bool,
}

impl Way {
    /// The way for a file of this size.
    pub(crate) fn new(cache: PageCache, size: u64) -> Self {
        Self { wanted: cache == PageCache::Bypassed && size >= WORTH, direct: false }
    }

    /// Reads at `offset`, at most `room` bytes, which `buffer` has room for, rounded up to whole blocks.
    pub(crate) fn read_at(
        &mut self,
        file: impl AsFd,
        buffer: &mut Aligned,
        room: usize,
        offset: u64,
    ) -> rustix::io::Result<usize> {
        if self.wanted && offset.is_multiple_of(ALIGNMENT as u64) && self.turn(&file, true) {
            let whole = room.next_multiple_of(ALIGNMENT).min(buffer.len());
            match rustix::io::pread(&file, &mut buffer[..whole], offset) {
                Err(rustix::io::Errno::INVAL) => self.wanted = false,
                read => return read.map(|length| length.min(room)),
            }
        }
        self.turn(&file, false);
        rustix::io::pread(&file, &mut buffer[..room], offset)
    }

    /// Writes all of `bytes` at `offset`.
    pub(crate) fn write_all_at(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let whole = bytes.len() / ALIGNMENT * ALIGNMENT;
        let fits = whole > 0 && offset.is_multiple_of(ALIGNMENT as u64) && is_aligned(bytes);
        let mut written = 0;
        if self.wanted && fits && self.turn(file, true) {
            match file.write_all_at(&bytes[..whole], offset) {
                Ok(()) => written = whole,
                // What was written is written again.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.wanted = false,
                Err(error) => return Err(error),
            }
        }
        if written == bytes.len() {
            return Ok(());
        }
        self.turn(file, false);
        file.write_all_at(&bytes[written..], offset + written as u64)
    }

    /// Bypasses the page cache, or not; tells whether it is bypassed now.
    fn turn(&mut self, file: impl AsFd, direct: bool) -> bool {
        if self.direct != direct {
            let flags = |set: OFlags| if direct { set | OFlags::DIRECT } else { set - OFlags::DIRECT };
            let turned = rustix::fs::fcntl_getfl(&file)
                .and_then(|set| rustix::fs::fcntl_setfl(&file, flags(set)))
                .is_ok();
            self.wanted &= turned;
            self.direct = direct && turned;
        }
        self.direct
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One on a file system that knows `O_DIRECT`, which one in memory does not on older kernels.
    fn file() -> File {
        tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap()
    }

    #[test]
    fn memory_is_aligned() {
        for length in [1, ALIGNMENT, 3 * ALIGNMENT + 1] {
            let memory = Aligned::new(length);
            assert!(is_aligned(&memory));
            assert_eq!(memory.len(), length);
        }
    }

    #[test]
    fn what_is_written_past_the_page_cache_is_read_by_either_way() {
        let file = file();
        let mut memory = Aligned::new(3 * ALIGNMENT);
        for (index, byte) in memory.iter_mut().enumerate() {
            *byte = (index % 251) as u8;
        }
        let length = 2 * ALIGNMENT + 77;
        let mut way = Way::new(PageCache::Bypassed, WORTH);
        way.write_all_at(&file, &memory[..length], 0).unwrap();
        way.write_all_at(&file, &memory[..10], 9 * ALIGNMENT as u64 + 3).unwrap();
        for cache in [PageCache::Used, PageCache::Bypassed] {
            let mut way = Way::new(cache, WORTH);
            let mut read = Aligned::new(4 * ALIGNMENT);
            let got = way.read_at(&file, &mut read, length, 0).unwrap();
            assert_eq!((got, &read[..got]), (length, &memory[..length]), "{cache:?}");
            assert_eq!(way.read_at(&file, &mut read, 20, 9 * ALIGNMENT as u64 + 3).unwrap(), 10);
            assert_eq!(read[..10], memory[..10]);
        }
    }

    #[test]
    fn small_files_use_the_page_cache() {
        assert!(!Way::new(PageCache::Bypassed, WORTH - 1).wanted);
        assert!(!Way::new(PageCache::Used, WORTH).wanted);
    }
}
