//! What a workspace said: its console and its service's streams, kept across restarts, rotated at a bound.
//!
//! ```text
//! logs/
//! ├── log.jsonl      the newest; one JSON document a line
//! ├── log.1.jsonl    the one before, and so on
//! └── log.3.jsonl    the oldest
//! {"time":"2026-01-01T00:00:00.000000000Z","source":"stdout","text":"hello\n"}
//! ```
//!
//! An entry is a line of the source's, with its end, or a piece of one that is long or took a while to end. The
//! entries of a source in their order are exactly its bytes; what is not UTF-8 is in `base64` in place of `text`.

mod reader;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use reader::{LogFilter, LogReader};

/// The size at which a new file is begun, in bytes, and how many files there are.
const BOUND: u64 = 10 << 20;
const FILES: u32 = 4;

/// The longest piece of a line, in bytes.
const LONGEST_PIECE: usize = 16 * 1024;

/// How long a line without an end waits for it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogSource {
    /// The serial console: the kernel and whatever writes there.
    Console,
    /// The service's standard output, or its terminal.
    Stdout,
    /// The service's standard error.
    Stderr,
}

/// A line, or a piece of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// When its first byte came.
    pub time: Timestamp,
    /// Who said it.
    pub source: LogSource,
    /// What, with the line's end if it is there.
    pub bytes: Vec<u8>,
}

/// An entry in its file.
#[derive(Serialize, Deserialize)]
struct Written {
    time: Timestamp,
    source: LogSource,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    base64: Option<String>,
}

impl From<&LogEntry> for Written {
    fn from(entry: &LogEntry) -> Self {
        let text = std::str::from_utf8(&entry.bytes).ok().map(str::to_owned);
        let base64 = text.is_none().then(|| BASE64_STANDARD.encode(&entry.bytes));
        Self { time: entry.time, source: entry.source, text, base64 }
    }
}

impl Written {
    fn entry(self) -> Option<LogEntry> {
        let bytes = match (self.text, self.base64) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(base64)) => BASE64_STANDARD.decode(base64).ok()?,
            (None, None) => return None,
        };
        Some(LogEntry { time: self.time, source: self.source, bytes })
    }
}

impl Serialize for LogEntry {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written::from(self).serialize(serializer)
    }
}

/// Writes a workspace's log; there is one writer at a time.
#[derive(Debug)]
pub(crate) struct LogWriter {
    directory: PathBuf,
    file: Option<File>,
    size: u64,
    lines: [Line; 3],
    /// Entries that a full disk did not take.
    lost: u64,
}

/// A line that has not ended.
#[derive(Debug, Default)]
struct Line {
    bytes: Vec<u8>,
    began: Option<(Timestamp, Instant)>,
}

impl LogWriter {
    /// Opens the log in `directory`, which is made if it is not there.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        match std::fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let mut writer =
            Self { directory: directory.to_owned(), file: None, size: 0, lines: Default::default(), lost: 0 };
        writer.begin_file()?;
        Ok(writer)
    }

    /// Takes in what `source` said. A host's disk that is full loses entries, which are counted, and nothing else.
    pub(crate) fn write(&mut self, source: LogSource, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = &mut self.lines[source as usize];
            line.began.get_or_insert_with(|| (Timestamp::now(), Instant::now()));
            line.bytes.extend_from_slice(piece);
            if piece.ends_with(b"\n") || line.bytes.len() >= LONGEST_PIECE {
                self.end_line(source);
            }
        }
    }

    /// When [`LogWriter::flush_late`] has something to do, if it will.
    pub(crate) fn next_late(&self) -> Option<Instant> {
        let began = self.lines.iter().filter_map(|line| line.began);
        began.map(|(_, began)| began + PATIENCE).min()
    }

    /// Writes lines that wait for their end for too long, as a prompt does.
    pub(crate) fn flush_late(&mut self) {
        let now = Instant::now();
        self.flush_if(|began| began + PATIENCE <= now);
    }

    /// Writes all lines, ended or not.
    pub(crate) fn flush_partial(&mut self) {
        self.flush_if(|_| true);
    }

    fn flush_if(&mut self, due: impl Fn(Instant) -> bool) {
        for source in [LogSource::Console, LogSource::Stdout, LogSource::Stderr] {
            if self.lines[source as usize].began.is_some_and(|(_, began)| due(began)) {
                self.end_line(source);
            }
        }
    }

    fn end_line(&mut self, source: LogSource) {
        let line = std::mem::take(&mut self.lines[source as usize]);
        let Some((time, _)) = line.began else { return };
        for bytes in line.bytes.chunks(LONGEST_PIECE) {
            self.append(&LogEntry { time, source, bytes: bytes.to_vec() });
        }
    }

    fn append(&mut self, entry: &LogEntry) {
        if self.lost > 0 {
            let text = format!("microagent: {} entries of this log were lost\n", self.lost);
            let note = LogEntry { time: entry.time, source: LogSource::Console, bytes: text.into_bytes() };
            if self.try_append(&note).is_ok() {
                self.lost = 0;
            }
        }
        if let Err(error) = self.try_append(entry) {
            tracing::debug!(%error, "a log entry is lost");
            self.lost += 1;
            // Half of it may be there: the next goes to another line.
            self.file = None;
        }
    }

    fn try_append(&mut self, entry: &LogEntry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry).expect("entries are plain data");
        line.push(b'\n');
        if self.size + line.len() as u64 > BOUND {
            self.rotate()?;
        }
        if self.file.is_none() {
            self.begin_file()?;
        }
        let file = self.file.as_mut().expect("it was just opened");
        file.write_all(&line)?;
        self.size += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        for number in (0..FILES - 1).rev() {
            match std::fs::rename(file_name(&self.directory, number), file_name(&self.directory, number + 1))
            {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.begin_file()
    }

    /// Opens the newest file. A line that a crash tore is ended, so that it spoils no other.
    fn begin_file(&mut self) -> io::Result<()> {
        let mut file =
            File::options().create(true).append(true).read(true).open(file_name(&self.directory, 0))?;
        self.size = file.metadata()?.len();
        let mut last = [b'\n'];
        if self.size > 0 {
            rustix::io::pread(&file, &mut last, self.size - 1)?;
        }
        if last != [b'\n'] {
            file.write_all(b"\n")?;
            self.size += 1;
        }
        self.file = Some(file);
        Ok(())
    }
}

/// The newest file is number 0.
fn file_name(directory: &Path, number: u32) -> PathBuf {
    directory.join(if number == 0 { "log.jsonl".to_owned() } else { format!("log.{number}.jsonl") })
}

#[cfg(test)]
mod tests;
