//! Entries, and their form on disk.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// What may be written in six bytes where base64 needs four for three.
const ESCAPES_ALLOWED: usize = 16;

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogSource {
    /// The serial console: the kernel, and whoever writes there.
    Console,
    /// The service's standard output.
    Stdout,
    /// The service's standard error.
    Stderr,
}

impl LogSource {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Console, Self::Stdout, Self::Stderr];
}

/// What a log is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem {
    /// Something was said.
    Entry(LogEntry),
    /// Something was said that is not kept: the host's disk had no room for it.
    Lost {
        /// When the first of it was said.
        time: jiff::Timestamp,
        /// How many entries.
        entries: u64,
    },
}

impl LogItem {
    /// When the first byte of it arrived.
    pub fn time(&self) -> jiff::Timestamp {
        match self {
            Self::Entry(entry) => entry.time,
            Self::Lost { time, .. } => *time,
        }
    }
}

/// A line, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// When its first byte arrived.
    pub time: jiff::Timestamp,
    /// Who said it.
    pub source: LogSource,
    /// What was said, with its newline if it ends a line; any bytes.
    pub bytes: Vec<u8>,
    /// Whether it goes on with the line of the entry before it from this source.
    pub continued: bool,
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    time: jiff::Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<LogSource>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    continued: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
}

impl Serialize for LogItem {
    /// The form on disk.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Entry(entry) => {
                Stored::entry(entry.time, entry.source, &entry.bytes, entry.continued).serialize(serializer)
            }
            Self::Lost { time, entries } => Stored::loss(*time, *entries).serialize(serializer),
        }
    }
}

impl<'a> Stored<'a> {
    fn entry(time: jiff::Timestamp, source: LogSource, bytes: &'a [u8], continued: bool) -> Self {
        let text = std::str::from_utf8(bytes).ok().filter(|text| is_plain(text)).map(Cow::Borrowed);
        let base64 = text.is_none().then(|| STANDARD.encode(bytes));
        Self { time, source: Some(source), text, base64, continued, lost: None }
    }

    fn loss(time: jiff::Timestamp, entries: u64) -> Self {
        Self { time, source: None, text: None, base64: None, continued: false, lost: Some(entries) }
    }
}

/// Adds the line of an entry to `lines`.
pub(super) fn encode_entry(
    lines: &mut Vec<u8>,
    time: jiff::Timestamp,
    source: LogSource,
    bytes: &[u8],
    continued: bool,
) {
    encode(lines, &Stored::entry(time, source, bytes, continued));
}

/// Adds the line that says how many entries were lost.
pub(super) fn encode_loss(lines: &mut Vec<u8>, time: jiff::Timestamp, entries: u64) {
    encode(lines, &Stored::loss(time, entries));
}

fn encode(lines: &mut Vec<u8>, stored: &Stored<'_>) {
    serde_json::to_writer(&mut *lines, stored).expect("entries are plain data, and a vector takes all");
    lines.push(b'\n');
}

/// Whether the text does not grow much when it is written as JSON.
fn is_plain(text: &str) -> bool {
    let escaped = text.bytes().filter(|byte| byte.is_ascii_control() && !b"\n\r\t".contains(byte)).count();
    escaped <= ESCAPES_ALLOWED.max(text.len() / 16)
}

/// What a line says; `None` if it makes no sense, as with what a newer release may have written.
pub(super) fn decode(line: &[u8]) -> Option<LogItem> {
    let stored: Stored<'_> = serde_json::from_slice(line).ok()?;
    let time = stored.time;
    if let Some(entries) = stored.lost {
        return Some(LogItem::Lost { time, entries });
    }
    let bytes = match (stored.text, stored.base64) {
        (Some(text), None) => text.into_owned().into_bytes(),
        (None, Some(encoded)) => STANDARD.decode(encoded).ok()?,
        _ => return None,
    };
    Some(LogItem::Entry(LogEntry { time, source: stored.source?, bytes, continued: stored.continued }))
}
