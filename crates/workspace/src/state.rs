//! Where a workspace is in its life. Only facts are kept; the state is computed from them.
//!
//! ```text
//! created ──▶ starting ──▶ running ⇄ paused
//!                │            │
//!                │            ├──▶ stopping ──▶ halted | stopped | failed ──▶ starting
//!                │            └──▶ halted | stopped | failed       (the service ended by itself, or the machine)
//!                └──▶ failed
//! any ──▶ quarantined ──▶ halted
//! ```
//!
//! The facts are in `state.json`: the last boot, the last end, the quarantine. A boot without an end whose
//! supervisor is gone was a crash. What is between a start and an end is asked of the supervisor.

use std::fmt;
use std::str::FromStr;

use engine::{Accelerator, Held};
use home::Record;
use jiff::Timestamp;
use proto::ExitStatus;
use serde::{Deserialize, Serialize};

/// A state, as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Never started.
    Created,
    /// On its way up, also again after an end.
    Starting,
    /// Its service runs.
    Running,
    /// Its virtual CPUs do not run.
    Paused,
    /// On its way down.
    Stopping,
    /// Down; its disk was left clean on request.
    Halted,
    /// Down: it was stopped or killed, or its service ended well.
    Stopped,
    /// Down, and not well.
    Failed,
    /// Frozen or down, and not to be changed.
    Quarantined,
}

impl State {
    /// Whether there is a machine.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Paused | Self::Stopping)
    }

    const ALL: [(Self, &'static str); 9] = [
        (Self::Created, "created"),
        (Self::Starting, "starting"),
        (Self::Running, "running"),
        (Self::Paused, "paused"),
        (Self::Stopping, "stopping"),
        (Self::Halted, "halted"),
        (Self::Stopped, "stopped"),
        (Self::Failed, "failed"),
        (Self::Quarantined, "quarantined"),
    ];
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, word) = Self::ALL.iter().find(|(state, _)| state == self).expect("all states are listed");
        formatter.pad(word)
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, word)| *word == text).map(|(state, _)| *state);
        let words = || Self::ALL.map(|(_, word)| word).join("`, `");
        found.ok_or_else(|| format!("`{text}` is not a state; they are `{}`", words()))
    }
}

/// The facts about a workspace's life.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StateRecord {
    /// The last boot.
    #[serde(default)]
    pub boot: Option<BootRecord>,
    /// The last end.
    #[serde(default)]
    pub end: Option<EndRecord>,
    /// How often the restart policy started it again since a user did.
    #[serde(default)]
    pub restarts: u32,
    /// The quarantine that holds.
    #[serde(default)]
    pub quarantine: Option<Quarantine>,
}

impl Record for StateRecord {
    const VERSION: u32 = 1;
}

/// A boot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BootRecord {
    /// Its number among the workspace's boots, from 1.
    pub number: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// What runs its instructions.
    #[serde(with = "home::as_text::optional", default)]
    pub acceleration: Option<Accelerator>,
    /// The template that it was restored from.
    #[serde(default)]
    pub template: Option<String>,
    /// What confines its machine on this host.
    #[serde(default)]
    pub confinement: Option<Held>,
}

impl BootRecord {
    /// A boot that begins now.
    pub(crate) fn begin(number: u64) -> Self {
        Self { number, started_at: Timestamp::now(), acceleration: None, template: None, confinement: None }
    }
}

/// How a boot ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndRecord {
    /// The boot's number.
    pub boot: u64,
    /// How.
    pub how: Ending,
    /// When.
    pub at: Timestamp,
    /// How the service ended, if it did before its machine.
    #[serde(default)]
    pub exit: Option<Exit>,
    /// Why, where that is not plain.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The kinds of ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// On request, with a clean disk.
    Halted,
    /// On request, or the service ended well.
    Stopped,
    /// On request, at once.
    Killed,
    /// Not well.
    Failed,
}

/// How a service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// With this exit code.
    Code(u8),
    /// By this signal.
    Signal(u8),
}

impl Exit {
    /// The code that a shell would show: 128 and the signal's number for a signal.
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => signal.saturating_add(128),
        }
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match status {
            ExitStatus::Code(code) => Self::Code(code),
            ExitStatus::Signal(signal) => Self::Signal(signal),
        }
    }
}

/// A quarantine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

impl StateRecord {
    /// The state of a workspace that has no supervisor.
    pub fn at_rest(&self) -> State {
        if self.quarantine.is_some() {
            return State::Quarantined;
        }
        match (&self.boot, &self.end) {
            (None, _) => State::Created,
            (Some(boot), Some(end)) if end.boot == boot.number => match end.how {
                Ending::Halted => State::Halted,
                Ending::Stopped | Ending::Killed => State::Stopped,
                Ending::Failed => State::Failed,
            },
            (Some(_), _) => State::Failed,
        }
    }

    /// The boot that has no end yet.
    pub fn open_boot(&self) -> Option<&BootRecord> {
        let ended = self.end.as_ref().map_or(0, |end| end.boot);
        self.boot.as_ref().filter(|boot| boot.number > ended)
    }

    /// When the state of a workspace that has no supervisor began.
    pub fn since(&self) -> Option<Timestamp> {
        let quarantine = self.quarantine.as_ref().map(|quarantine| quarantine.since);
        let boot = self.open_boot().map(|boot| boot.started_at);
        quarantine.or(boot).or_else(|| self.end.as_ref().map(|end| end.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_as_they_are_written() {
        for (state, _) in State::ALL {
            assert_eq!(state.to_string().parse(), Ok(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.to_string());
        }
    }

    #[test]
    fn a_boot_without_an_end_is_a_failure_once_its_supervisor_is_gone() {
        let boot = BootRecord::begin;
        let end = |boot, how| EndRecord { boot, how, at: Timestamp::now(), exit: None, reason: None };
        let mut record = StateRecord::default();
        assert_eq!(record.at_rest(), State::Created);
        record.boot = Some(boot(1));
        assert_eq!(record.at_rest(), State::Failed);
        record.end = Some(end(1, Ending::Halted));
        assert_eq!(record.at_rest(), State::Halted);
        assert!(record.open_boot().is_none());
        record.boot = Some(boot(2));
        assert_eq!(record.at_rest(), State::Failed);
        assert_eq!(record.open_boot().map(|boot| boot.number), Some(2));
        record.quarantine = Some(Quarantine { reason: "x".to_owned(), since: Timestamp::now() });
        assert_eq!(record.at_rest(), State::Quarantined);
    }
}
