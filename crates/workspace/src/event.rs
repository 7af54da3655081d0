//! What happened to workspaces: one journal for the state directory, so that it outlives them.
//!
//! Events are in `events/`, in segments as [`crate::journal`] draws them, one JSON document a line. Any number of
//! processes note events; each does so while it holds the lock there, so that none goes to a segment that is
//! complete. What a newer release notes is handed on as it is.

mod reader;

use std::io;

use home::{Exclusive, Home, Name};
use jiff::Timestamp;
use network::Refusal;
use serde::{Deserialize, Serialize};

use crate::DiskSize;
use crate::audit::NetworkLogEntry;
use crate::health::Health;
use crate::journal::{Appender, Bounds, Directory};
use crate::state::Exit;

pub use reader::{EventFilter, EventReader, FollowEvents};

/// Some hundred thousand events.
const BOUNDS: Bounds = Bounds { segment: 4 << 20, segments: 4 };

/// The longest reason that is kept, in bytes; written as JSON it takes six times as many at most.
const LONGEST_REASON: usize = 512;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// To whom.
    pub workspace: Name,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The kinds of events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// It was made.
    Created,
    /// Its service runs.
    Started {
        /// Whether its machine is the copy of a template.
        restored: bool,
    },
    /// Its service ended.
    ServiceExited {
        /// How.
        exit: Exit,
    },
    /// It is down on request, its disk clean.
    Halted,
    /// It is down, on request or because its service ended well.
    Stopped,
    /// It was ended at once.
    Killed,
    /// It is down, and not well.
    Failed {
        /// Why.
        reason: String,
    },
    /// Its restart policy starts it again.
    Restarting,
    /// Its virtual CPUs do not run.
    Paused,
    /// They run again.
    Resumed,
    /// It has another name.
    Renamed {
        /// Which.
        to: Name,
    },
    /// Another one was made with what it has on its disk.
    Cloned {
        /// Which.
        to: Name,
    },
    /// An image was made of it.
    Committed {
        /// Its name.
        image: String,
    },
    /// Its disk has another size.
    Resized {
        /// Which.
        #[serde(with = "home::as_text")]
        size: DiskSize,
    },
    /// It is gone.
    Deleted,
    /// It is frozen and fenced.
    Quarantined {
        /// Why.
        reason: String,
    },
    /// The quarantine is lifted.
    Released {
        /// Why.
        reason: String,
    },
    /// Its health is another.
    Health {
        /// Which.
        health: Health,
    },
    /// Its machine stands still by itself.
    Stalled {
        /// Why.
        reason: String,
    },
    /// Its machine goes on.
    WentOn,
    /// Its guest wanted to reach what it may not.
    EgressRefused {
        /// What, in words.
        target: String,
        /// Why not.
        reason: Refusal,
        /// How many times in a moment.
        times: u64,
        /// How many refusals before this one are in no event, since there were too many.
        left_out: u64,
    },
    /// What a newer release wrote, as it wrote it.
    #[serde(untagged)]
    Other(serde_json::Map<String, serde_json::Value>),
}

impl EventKind {
    /// The kind and its details in words.
    pub fn words(&self) -> String {
        match self {
            Self::Created => "created".to_owned(),
            Self::Started { restored: true } => "started (restored)".to_owned(),
            Self::Started { restored: false } => "started (booted)".to_owned(),
            Self::ServiceExited { exit: Exit::Code(code) } => format!("service exited with code {code}"),
            Self::ServiceExited { exit: Exit::Signal(signal) } => format!("service ended by signal {signal}"),
            Self::Halted => "halted".to_owned(),
            Self::Stopped => "stopped".to_owned(),
            Self::Killed => "killed".to_owned(),
            Self::Failed { reason } => format!("failed: {reason}"),
            Self::Restarting => "restarting".to_owned(),
            Self::Paused => "paused".to_owned(),
            Self::Resumed => "resumed".to_owned(),
            Self::Renamed { to } => format!("renamed to {to}"),
            Self::Cloned { to } => format!("cloned as {to}"),
            Self::Committed { image } => format!("committed as {image}"),
            Self::Resized { size } => format!("disk resized to {size}"),
            Self::Deleted => "deleted".to_owned(),
            Self::Quarantined { reason } => format!("quarantined: {reason}"),
            Self::Released { reason } => format!("released: {reason}"),
            Self::Health { health } => format!("health: {health}"),
            Self::Stalled { reason } => format!("stands still: {reason}"),
            Self::WentOn => "goes on".to_owned(),
            Self::EgressRefused { target, reason, times, left_out } => {
                let times = if *times == 1 { String::new() } else { format!(", {times} times") };
                let before = if *left_out == 0 {
                    String::new()
                } else {
                    format!(", after {left_out} that are not told")
                };
                format!("not reached: {target}, since {reason}{times}{before}")
            }
            Self::Other(fields) => serde_json::to_string(fields).expect("it was read from such a text"),
        }
    }
}

impl EventKind {
    /// That something was refused, if it was.
    pub(crate) fn refusal(entry: &NetworkLogEntry) -> Option<Self> {
        let (target, times, left_out) = (entry.target(), entry.times, entry.left_out);
        Some(Self::EgressRefused { target, reason: entry.reason?, times, left_out })
    }
}

/// Notes an event. One about a quarantine outlives a crash of the host right after this.
pub(crate) fn append_event(home: &Home, event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(&event.bounded()).expect("events are plain data");
    line.push(b'\n');
    let directory = Directory::make(&home.events())?;
    let lock = Exclusive::wait(&home.events().join("lock")).map_err(io::Error::other)?;
    let mut appender = Appender::open(directory, BOUNDS)?;
    appender.append(&line).map_err(|incomplete| incomplete.source)?;
    drop(lock);
    if matches!(event.kind, EventKind::Quarantined { .. } | EventKind::Released { .. }) {
        appender.sync()?;
    }
    Ok(())
}

impl Event {
    /// The same with a reason that is not too long: some come from a guest.
    fn bounded(&self) -> Self {
        let mut event = self.clone();
        if let EventKind::Failed { reason }
        | EventKind::Stalled { reason }
        | EventKind::Quarantined { reason }
        | EventKind::Released { reason } = &mut event.kind
        {
            let fits = (0..=LONGEST_REASON).rev().find(|end| reason.is_char_boundary(*end));
            reason.truncate(fits.expect("the start is a boundary"));
        }
        event
    }
}

#[cfg(test)]
mod tests;
