//! Bytes appended to a sparse file: collected into large writes, blocks of zeros left out.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::WriteError;
use crate::format::{BLOCK, BLOCK_SIZE};

/// Bytes collected before they are written; whole blocks.
const CAPACITY: usize = 256 << 10;
/// What 32-bit block numbers can address.
const ADDRESSABLE: u64 = u32::MAX as u64 * BLOCK;

/// The end of the image's file.
#[derive(Debug)]
pub(super) struct Output<'f> {
    file: &'f File,
    limit: u64,
    /// Where `buffer` belongs; a block boundary.
    flushed: u64,
    buffer: Vec<u8>,
}

impl<'f> Output<'f> {
    pub(super) fn new(file: &'f File, limit: u64) -> Result<Self, WriteError> {
        file.set_len(0)?;
        let buffer = Vec::with_capacity(CAPACITY);
        Ok(Self { file, limit: limit.min(ADDRESSABLE), flushed: 0, buffer })
    }

    pub(super) fn position(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn append(&mut self, mut bytes: &[u8]) -> Result<(), WriteError> {
        self.check_room(bytes.len() as u64)?;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CAPACITY - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == CAPACITY {
                self.flush()?;
            }
        }
        Ok(())
    }

    pub(super) fn zeros(&mut self, length: u64) -> Result<(), WriteError> {
        self.check_room(length)?;
        let room = (CAPACITY - self.buffer.len()) as u64;
        if length < room {
            self.pad(length);
            return Ok(());
        }
        let to_boundary = self.position().next_multiple_of(BLOCK) - self.position();
        self.pad(to_boundary);
        self.flush()?;
        let beyond = length - to_boundary;
        self.flushed += beyond / BLOCK * BLOCK;
        self.pad(beyond % BLOCK);
        Ok(())
    }

    /// Appends zeros up to a multiple of `boundary`.
    pub(super) fn align(&mut self, boundary: u64) -> Result<(), WriteError> {
        self.zeros(self.position().next_multiple_of(boundary) - self.position())
    }

    /// Ends the file with a whole block, and returns it with its length.
    pub(super) fn finish(mut self) -> Result<(&'f File, u64), WriteError> {
        self.align(BLOCK)?;
        self.flush()?;
        self.file.set_len(self.flushed)?;
        Ok((self.file, self.flushed))
    }

    fn check_room(&self, length: u64) -> Result<(), WriteError> {
        match self.position().checked_add(length) {
            Some(end) if end <= self.limit => Ok(()),
            _ => Err(WriteError::TooLarge { limit: self.limit }),
        }
    }

    fn pad(&mut self, length: u64) {
        self.buffer.resize(self.buffer.len() + length as usize, 0);
    }

    /// Writes the whole blocks that were collected; called at block boundaries only.
    fn flush(&mut self) -> Result<(), WriteError> {
        let (blocks, rest) = self.buffer.as_chunks::<BLOCK_SIZE>();
        debug_assert!(rest.is_empty(), "flushed at a block boundary");
        for run in blocks.chunk_by(|left, right| is_zero(left) == is_zero(right)) {
            if !is_zero(&run[0]) {
                self.file.write_all_at(run.as_flattened(), self.flushed)?;
            }
            self.flushed += run.as_flattened().len() as u64;
        }
        self.buffer.clear();
        Ok(())
    }
}

fn is_zero(block: &[u8; BLOCK_SIZE]) -> bool {
    const ZEROS: [u8; BLOCK_SIZE] = [0; BLOCK_SIZE];
    *block == ZEROS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::MetadataExt;

    #[derive(Debug, Clone)]
    enum Step {
        Append(Vec<u8>),
        Zeros(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let sizes = prop_oneof![0..20usize, 4090..4100usize, 0..600_000usize];
        (any::<bool>(), any::<u8>(), sizes).prop_map(|(is_data, byte, size)| {
            if is_data { Step::Append(vec![byte; size]) } else { Step::Zeros(size as u64) }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_file_holds_what_was_appended(steps in proptest::collection::vec(step(), 0..8)) {
            let file = tempfile::tempfile().unwrap();
            let mut output = Output::new(&file, u64::MAX).unwrap();
            let mut expected = Vec::new();
            for step in steps {
                match step {
                    Step::Append(bytes) => {
                        output.append(&bytes).unwrap();
                        expected.extend(bytes);
                    }
                    Step::Zeros(length) => {
                        output.zeros(length).unwrap();
                        expected.resize(expected.len() + length as usize, 0);
                    }
                }
            }
            let (_, length) = output.finish().unwrap();
            expected.resize(expected.len().next_multiple_of(BLOCK_SIZE), 0);
            prop_assert_eq!(length, expected.len() as u64);
            let mut found = vec![1; expected.len()];
            file.read_exact_at(&mut found, 0).unwrap();
            prop_assert!(found == expected);
        }
    }

    #[test]
    fn blocks_of_zeros_take_no_space_whether_written_or_skipped() {
        let file = tempfile::tempfile().unwrap();
        let mut output = Output::new(&file, u64::MAX).unwrap();
        output.append(b"start").unwrap();
        output.append(&vec![0; 3 << 20]).unwrap();
        output.zeros(5 << 30).unwrap();
        output.append(b"end").unwrap();
        let (_, length) = output.finish().unwrap();
        assert!(length > 5 << 30);
        assert!(file.metadata().unwrap().blocks() * 512 <= 2 * BLOCK);
    }
}
