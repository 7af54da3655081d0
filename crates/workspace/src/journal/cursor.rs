//! Reading a journal forwards, also while it grows.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::{Directory, LONGEST_LINE};

/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// Where a line starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

impl Position {
    /// Before everything.
    pub(crate) const START: Self = Self { segment: 0, offset: 0 };

    /// Behind everything that will ever be there.
    const NEVER: Self = Self { segment: u64::MAX, offset: u64::MAX };
}

/// A place in a journal, from which lines are read.
#[derive(Debug)]
pub(crate) struct Cursor {
    directory: Directory,
    /// Where the buffer starts.
    position: Position,
    /// The segment of `position`, if it was opened.
    file: Option<File>,
    buffer: Vec<u8>,
    /// What of the buffer was handed out.
    used: usize,
    /// Whether this is amid a line that is too long, whose rest is passed over.
    skipping: bool,
    /// Whether nothing more will be added to the segment.
    complete: bool,
    /// Lines that start here or later are not read.
    end: Position,
}

impl Cursor {
    pub(crate) fn at(directory: Directory, position: Position) -> Self {
        let (buffer, end) = (Vec::new(), Position::NEVER);
        Self { directory, position, file: None, buffer, used: 0, skipping: false, complete: false, end }
    }

    /// The same, but for what is added from now on: an appender that is faster than its reader does not keep it
    /// forever.
    pub(crate) fn until_now(self) -> io::Result<Self> {
        Ok(Self { end: self.directory.end()?, ..self })
    }

    /// The next complete line, without its newline; `None` if there is none now.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        let line = self.find_line()?;
        Ok(line.map(|line| &self.buffer[line]))
    }

    /// What `read` makes of the first line that it makes something of; `None` if there is none now.
    pub(crate) fn next_read<T>(&mut self, mut read: impl FnMut(&[u8]) -> Option<T>) -> io::Result<Option<T>> {
        while let Some(line) = self.next_line()? {
            let made = read(line);
            if made.is_some() {
                return Ok(made);
            }
        }
        Ok(None)
    }

    fn find_line(&mut self) -> io::Result<Option<Range<usize>>> {
        loop {
            if self.position_of_next() >= self.end {
                return Ok(None);
            }
            if let Some(line) = self.line_in_buffer() {
                return Ok(Some(line));
            }
            if self.fill()? {
                continue;
            }
            // An incomplete line may be cut off by the next appender: it is read again when there is more.
            self.forget_buffer();
            let Some(next) = self.newer_segment()? else { return Ok(None) };
            // Only what is read now, after a newer segment was seen, is all that there is in this one.
            if self.file.is_some() && !std::mem::replace(&mut self.complete, true) {
                continue;
            }
            self.enter(next)?;
        }
    }

    /// Takes a line out of the buffer, if there is a complete one that is not too long.
    fn line_in_buffer(&mut self) -> Option<Range<usize>> {
        loop {
            let start = self.used;
            let Some(length) = self.buffer[start..].iter().position(|byte| *byte == b'\n') else {
                if self.buffer.len() - start > LONGEST_LINE {
                    self.forget(self.buffer.len());
                    self.skipping = true;
                }
                return None;
            };
            self.used = start + length + 1;
            let complete = !std::mem::take(&mut self.skipping);
            if complete && length <= LONGEST_LINE {
                return Some(start..start + length);
            }
        }
    }

    /// Where what is handed out next starts, at the earliest.
    fn position_of_next(&self) -> Position {
        Position { offset: self.position.offset + self.used as u64, ..self.position }
    }

    /// Reads on in the segment. Whether there was more.
    fn fill(&mut self) -> io::Result<bool> {
        self.forget(self.used);
        let Some(file) = &self.file else { return Ok(false) };
        let filled = self.buffer.len();
        self.buffer.resize(filled + CHUNK, 0);
        let read = file.read_at(&mut self.buffer[filled..], self.position.offset + filled as u64);
        self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
        Ok(read? > 0)
    }

    /// Moves past the first `bytes` of the buffer.
    fn forget(&mut self, bytes: usize) {
        self.buffer.drain(..bytes);
        self.position.offset += bytes as u64;
        self.used = 0;
    }

    fn forget_buffer(&mut self) {
        self.forget(self.used);
        self.buffer.clear();
    }

    /// The oldest segment after this one, or this one itself if it was not opened yet.
    fn newer_segment(&self) -> io::Result<Option<u64>> {
        let opened = self.file.is_some();
        let is_newer =
            |number: &u64| *number > self.position.segment || (!opened && *number == self.position.segment);
        Ok(self.directory.segments()?.into_iter().find(is_newer))
    }

    fn enter(&mut self, segment: u64) -> io::Result<()> {
        if segment != self.position.segment {
            self.position = Position { segment, offset: 0 };
        }
        self.buffer.clear();
        (self.used, self.skipping, self.complete) = (0, false, false);
        // One that was driven out meanwhile is followed by others.
        self.file = self.directory.open_segment(segment)?;
        Ok(())
    }
}
