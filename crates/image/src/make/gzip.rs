//! gzip on all processors: blocks of 1 MiB, each a member of its own, one behind the other.
//!
//! ```text
//!                 ┌─▶ worker ─┐
//! tar ──▶ blocks ─┼─▶ worker ─┼─▶ members, in the order of the blocks ──▶ blob
//!                 └─▶ worker ─┘
//! ```
//!
//! A stream of members is what RFC 1952 says a gzip file is. What a block becomes depends on its bytes alone, so the
//! same tar is the same blob on every host. What does not get smaller, such as media and archives, is stored as it is,
//! which is found out by a try at its beginning and its middle.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::Compression;
use flate2::write::GzEncoder;

/// Bytes of a block, before it is packed.
const BLOCK: usize = 1 << 20;
/// Good enough for what is mostly code and text, at twice the speed of the usual level.
const LEVEL: u32 = 4;
/// Bytes of each try, and what it must become to be worth it, in percent.
const TRY: usize = 32 << 10;
const WORTH: usize = 96;
/// More than this many workers wait for whoever reads the tar.
const MAX_WORKERS: usize = 8;

type Job = (Vec<u8>, Sender<io::Result<Vec<u8>>>);

/// Packs what is written to it.
pub(super) struct GzipWriter<W> {
    out: W,
    block: Vec<u8>,
    jobs: Sender<Job>,
    /// What becomes of the blocks that are being packed, in their order.
    members: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    ahead: usize,
    is_empty: bool,
}

impl<W: Write> GzipWriter<W> {
    /// Starts the workers, which end with it.
    pub(super) fn new(out: W) -> io::Result<Self> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
        let (jobs, waiting) = channel::<Job>();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..workers {
            let waiting = Arc::clone(&waiting);
            std::thread::Builder::new().name("gzip".to_owned()).spawn(move || work(&waiting))?;
        }
        let block = Vec::with_capacity(BLOCK);
        Ok(Self { out, block, jobs, members: VecDeque::new(), ahead: workers + 2, is_empty: true })
    }

    /// Packs what is left, and returns what it was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        // Nothing at all is a member with nothing in it.
        if !self.block.is_empty() || self.is_empty {
            self.pack()?;
        }
        while !self.members.is_empty() {
            self.put()?;
        }
        Ok(self.out)
    }

    /// Hands a block to the workers.
    fn pack(&mut self) -> io::Result<()> {
        self.is_empty = false;
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let (done, member) = channel();
        self.jobs.send((block, done)).map_err(|_| gone())?;
        self.members.push_back(member);
        if self.members.len() > self.ahead { self.put() } else { Ok(()) }
    }

    /// Writes the oldest member, once it is packed.
    fn put(&mut self) -> io::Result<()> {
        let Some(member) = self.members.pop_front() else { return Ok(()) };
        self.out.write_all(&member.recv().map_err(|_| gone())??)
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..length]);
        if self.block.len() == BLOCK {
            self.pack()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gone() -> io::Error {
    io::Error::other("a thread that packs ended")
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((block, done)) = next else { return };
        // Whoever waits may have given up.
        let _ = done.send(member(&block));
    }
}

/// A block as a member. Its header has neither a name nor a time.
fn member(block: &[u8]) -> io::Result<Vec<u8>> {
    let level = if is_worth_it(block)? { LEVEL } else { 0 };
    packed(block, level)
}

fn is_worth_it(block: &[u8]) -> io::Result<bool> {
    if block.len() < 2 * TRY {
        return Ok(true);
    }
    for start in [0, block.len() / 2] {
        let tried = packed(&block[start..start + TRY], LEVEL)?;
        if tried.len() * 100 < TRY * WORTH {
            return Ok(true);
        }
    }
    Ok(false)
}

fn packed(bytes: &[u8], level: u32) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::new(level));
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn gzip(content: &[u8], piece: usize) -> Vec<u8> {
        let mut writer = GzipWriter::new(Vec::new()).unwrap();
        for piece in content.chunks(piece) {
            writer.write_all(piece).unwrap();
        }
        writer.finish().unwrap()
    }

    fn gunzip(packed: &[u8]) -> Vec<u8> {
        let mut content = Vec::new();
        flate2::read::MultiGzDecoder::new(packed).read_to_end(&mut content).unwrap();
        content
    }

    /// Bytes that nothing makes smaller.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn blocks_come_out_in_their_order_however_they_went_in() {
        let text: Vec<u8> = (0..5_000_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        let one = gzip(&text, 1 << 20);
        assert_eq!(gunzip(&one), text);
        assert!(one.len() < text.len() / 2, "{}", one.len());
        assert_eq!(gzip(&text, 12_345), one);
    }

    #[test]
    fn what_does_not_get_smaller_is_stored() {
        let noise = noise(3 << 20);
        let packed = gzip(&noise, 1 << 20);
        assert_eq!(gunzip(&packed), noise);
        assert!(packed.len() < noise.len() + noise.len() / 1000, "{}", packed.len());
        let mixed = [&noise[..1 << 19], &vec![0; 1 << 19]].concat();
        assert!(gzip(&mixed, 1 << 20).len() < 600_000, "a half that gets smaller is worth it");
    }

    #[test]
    fn a_failure_to_write_is_told() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = GzipWriter::new(Full).unwrap();
        let failed = (0..100).find_map(|_| writer.write_all(&vec![0; BLOCK]).err());
        assert_eq!(failed.unwrap().kind(), io::ErrorKind::StorageFull);
    }

    proptest! {
        #[test]
        fn any_content_comes_back(content in proptest::collection::vec(any::<u8>(), 0..5000)) {
            prop_assert_eq!(gunzip(&gzip(&content, 100)), content);
        }
    }
}
