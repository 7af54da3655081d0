//! Adding lines to a journal. There is one appender at a time: who has one holds a lock that says so.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Directory;

/// How large a journal gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The bytes of a segment.
    pub(crate) segment: u64,
    /// The segments that are kept.
    pub(crate) segments: usize,
}

/// The end of a journal.
#[derive(Debug)]
pub(crate) struct Appender {
    directory: Directory,
    bounds: Bounds,
    number: u64,
    file: File,
    length: u64,
}

/// Not all lines could be added.
#[derive(Debug)]
pub(crate) struct Incomplete {
    /// The bytes that are there nevertheless: whole lines.
    pub(crate) kept: usize,
    /// Why not more.
    pub(crate) source: io::Error,
}

impl Appender {
    /// Opens the journal's end, and cuts off what a crash left of a line.
    pub(crate) fn open(directory: Directory, bounds: Bounds) -> io::Result<Self> {
        let number = directory.segments()?.last().copied().unwrap_or(1);
        let file = directory.open_for_appending(number, OFlags::CREATE)?;
        let found = file.metadata()?.len();
        let length = end_of_last_line(&file, found)?;
        if length < found {
            file.set_len(length)?;
        }
        Ok(Self { directory, bounds, number, file, length })
    }

    /// Adds whole lines.
    pub(crate) fn append(&mut self, lines: &[u8]) -> Result<(), Incomplete> {
        let fits = self.length + lines.len() as u64 <= self.bounds.segment;
        if self.length > 0 && !fits {
            self.next_segment().map_err(|source| Incomplete { kept: 0, source })?;
        }
        let (written, outcome) = write(&self.file, lines);
        let Err(source) = outcome else {
            self.length += written as u64;
            return Ok(());
        };
        let kept = lines[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.length += kept as u64;
        // A reader may have seen whole lines already, so only what follows them is cut off. A full disk does not
        // keep a file from getting shorter; where something else does, the next opening cuts it off.
        let _ = self.file.set_len(self.length);
        Err(Incomplete { kept, source })
    }

    /// Makes what was added outlive a crash of the host.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.directory.sync()
    }

    fn next_segment(&mut self) -> io::Result<()> {
        let kept = self.bounds.segments.saturating_sub(1);
        let segments = self.directory.segments()?;
        for number in &segments[..segments.len().saturating_sub(kept)] {
            self.directory.remove_segment(*number)?;
        }
        let next = segments.last().map_or(self.number, |last| self.number.max(*last)) + 1;
        self.file = self.directory.open_for_appending(next, OFlags::CREATE | OFlags::EXCL)?;
        (self.number, self.length) = (next, 0);
        Ok(())
    }
}

/// Writes all of `bytes`, or tells how many of them it wrote.
fn write(file: &File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::write(file, &bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(Errno::INTR) => {}
            Err(error) => return (written, Err(error.into())),
        }
    }
    (written, Ok(()))
}

/// Where the last complete line ends, in a file of `length` bytes.
fn end_of_last_line(file: &File, length: u64) -> io::Result<u64> {
    let mut end = length;
    let mut buffer = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(buffer.len() as u64);
        let part = &mut buffer[..(end - start) as usize];
        file.read_exact_at(part, start)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
