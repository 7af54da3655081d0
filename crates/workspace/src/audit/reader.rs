//! Reading what was decided, also while it is decided.

use std::fs::File;
use std::io;
use std::time::Duration;

use jiff::Timestamp;

use super::{DIRECTORY, NetworkLogEntry, Verdict};
use crate::journal::{Cursor, Directory, Position, Seen, Watch};
use crate::workspace::Workspace;

/// A keeper's end is seen at once; this is for what is not seen.
const LOOK: Duration = Duration::from_secs(2);

/// Which decisions to read.
#[derive(Debug, Clone, Default)]
pub struct NetworkLogFilter {
    /// Those with this outcome alone.
    pub verdict: Option<Verdict>,
    /// At this time or later.
    pub since: Option<Timestamp>,
}

impl NetworkLogFilter {
    fn takes(&self, entry: &NetworkLogEntry) -> bool {
        self.verdict.is_none_or(|verdict| verdict == entry.verdict)
            && self.since.is_none_or(|since| since <= entry.time)
    }
}

/// Decisions, the oldest first: an iterator over those that were made.
#[derive(Debug)]
pub struct NetworkLogReader {
    cursor: Cursor,
    filter: NetworkLogFilter,
}

impl NetworkLogReader {
    fn next_entry(&mut self) -> io::Result<Option<NetworkLogEntry>> {
        self.cursor.next_read(|line| {
            serde_json::from_slice::<NetworkLogEntry>(line).ok().filter(|entry| self.filter.takes(entry))
        })
    }
}

impl Iterator for NetworkLogReader {
    type Item = io::Result<NetworkLogEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}

impl Workspace {
    /// What was decided about its connections.
    pub fn network_log(&self, filter: NetworkLogFilter) -> io::Result<NetworkLogReader> {
        Ok(NetworkLogReader { cursor: self.decisions()?.until_now()?, filter })
    }

    fn decisions(&self) -> io::Result<Cursor> {
        let directory = Directory::make(&self.directory().join(DIRECTORY))?;
        Ok(Cursor::at(directory, Position::START))
    }

    /// The same, and then what is decided until its machine is gone, whatever it is called meanwhile.
    pub fn follow_network_log(&self, filter: NetworkLogFilter) -> io::Result<FollowNetworkLog> {
        let held = File::open(self.directory())?;
        let workspace = self.clone().through(&held);
        let watch = Watch::new(&Directory::make(&workspace.directory().join(DIRECTORY))?);
        let reader = NetworkLogReader { cursor: workspace.decisions()?, filter };
        Ok(FollowNetworkLog { reader, watch, workspace, _held: held, ended: false })
    }
}

/// Decisions as they are made: an iterator that waits for the next.
#[derive(Debug)]
pub struct FollowNetworkLog {
    reader: NetworkLogReader,
    watch: Watch,
    workspace: Workspace,
    /// The workspace is reached through it.
    _held: File,
    ended: bool,
}

impl FollowNetworkLog {
    fn next_entry(&mut self) -> io::Result<Option<NetworkLogEntry>> {
        loop {
            let entry = self.reader.next_entry()?;
            if entry.is_some() || self.ended {
                return Ok(entry);
            }
            // What was decided before the end is read once more.
            self.ended = !self.workspace.status().is_ok_and(|status| status.state.is_live());
            if !self.ended && self.watch.wait(LOOK)? == Seen::Closed {
                // Who closed it may be about to end.
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

impl Iterator for FollowNetworkLog {
    type Item = io::Result<NetworkLogEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}
