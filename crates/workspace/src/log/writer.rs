//! Writing a workspace's log. Who supervises the workspace, and so holds its lock, has the one writer.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::BOUNDS;
use super::entry::{LogSource, encode_entry, encode_loss};
use crate::journal::{Appender, Directory};

/// A longer line is kept in parts.
const LONGEST_PART: usize = 16 << 10;

/// How long something without a newline waits for one.
const PATIENCE: Duration = Duration::from_secs(1);

/// How much is written at once.
const BATCH: usize = 64 << 10;

/// The end of a workspace's log.
///
/// Nothing here fails its caller: what there is no room for is counted, and the count is written when there is.
#[derive(Debug)]
pub struct LogWriter {
    appender: Appender,
    /// What each source has said of a line.
    parts: [Part; LogSource::ALL.len()],
    /// Entries that are about to be written.
    batch: Vec<u8>,
    entries: u64,
    lost: Option<Loss>,
}

#[derive(Debug, Default)]
struct Part {
    bytes: Vec<u8>,
    /// When the first of the bytes arrived; none if there are none.
    arrived: Option<(Timestamp, Instant)>,
    continued: bool,
}

#[derive(Debug)]
struct Loss {
    since: Timestamp,
    entries: u64,
}

impl LogWriter {
    /// Opens the log in `directory`, which is made if it is missing, and mends what a crash left.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let appender = Appender::open(Directory::make(directory)?, BOUNDS)?;
        Ok(Self { appender, parts: Default::default(), batch: Vec::new(), entries: 0, lost: None })
    }

    /// Takes what `source` said.
    pub fn write(&mut self, source: LogSource, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let now = (Timestamp::now(), Instant::now());
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.add(source, piece, now);
        }
        self.flush_until(now.1);
        self.commit();
    }

    /// When [`LogWriter::flush_late`] has something to do, if it will: something waits for its newline.
    pub fn next_late(&self) -> Option<Instant> {
        let arrivals = self.parts.iter().filter_map(|part| part.arrived);
        arrivals.map(|(_, at)| at + PATIENCE).min()
    }

    /// Makes entries of what has waited for its newline for too long, as a prompt does.
    pub fn flush_late(&mut self) {
        self.flush_until(Instant::now());
        self.commit();
    }

    /// Makes entries of all that waits for its newline.
    pub fn flush_partial(&mut self) {
        for source in LogSource::ALL {
            self.emit(source);
        }
        self.commit();
    }

    fn flush_until(&mut self, now: Instant) {
        for source in LogSource::ALL {
            let arrived = self.parts[source as usize].arrived;
            if arrived.is_some_and(|(_, at)| at + PATIENCE <= now) {
                self.emit(source);
            }
        }
    }

    /// Takes a line, or a part of one: there is no newline but at its end.
    fn add(&mut self, source: LogSource, mut piece: &[u8], now: (Timestamp, Instant)) {
        while !piece.is_empty() {
            let part = &mut self.parts[source as usize];
            part.arrived.get_or_insert(now);
            let (fits, rest) = piece.split_at(piece.len().min(LONGEST_PART - part.bytes.len()));
            part.bytes.extend_from_slice(fits);
            piece = rest;
            let is_full = part.bytes.len() == LONGEST_PART;
            if part.bytes.ends_with(b"\n") {
                self.emit(source);
            } else if is_full {
                self.emit_characters(source, now);
            }
        }
    }

    /// Makes an entry of what the source has said of a line.
    fn emit(&mut self, source: LogSource) {
        let part = &mut self.parts[source as usize];
        let Some((time, _)) = part.arrived.take() else { return };
        encode_entry(&mut self.batch, time, source, &part.bytes, part.continued);
        part.continued = !part.bytes.ends_with(b"\n");
        part.bytes.clear();
        self.entries += 1;
        if self.batch.len() >= BATCH {
            self.commit();
        }
    }

    /// Makes an entry of it but for the start of a character, which waits for its end.
    fn emit_characters(&mut self, source: LogSource, now: (Timestamp, Instant)) {
        let part = &mut self.parts[source as usize];
        let cut = std::str::from_utf8(&part.bytes).err().filter(|error| error.error_len().is_none());
        let rest = cut.map_or(Vec::new(), |error| part.bytes.split_off(error.valid_up_to()));
        self.emit(source);
        if !rest.is_empty() {
            let part = &mut self.parts[source as usize];
            (part.bytes, part.arrived) = (rest, Some(now));
        }
    }

    /// Writes the batch, after the count of what was lost before it.
    fn commit(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut lines = Vec::new();
        if let Some(loss) = &self.lost {
            encode_loss(&mut lines, loss.since, loss.entries);
        }
        let count_length = lines.len();
        lines.append(&mut self.batch);
        let outcome = self.appender.append(&lines);
        let kept = outcome.as_ref().map_or_else(|incomplete| incomplete.kept, |()| lines.len());
        if count_length <= kept {
            self.lost = None;
        }
        let entries = std::mem::take(&mut self.entries);
        if let Err(incomplete) = outcome {
            let there = lines[count_length.min(kept)..kept].split_inclusive(|byte| *byte == b'\n').count();
            self.count_lost(entries - there as u64, &incomplete.source);
        }
        // Its room is used again.
        lines.clear();
        self.batch = lines;
    }

    fn count_lost(&mut self, entries: u64, error: &io::Error) {
        let loss = self.lost.get_or_insert_with(|| {
            tracing::warn!(%error, "losing log entries");
            Loss { since: Timestamp::now(), entries: 0 }
        });
        loss.entries += entries;
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.flush_partial();
    }
}
