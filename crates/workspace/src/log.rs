//! What a workspace said: its console, and its service's standard output and standard error.
//!
//! The log is a journal in `workspaces/<name>/logs`, kept across restarts. An entry is a line, or a part of one:
//!
//! ```text
//! {"time":"2026-01-31T12:00:00.000000001Z","source":"stdout","text":"hello\n"}
//! {"time":"2026-01-31T12:00:01.5Z","source":"stdout","text":"name? "}
//! {"time":"2026-01-31T12:00:09.25Z","source":"stdout","text":"ada\n","continued":true}
//! {"time":"2026-01-31T12:00:10Z","source":"console","base64":"//4AAQo="}
//! {"time":"2026-01-31T12:00:11Z","lost":12}
//! ```
//!
//! The entries of a source, one after the other, are exactly its bytes. `time` is when the first of them arrived.
//! What has no newline becomes an entry when a second has passed, or when it gets long. Entries that the host's
//! disk had no room for are counted. What the guest says is kept as it is: what control characters do is the
//! business of whoever shows them.

mod entry;
mod reader;
mod writer;

pub use entry::{LogEntry, LogItem, LogSource};
pub use reader::{FollowLog, LogFilter, LogReader};
pub use writer::LogWriter;

use crate::journal::Bounds;

/// Forty mebibytes at most.
const BOUNDS: Bounds = Bounds { segment: 10 << 20, segments: 4 };

#[cfg(test)]
mod tests;
