//! Reading a log, also while it is written and its files are replaced.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::{FILES, LogEntry, LogSource, Written, file_name};
use crate::watch::Watch;

/// How often a follower asks whether more can come; what comes wakes it by itself.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Which entries to read.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// Of these sources; of all if there is none.
    pub sources: Vec<LogSource>,
    /// The last so many lines.
    pub tail: Option<usize>,
}

impl LogFilter {
    fn takes(&self, entry: &LogEntry) -> bool {
        self.since.is_none_or(|since| entry.time >= since)
            && self.until.is_none_or(|until| entry.time <= until)
            && (self.sources.is_empty() || self.sources.contains(&entry.source))
    }
}

/// Reads a log, from its start to its end, and on from there.
#[derive(Debug)]
pub struct LogReader {
    directory: PathBuf,
    filter: LogFilter,
    file: Option<File>,
    rest: Vec<u8>,
}

impl LogReader {
    /// A reader of the log in `directory`, which may not be there yet.
    pub fn new(directory: &Path, filter: LogFilter) -> Self {
        Self { directory: directory.to_owned(), filter, file: None, rest: Vec::new() }
    }

    /// Everything that is there, the oldest first.
    pub fn read(&mut self) -> io::Result<Vec<LogEntry>> {
        let mut entries = Vec::new();
        for file in self.open_all()? {
            self.file = Some(file);
            self.rest.clear();
            self.read_on(&mut entries)?;
        }
        if let Some(tail) = self.filter.tail {
            keep_lines(&mut entries, tail);
        }
        Ok(entries)
    }

    /// Waits for what comes next; empty once nothing can come any more, which `is_alive` tells.
    pub fn follow(&mut self, is_alive: &mut dyn FnMut() -> bool) -> io::Result<Vec<LogEntry>> {
        let mut watch = match Watch::new(&self.directory) {
            Ok(watch) => Some(watch),
            // There is no log yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        loop {
            // What is written after this question is found by the next look.
            let alive = is_alive();
            let mut entries = Vec::new();
            self.catch_up(&mut entries)?;
            if !entries.is_empty() || !alive {
                return Ok(entries);
            }
            if let Some(watch) = &mut watch {
                watch.wait(Some(HEARTBEAT))?;
            } else {
                std::thread::sleep(HEARTBEAT / 10);
                watch = Watch::new(&self.directory).ok();
            }
        }
    }

    /// Reads on in the file that was the newest, and then in those that came after it.
    fn catch_up(&mut self, entries: &mut Vec<LogEntry>) -> io::Result<()> {
        self.read_on(entries)?;
        let Some(current) = &self.file else {
            for file in self.open_all()? {
                self.file = Some(file);
                self.read_on(entries)?;
            }
            return Ok(());
        };
        let current = current.metadata()?.ino();
        let mut newer = Vec::new();
        for file in self.open_all()?.into_iter().rev() {
            if file.metadata()?.ino() == current {
                break;
            }
            newer.push(file);
        }
        if !newer.is_empty() {
            // It was the newest when it was read last; something may have come before it was replaced.
            self.read_on(entries)?;
        }
        for file in newer.into_iter().rev() {
            self.rest.clear();
            self.file = Some(file);
            self.read_on(entries)?;
        }
        Ok(())
    }

    /// The files, the oldest first. One that is renamed meanwhile is not opened twice.
    fn open_all(&self) -> io::Result<Vec<File>> {
        let mut files: Vec<File> = Vec::new();
        for number in (0..FILES).rev() {
            match File::open(file_name(&self.directory, number)) {
                Ok(file) => {
                    let same =
                        |other: &File| Ok::<_, io::Error>(other.metadata()?.ino() == file.metadata()?.ino());
                    let known = files.iter().map(same).collect::<io::Result<Vec<_>>>()?;
                    if !known.contains(&true) {
                        files.push(file);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }

    /// Takes whole lines from the open file.
    fn read_on(&mut self, entries: &mut Vec<LogEntry>) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.read_to_end(&mut self.rest)?;
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in self.rest[..whole].split(|byte| *byte == b'\n') {
            // What is no entry was torn by a crash.
            let entry = serde_json::from_slice::<Written>(line).ok().and_then(Written::entry);
            entries.extend(entry.filter(|entry| self.filter.takes(entry)));
        }
        self.rest.drain(..whole);
        Ok(())
    }
}

/// Keeps the entries of the last `count` lines; a piece belongs to the line that it goes on.
fn keep_lines(entries: &mut Vec<LogEntry>, count: usize) {
    let mut left = count;
    let mut from = entries.len();
    for (index, entry) in entries.iter().enumerate().rev() {
        let before = entries[..index].iter().rev().find(|before| before.source == entry.source);
        let begins = before.is_none_or(|before| {
            before.bytes.ends_with(
                b"
",
            )
        });
        if left == 0 {
            break;
        }
        from = index;
        left -= usize::from(begins);
    }
    entries.drain(..from);
}
