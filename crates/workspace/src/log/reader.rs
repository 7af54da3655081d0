//! Reading a workspace's log, by any number of readers, while it is written or not.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::entry::{LogItem, LogSource, decode};
use crate::journal::{Cursor, Directory, Position, Seen, Watch};
use crate::workspace::Workspace;

/// A writer that closed its file may hold the workspace for a moment longer.
const FIRST_LOOK: Duration = Duration::from_millis(50);

/// A writer's end is seen at once; this is for what is not seen.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// What to read of a log.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    /// Who is listened to; everybody if empty.
    pub sources: Vec<LogSource>,
    /// Only this many of the last lines.
    pub tail: Option<u64>,
    /// Only what was said at this time or later.
    pub since: Option<Timestamp>,
    /// Only what was said before this time.
    pub until: Option<Timestamp>,
}

/// A log, from where the filter wants it on to its end. As an iterator it gives what is there now.
#[derive(Debug)]
pub struct LogReader {
    /// None if nothing was ever said.
    cursor: Option<Cursor>,
    filter: LogFilter,
}

impl LogReader {
    /// Opens the log in `directory`, which may be missing.
    pub fn open(directory: &Path, filter: LogFilter) -> io::Result<Self> {
        match Directory::open(directory) {
            Ok(directory) => {
                let cursor = filter.start(directory)?.until_now()?;
                Ok(Self { cursor: Some(cursor), filter })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self { cursor: None, filter }),
            Err(error) => Err(error),
        }
    }

    /// Opens the log in `directory`, made if it is missing, to read what is there and then what comes, until
    /// `is_alive` says that nobody writes any more.
    pub(crate) fn follow<F: FnMut() -> bool>(
        directory: &Path,
        filter: LogFilter,
        is_alive: F,
    ) -> io::Result<FollowLog<F>> {
        let directory = Directory::make(directory)?;
        let watch = Watch::new(&directory);
        let reader = Self { cursor: Some(filter.start(directory)?), filter };
        Ok(FollowLog { reader, watch, is_alive, look: Some(Duration::ZERO) })
    }

    /// The next item, if one is there.
    fn next_item(&mut self) -> io::Result<Option<LogItem>> {
        let Some(cursor) = &mut self.cursor else { return Ok(None) };
        cursor.next_read(|line| decode(line).filter(|item| self.filter.wants(item)))
    }
}

impl Iterator for LogReader {
    type Item = io::Result<LogItem>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_item().transpose()
    }
}

impl LogFilter {
    /// A cursor where the first of the last lines starts.
    fn start(&self, directory: Directory) -> io::Result<Cursor> {
        let position = self.position(&directory)?;
        Ok(Cursor::at(directory, position))
    }

    /// Where the first of the last lines starts.
    fn position(&self, directory: &Directory) -> io::Result<Position> {
        let Some(mut left) = self.tail else { return Ok(Position::START) };
        // With no lines wanted, it is behind the last one: that is found by visiting none but it.
        let mut start = Position::START;
        let mut found = false;
        directory.lines_backwards(|position, line| {
            if left == 0 {
                if !found {
                    start = Position { offset: position.offset + line.len() as u64 + 1, ..position };
                }
                return ControlFlow::Break(());
            }
            let item = decode(line).filter(|item| self.wants(item));
            if item.is_some_and(|item| begins_line(&item)) {
                (start, found) = (position, true);
                left -= 1;
            }
            ControlFlow::Continue(())
        })?;
        Ok(if left == 0 { start } else { Position::START })
    }

    fn wants(&self, item: &LogItem) -> bool {
        let time = item.time();
        let in_time =
            self.since.is_none_or(|since| since <= time) && self.until.is_none_or(|until| time < until);
        in_time && self.wants_source(item)
    }

    /// What was lost may have been anybody's.
    fn wants_source(&self, item: &LogItem) -> bool {
        match item {
            LogItem::Entry(entry) => self.sources.is_empty() || self.sources.contains(&entry.source),
            LogItem::Lost { .. } => true,
        }
    }
}

fn begins_line(item: &LogItem) -> bool {
    matches!(item, LogItem::Entry(entry) if !entry.continued)
}

impl Workspace {
    /// Its log, followed until its machine is gone, whatever it is called meanwhile.
    pub fn follow_log(&self, filter: LogFilter) -> io::Result<FollowLog<impl FnMut() -> bool + use<>>> {
        let directory = File::open(self.directory())?;
        let workspace = self.clone().through(&directory);
        let logs = workspace.logs();
        let is_alive = move || {
            // The workspace is reached through it.
            let _open = &directory;
            workspace.status().is_ok_and(|status| status.state.is_live())
        };
        LogReader::follow(&logs, filter, is_alive)
    }
}

/// A log that is followed: an iterator that waits for what comes, and ends when nothing will.
#[derive(Debug)]
pub struct FollowLog<F> {
    reader: LogReader,
    watch: Watch,
    is_alive: F,
    /// How long to wait until it is looked whether somebody still writes; `None` when nobody does.
    look: Option<Duration>,
}

impl<F: FnMut() -> bool> FollowLog<F> {
    fn next_item(&mut self) -> io::Result<Option<LogItem>> {
        loop {
            if let Some(item) = self.reader.next_item()? {
                return Ok(Some(item));
            }
            let Some(look) = self.look else { return Ok(None) };
            self.wait(look)?;
        }
    }

    /// Waits until there may be more, or clears `look`: what is there then is all.
    fn wait(&mut self, look: Duration) -> io::Result<()> {
        let left = self.reader.filter.until.map(|until| Timestamp::now().duration_until(until));
        let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
        if left.is_some_and(|left| left.is_zero()) {
            self.look = None;
            return Ok(());
        }
        let seen = self.watch.wait(left.map_or(look, |left| left.min(look)))?;
        let next = match seen {
            Seen::Growth => return Ok(()),
            Seen::Closed => FIRST_LOOK,
            Seen::Nothing => (look * 2).clamp(FIRST_LOOK, LAST_LOOK),
        };
        self.look = (self.is_alive)().then_some(next);
        Ok(())
    }
}

impl<F: FnMut() -> bool> Iterator for FollowLog<F> {
    type Item = io::Result<LogItem>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_item().transpose()
    }
}
