//! Journals: files of JSON lines that only grow, in numbered segments of bounded size.
//!
//! ```text
//! <directory>/
//! ├── 00000007.jsonl    the oldest segment that is kept; the next one drives it out
//! ├── 00000008.jsonl    complete: nothing is added once there is a newer one
//! └── 00000009.jsonl    what is appended to
//! ```
//!
//! A segment is never renamed, so a reader that follows knows where to go on: when there is a newer segment, the
//! one before it is complete. A line counts when its newline is there; what a crash or a full disk left of one is
//! cut off by the next appender and never looked at by readers. Readers take no lock.

mod appender;
mod cursor;
mod watch;

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};

pub(crate) use appender::{Appender, Bounds};
pub(crate) use cursor::{Cursor, Position};
pub(crate) use watch::{Seen, Watch};

/// No line of ours is as long; a longer one is not ours, and skipped.
pub(crate) const LONGEST_LINE: usize = 64 << 10;

/// A journal's directory, wherever it is renamed to.
#[derive(Debug)]
pub(crate) struct Directory {
    handle: File,
}

impl Directory {
    /// Opens the directory at `path`, making it if it is missing. Its parent must be there.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        Self::open(path)
    }

    /// Opens the directory at `path`.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self { handle: rustix::fs::open(path, flags, Mode::empty())?.into() })
    }

    /// The numbers of the segments that are there, oldest first.
    pub(crate) fn segments(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in Dir::read_from(&self.handle)? {
            numbers.extend(entry?.file_name().to_str().ok().and_then(segment_number));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Where the next line will be added; the start if nothing was.
    fn end(&self) -> io::Result<Position> {
        let Some(segment) = self.segments()?.pop() else { return Ok(Position::START) };
        let length = self.open_segment(segment)?.map_or(Ok(0), |file| file.metadata().map(|it| it.len()))?;
        Ok(Position { segment, offset: length })
    }

    /// Hands the complete lines to `visit` with where they start, the newest first, until it breaks.
    pub(crate) fn lines_backwards(
        &self,
        mut visit: impl FnMut(Position, &[u8]) -> ControlFlow<()>,
    ) -> io::Result<()> {
        for segment in self.segments()?.into_iter().rev() {
            let Some(file) = self.open_segment(segment)? else { continue };
            let mut content = Vec::new();
            io::Read::read_to_end(&mut { file }, &mut content)?;
            let mut end = content.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
            while end > 0 {
                let start = content[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                let position = Position { segment, offset: start as u64 };
                if visit(position, &content[start..end]).is_break() {
                    return Ok(());
                }
                end = start.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// `None` if it was driven out.
    fn open_segment(&self, number: u64) -> io::Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.handle, segment_name(number), flags, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn open_for_appending(&self, number: u64, extra: OFlags) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CLOEXEC | extra;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(rustix::fs::openat(&self.handle, segment_name(number), flags, mode)?.into())
    }

    fn remove_segment(&self, number: u64) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.handle, segment_name(number), AtFlags::empty())?)
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    /// A path that leads there for as long as this value lives.
    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.handle.as_raw_fd()).into()
    }
}

fn segment_name(number: u64) -> String {
    format!("{number:08}.jsonl")
}

fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".jsonl")?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

#[cfg(test)]
mod tests;
