//! Reading events, also while they happen.

use std::io;
use std::time::Duration;

use home::{Home, Name};
use jiff::Timestamp;

use super::{Event, EventKind};
use crate::journal::{Cursor, Directory, Position, Watch};

/// Nothing depends on looking again; what happens wakes a follower.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// Which events to read.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Of this workspace, or of one that got this name.
    pub workspace: Option<Name>,
    /// At this time or later.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

impl EventFilter {
    fn takes(&self, event: &Event) -> bool {
        self.since.is_none_or(|since| since <= event.time)
            && self.until.is_none_or(|until| event.time < until)
            && self.workspace.as_ref().is_none_or(|name| event.is_about(name))
    }
}

impl Event {
    fn is_about(&self, name: &Name) -> bool {
        self.workspace == *name || matches!(&self.kind, EventKind::Renamed { to } if to == name)
    }
}

/// Events, the oldest first: an iterator over those that happened.
#[derive(Debug)]
pub struct EventReader {
    cursor: Cursor,
    filter: EventFilter,
}

impl EventReader {
    /// The events in `home` that `filter` takes.
    pub fn new(home: &Home, filter: EventFilter) -> io::Result<Self> {
        Ok(Self { cursor: all(home)?.until_now()?, filter })
    }

    /// The same, and then those that happen until the filter takes no more.
    pub fn follow(home: &Home, filter: EventFilter) -> io::Result<FollowEvents> {
        let watch = Watch::new(&Directory::make(&home.events())?);
        let reader = Self { cursor: all(home)?, filter };
        Ok(FollowEvents { reader, watch, ended: false })
    }

    fn next_event(&mut self) -> io::Result<Option<Event>> {
        self.cursor.next_read(|line| {
            serde_json::from_slice::<Event>(line).ok().filter(|event| self.filter.takes(event))
        })
    }
}

fn all(home: &Home) -> io::Result<Cursor> {
    Ok(Cursor::at(Directory::make(&home.events())?, Position::START))
}

impl Iterator for EventReader {
    type Item = io::Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_event().transpose()
    }
}

/// Events as they happen: an iterator that waits for the next.
#[derive(Debug)]
pub struct FollowEvents {
    reader: EventReader,
    watch: Watch,
    ended: bool,
}

impl FollowEvents {
    fn next_event(&mut self) -> io::Result<Option<Event>> {
        loop {
            let event = self.reader.next_event()?;
            if event.is_some() || self.ended {
                return Ok(event);
            }
            let until = self.reader.filter.until;
            let left = until.map(|until| Timestamp::now().duration_until(until));
            let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
            // What happened before the time was up is read once more.
            self.ended = left.is_some_and(|left| left.is_zero());
            if !self.ended {
                self.watch.wait(left.map_or(HEARTBEAT, |left| left.min(HEARTBEAT)))?;
            }
        }
    }
}

impl Iterator for FollowEvents {
    type Item = io::Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_event().transpose()
    }
}
