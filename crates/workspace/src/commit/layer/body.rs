//! The content of a file in an archive: what its segments have, and nothing of the holes between them.

use std::io::Read;

use transfer::{Header, Reader};

use super::LayerError;
use super::header::BLOCK;

/// A file's content, as it arrives.
#[derive(Debug)]
pub(super) struct Body {
    /// Offsets and lengths of what is in the archive, ascending.
    segments: std::vec::IntoIter<(u64, u64)>,
    /// The bytes that they have.
    stored: u64,
    /// The end of the segment that is being read.
    end: u64,
    /// Where in the file reading is.
    position: u64,
    /// Where the data are that the stream has next.
    data: Option<(u64, u64)>,
    /// Whether it has none any more.
    exhausted: bool,
}

/// How much of a buffer was filled.
pub(super) struct Filled {
    pub(super) length: usize,
    /// Whether the stream had it; it is zeros otherwise.
    pub(super) sent: bool,
}

impl Body {
    /// The content of a file of `size` bytes, of which the archive has `segments`.
    pub(super) fn new(segments: Vec<(u64, u64)>, size: u64) -> Self {
        let stored = segments.iter().map(|(_, length)| length).sum();
        debug_assert!(stored <= size, "segments are checked to be apart and inside");
        let segments = segments.into_iter();
        Self { segments, stored, end: 0, position: 0, data: None, exhausted: false }
    }

    /// How many bytes the archive has of it.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    /// How many bytes fill the last block.
    pub(super) fn padding(&self) -> usize {
        (self.stored.next_multiple_of(BLOCK as u64) - self.stored) as usize
    }

    /// Fills `buffer` with what comes next; nothing at the end.
    pub(super) fn fill(
        &mut self,
        stream: &mut Reader<impl Read>,
        buffer: &mut [u8],
    ) -> Result<Filled, LayerError> {
        if self.data.is_none() && !self.exhausted {
            self.data = next_data(stream)?;
            self.exhausted = self.data.is_none();
        }
        while self.position == self.end {
            let Some((offset, length)) = self.segments.next() else {
                // The last segment's end is no place for more.
                let outside = self.data.is_some();
                return if outside { Err(OUTSIDE) } else { Ok(Filled { length: 0, sent: true }) };
            };
            (self.position, self.end) = (offset, offset + length);
        }
        let until = match self.data {
            Some((start, _)) if start < self.position => return Err(OUTSIDE),
            Some((start, end)) if start == self.position => return self.pass(stream, buffer, end),
            Some((start, _)) => start.min(self.end),
            None => self.end,
        };
        let length = room(buffer, until - self.position);
        buffer[..length].fill(0);
        self.position += length as u64;
        Ok(Filled { length, sent: false })
    }

    /// Passes on of the data that the stream has, to `end` in the file.
    fn pass(
        &mut self,
        stream: &mut Reader<impl Read>,
        buffer: &mut [u8],
        end: u64,
    ) -> Result<Filled, LayerError> {
        if end > self.end {
            return Err(OUTSIDE);
        }
        let length = room(buffer, end - self.position);
        let length = stream.read_data(&mut buffer[..length])?;
        self.position += length as u64;
        self.data = (self.position < end).then_some((self.position, end));
        Ok(Filled { length, sent: true })
    }
}

const OUTSIDE: LayerError = LayerError::Protocol("data is outside of its file's segments");

fn room(buffer: &[u8], wanted: u64) -> usize {
    usize::try_from(wanted).map_or(buffer.len(), |wanted| wanted.min(buffer.len()))
}

fn next_data(stream: &mut Reader<impl Read>) -> Result<Option<(u64, u64)>, LayerError> {
    if !stream.data_follows()? {
        return Ok(None);
    }
    let Header::Data { offset, length } = stream.next_header()? else {
        return Err(LayerError::Protocol("data does not follow"));
    };
    Ok(Some((offset, offset + u64::from(length))))
}
