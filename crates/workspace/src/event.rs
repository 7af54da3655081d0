//! What happened to workspaces: one file for the state directory, so that it outlives them.
//!
//! `events.jsonl` holds one JSON document a line, appended with a single write, so that any number of processes
//! append at once and a crash tears at most the last line. At its bound the file becomes `events.1.jsonl`, and
//! the one before that goes.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use home::{Exclusive, Home, Name};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::health::Health;
use crate::state::Exit;

/// The size at which a new file is begun, in bytes.
const BOUND: u64 = 4 << 20;

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
    /// What a newer release wrote.
    #[serde(other, skip_serializing)]
    Unknown,
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
            Self::Deleted => "deleted".to_owned(),
            Self::Quarantined { reason } => format!("quarantined: {reason}"),
            Self::Released { reason } => format!("released: {reason}"),
            Self::Health { health } => format!("health: {health}"),
            Self::Unknown => "something that this release does not know".to_owned(),
        }
    }
}

/// Notes an event.
pub(crate) fn append_event(home: &Home, event: &Event) -> io::Result<()> {
    let path = current(home);
    let mut file = File::options().create(true).append(true).read(true).open(&path)?;
    // A line that a crash tore must not take this one with it.
    let mut line = if ends_in_a_line(&file)? { Vec::new() } else { vec![b'\n'] };
    serde_json::to_writer(&mut line, event).expect("events are plain data");
    line.push(b'\n');
    file.write_all(&line)?;
    if file.metadata()?.len() > BOUND {
        rotate(home)?;
    }
    Ok(())
}

fn ends_in_a_line(file: &File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        rustix::io::pread(file, &mut last, length - 1)?;
    }
    Ok(last == [b'\n'])
}

/// All events that are kept, the oldest first. A torn line is left out.
pub fn events(home: &Home) -> io::Result<Vec<Event>> {
    let mut events = Vec::new();
    for path in [previous(home), current(home)] {
        match std::fs::read(path) {
            Ok(text) => events.extend(parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(events)
}

/// The events in whole lines of `text`.
fn parse(text: &[u8]) -> impl Iterator<Item = Event> {
    text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

/// Of several that see the bound at once, one begins a new file.
fn rotate(home: &Home) -> io::Result<()> {
    let path = current(home);
    let Ok(Some(lock)) = Exclusive::try_now(&path.with_extension("lock")) else { return Ok(()) };
    if std::fs::metadata(&path)?.len() > BOUND {
        std::fs::rename(&path, previous(home))?;
    }
    lock.delete()
}

/// Where events are appended.
pub(crate) fn current(home: &Home) -> PathBuf {
    home.root().join("events.jsonl")
}

fn previous(home: &Home) -> PathBuf {
    home.root().join("events.1.jsonl")
}

/// Hears events as they happen.
#[derive(Debug)]
pub struct EventFollower {
    home: Home,
    file: Option<File>,
    rest: Vec<u8>,
    directory: crate::watch::Watch,
}

impl EventFollower {
    /// Starts with the next event.
    pub fn new(home: &Home) -> io::Result<Self> {
        let directory = crate::watch::Watch::new(home.root())?;
        let mut file = File::options().create(true).append(true).read(true).open(current(home))?;
        io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
        Ok(Self { home: home.clone(), file: Some(file), rest: Vec::new(), directory })
    }

    /// Waits for events.
    pub fn follow(&mut self) -> io::Result<Vec<Event>> {
        loop {
            let found = self.read_on()?;
            if !found.is_empty() {
                return Ok(found);
            }
            self.directory.wait(None)?;
        }
    }

    fn read_on(&mut self) -> io::Result<Vec<Event>> {
        let mut found = Vec::new();
        loop {
            if let Some(file) = &mut self.file {
                io::Read::read_to_end(file, &mut self.rest)?;
                let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                found.extend(parse(&self.rest[..whole]));
                self.rest.drain(..whole);
            }
            let replaced = match (&self.file, std::fs::metadata(current(&self.home))) {
                (_, Err(_)) => return Ok(found),
                (None, Ok(_)) => true,
                (Some(file), Ok(there)) => {
                    std::os::unix::fs::MetadataExt::ino(&file.metadata()?)
                        != std::os::unix::fs::MetadataExt::ino(&there)
                }
            };
            if !replaced {
                return Ok(found);
            }
            self.file = Some(File::open(current(&self.home))?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind) -> Event {
        Event { time: Timestamp::now(), workspace: "web".parse().unwrap(), kind }
    }

    fn home() -> (tempfile::TempDir, Home) {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::open(Some(parent.path())).unwrap();
        (parent, home)
    }

    #[test]
    fn events_are_read_as_they_were_noted() {
        let (_parent, home) = home();
        let noted = [
            event(EventKind::Created),
            event(EventKind::Started { restored: true }),
            event(EventKind::ServiceExited { exit: Exit::Signal(9) }),
            event(EventKind::Quarantined { reason: "it \"lies\"\n".to_owned() }),
        ];
        for event in &noted {
            append_event(&home, event).unwrap();
        }
        assert_eq!(events(&home).unwrap(), noted);
    }

    #[test]
    fn a_torn_line_and_a_newer_kind_are_no_obstacle() {
        let (_parent, home) = home();
        let newer = r#"{"time":"2026-01-01T00:00:00Z","workspace":"a","event":"beamed","to":"mars"}"#;
        std::fs::write(current(&home), format!("{newer}\n{{\"time\":\"20")).unwrap();
        append_event(&home, &event(EventKind::Halted)).unwrap();
        let kinds: Vec<_> = events(&home).unwrap().into_iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [EventKind::Unknown, EventKind::Halted]);
    }

    #[test]
    fn a_follower_loses_nothing_when_the_file_is_replaced() {
        let (_parent, home) = home();
        let mut follower = EventFollower::new(&home).unwrap();
        append_event(&home, &event(EventKind::Created)).unwrap();
        std::fs::rename(current(&home), previous(&home)).unwrap();
        append_event(&home, &event(EventKind::Deleted)).unwrap();
        let kinds: Vec<_> = follower.follow().unwrap().into_iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [EventKind::Created, EventKind::Deleted]);
    }
}
