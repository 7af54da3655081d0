//! Workspaces as others see them: found by name, listed, their state computed.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use home::{Exclusive, Home, LockError, Name, RecordError, names_in, read_record, write_record};
use jiff::Timestamp;
use network::{CaptureError, JoinError, PublishError};
use proto::Usage;
use tokio::net::UnixStream;

use crate::agent::{Agent, AgentError};
use crate::control::{self, ControlError, LiveStatus, Reply, Request, STALLED};
use crate::event::{Event, EventKind, append_event};
use crate::exchange::Regions;
use crate::record::{WorkspaceRecord, place};
use crate::state::{EndRecord, Ending, State, StateRecord};

/// How long a verb waits for another one that uses the same workspace.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a supervisor may take to answer for the guest.
const AGENT_DEADLINE: Duration = Duration::from_secs(10);

/// A workspace that was found.
#[derive(Debug, Clone)]
pub struct Workspace {
    home: Home,
    name: Name,
    directory: PathBuf,
    record: WorkspaceRecord,
}

/// Everything known about a workspace at one moment.
#[derive(Debug, Clone)]
pub struct Status {
    /// Its name.
    pub name: Name,
    /// What it is made from.
    pub record: WorkspaceRecord,
    /// The facts of its life.
    pub facts: StateRecord,
    /// Its state.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// What its supervisor says, if it has one.
    pub live: Option<LiveStatus>,
}

/// Why a workspace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// There is none of that name.
    #[error("there is no workspace `{0}`")]
    Unknown(Name),
    /// It is not in a state for this.
    #[error("cannot {verb} workspace `{name}`: it is {state}")]
    State {
        /// The workspace.
        name: Name,
        /// What was to be done.
        verb: &'static str,
        /// Its state.
        state: State,
    },
    /// Its machine stands still, and goes on by itself once the reason is gone.
    #[error("cannot {verb} workspace `{name}`: it stands still, since {reason}")]
    Stalled {
        /// The workspace.
        name: Name,
        /// What was to be done.
        verb: &'static str,
        /// Why.
        reason: String,
    },
    /// Another process uses it.
    #[error("workspace `{0}` is used by another command")]
    Busy(Name),
    /// It is a run's in the foreground.
    #[error("workspace `{0}` belongs to a `run` in the foreground")]
    Foreground(Name),
    /// Its supervisor said no.
    #[error("{message}")]
    Refused {
        /// The kind of failure, for programs.
        kind: String,
        /// Why, in words.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Its supervisor could not be asked.
    #[error("failed to reach the supervisor of workspace `{name}`")]
    Control {
        /// The workspace.
        name: Name,
        /// Why.
        source: ControlError,
    },
    /// Its guest could not be talked to.
    #[error("failed to reach the guest of workspace `{name}`")]
    Agent {
        /// The workspace.
        name: Name,
        /// Why.
        source: AgentError,
    },
    /// A port could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A network could not be joined.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Packets could not be captured.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// A record could not be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A lock could not be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file could not be used.
    #[error("failed to access workspace `{name}`")]
    Io {
        /// The workspace.
        name: Name,
        /// What the system said.
        source: std::io::Error,
    },
}

impl WorkspaceError {
    /// The kind of failure, for programs, where a supervisor tells of it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Publish(PublishError::Taken { .. }) => "port_taken",
            Self::Publish(_) => "port",
            Self::Capture(_) => "capture",
            Self::Join(_) => "network",
            _ => "workspace",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown(_) => Some("see those there are: microagent list".to_owned()),
            Self::Stalled { name, .. } => Some(format!(
                "it goes on by itself once that is mended, as by making room; or end it: microagent kill {name}"
            )),
            Self::State { name, state: State::Quarantined, .. } => Some(format!(
                "lift the quarantine first: microagent quarantine --release --reason WHY {name}"
            )),
            Self::State { name, state: State::Paused, .. } => {
                Some(format!("resume it first: microagent resume {name}"))
            }
            Self::State { name, state, .. } if !state.is_live() => {
                Some(format!("start it: microagent start {name}"))
            }
            Self::State { name, state: State::Running, .. } => {
                Some(format!("halt it first: microagent halt {name}"))
            }
            Self::Busy(_) => Some("wait for that command to end, and try again".to_owned()),
            Self::Foreground(_) => Some("wait for it to end, or end that process".to_owned()),
            Self::Refused { hint, .. } => hint.clone(),
            Self::Publish(error) => error.hint(),
            Self::Join(error) => error.hint(),
            Self::Control { name, source: ControlError::OtherRelease { .. } } => {
                Some(format!("end it and start it again with this release: microagent kill {name}"))
            }
            _ => None,
        }
    }
}

/// A workspace in a list; a damaged one is not left out.
pub type Found = (Name, Result<Workspace, WorkspaceError>);

impl Workspace {
    /// The workspace of this name.
    pub fn find(home: &Home, name: &Name) -> Result<Self, WorkspaceError> {
        let directory = place(home, name);
        let record = read_record(&directory.join("workspace.json"))?;
        let record = record.ok_or_else(|| WorkspaceError::Unknown(name.clone()))?;
        Ok(Self { home: home.clone(), name: name.clone(), directory, record })
    }

    /// All workspaces, by name.
    pub fn all(home: &Home) -> std::io::Result<Vec<Found>> {
        let found = names_in(&home.workspaces())?.into_iter().map(|name| {
            let found = Self::find(home, &name);
            (name, found)
        });
        // One that was deleted meanwhile is no workspace.
        Ok(found.filter(|(_, found)| !matches!(found, Err(WorkspaceError::Unknown(_)))).collect())
    }

    /// The same workspace, reached through the descriptor of its directory, which must stay open: it is found
    /// whatever it is called meanwhile.
    pub(crate) fn through(self, directory: &File) -> Self {
        Self { directory: format!("/proc/self/fd/{}", directory.as_raw_fd()).into(), ..self }
    }

    /// The same workspace by the name that its directory has now.
    pub(crate) fn called_now(&self) -> Self {
        let path = std::fs::read_link(&self.directory).ok();
        let name = path.and_then(|path| path.file_name()?.to_str()?.parse().ok());
        Self { name: name.unwrap_or_else(|| self.name.clone()), ..self.clone() }
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What it is made from.
    pub fn record(&self) -> &WorkspaceRecord {
        &self.record
    }

    /// The state directory that it is in.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its disk.
    pub fn disk(&self) -> PathBuf {
        self.directory.join("disk.ext4")
    }

    /// Where its logs are.
    pub fn logs(&self) -> PathBuf {
        self.directory.join("logs")
    }

    /// The facts of its life.
    pub fn facts(&self) -> Result<StateRecord, WorkspaceError> {
        Ok(read_record(&self.directory.join("state.json"))?.unwrap_or_default())
    }

    /// Everything known about it now.
    pub fn status(&self) -> Result<Status, WorkspaceError> {
        let live = match self.ask(&Request::Status) {
            Ok(Some(Reply::Status(live))) => Some(*live),
            Ok(_) => None,
            // It lives, whatever it speaks.
            Err(WorkspaceError::Control { source: ControlError::OtherRelease { .. }, .. }) => {
                return self.computed(None, State::Running);
            }
            Err(error) => return Err(error),
        };
        let facts = self.facts()?;
        let state = match &live {
            Some(live) => live.state,
            None if facts.open_boot().is_some() && facts.quarantine.is_none() && self.is_held()? => {
                State::Running
            }
            None => facts.at_rest(),
        };
        self.computed(live, state)
    }

    fn computed(&self, live: Option<LiveStatus>, state: State) -> Result<Status, WorkspaceError> {
        let facts = self.facts()?;
        let since = live.as_ref().map(|live| live.since).or_else(|| facts.since());
        let since = since.unwrap_or(self.record.created_at);
        Ok(Status { name: self.name.clone(), record: self.record.clone(), facts, state, since, live })
    }

    /// Whether a process holds its lock. Only asked where the facts leave it open, since asking takes the lock
    /// for a moment.
    fn is_held(&self) -> Result<bool, WorkspaceError> {
        Ok(Exclusive::try_now(&self.lock_path())?.is_none())
    }

    pub(crate) fn lock_path(&self) -> PathBuf {
        self.directory.join("lock")
    }

    /// Takes the workspace while it is at rest, for `verb`. What a crash left is repaired, and the facts are as
    /// they are from then on.
    pub(crate) fn hold(&self, verb: &'static str) -> Result<Held, WorkspaceError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(lock) = self.try_lock()? {
                return self.repaired(lock, verb);
            }
            if let Some(Reply::Status(live)) = self.ask(&Request::Status)? {
                return Err(self.in_state(verb, live.state));
            }
            if Instant::now() > deadline {
                let open = self.facts()?.open_boot().is_some();
                let name = self.name.clone();
                return Err(if open { WorkspaceError::Foreground(name) } else { WorkspaceError::Busy(name) });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn try_lock(&self) -> Result<Option<Exclusive>, WorkspaceError> {
        match Exclusive::try_now(&self.lock_path()) {
            Ok(lock) => Ok(lock),
            // The directory went meanwhile.
            Err(_) if !self.directory.exists() => Err(WorkspaceError::Unknown(self.name.clone())),
            Err(error) => Err(error.into()),
        }
    }

    /// With the lock held, a boot without an end is the mark of a crash.
    fn repaired(&self, lock: Exclusive, verb: &'static str) -> Result<Held, WorkspaceError> {
        // Whoever held the lock before may have renamed or deleted it.
        Self::find(&self.home, &self.name)?;
        let mut facts = self.facts()?;
        if let Some(boot) = facts.open_boot() {
            let reason = "its supervisor ended without notice".to_owned();
            facts.end = Some(EndRecord {
                boot: boot.number,
                how: Ending::Failed,
                at: Timestamp::now(),
                exit: None,
                reason: Some(reason.clone()),
            });
            // A host that is full must not keep anybody from deleting what fills it: the next one notes it then.
            match write_record(&self.directory.join("state.json"), &facts) {
                Ok(()) => self.tell(EventKind::Failed { reason }),
                Err(error) => tracing::warn!(error = crate::causes(&error), "an end is not noted"),
            }
        }
        Ok(Held { workspace: self.clone(), lock, facts, verb })
    }

    /// Notes an event. One that cannot be noted changes nothing.
    pub(crate) fn tell(&self, kind: EventKind) {
        if let Err(event) = self.try_tell(Timestamp::now(), kind) {
            tracing::warn!(?event, "an event is not noted");
        }
    }

    /// Notes what happened at a moment; the error is what it was, to be noted later.
    pub(crate) fn try_tell(&self, time: Timestamp, kind: EventKind) -> Result<(), EventKind> {
        let event = Event { time, workspace: self.name.clone(), kind };
        append_event(&self.home, &event).map_err(|error| {
            tracing::warn!(%error, "failed to note an event");
            event.kind
        })
    }

    /// Asks its supervisor; `None` if it has none.
    pub(crate) fn ask(&self, request: &Request) -> Result<Option<Reply>, WorkspaceError> {
        let failed = |source| WorkspaceError::Control { name: self.name.clone(), source };
        match self.answer(request) {
            Ok(Reply::Failed { kind, message, hint }) => Err(WorkspaceError::Refused { kind, message, hint }),
            Ok(reply) => Ok(Some(reply)),
            Err(ControlError::Nobody) => Ok(None),
            Err(source) => Err(failed(source)),
        }
    }

    /// A supervisor that ends may take a question with it; what only asks is asked again.
    fn answer(&self, request: &Request) -> Result<Reply, ControlError> {
        loop {
            let answer = control::ask(&self.directory, request);
            let again = matches!(request, Request::Status) && matches!(answer, Err(ControlError::Gone));
            if !again {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// How much of its machine is used, as the guest sees it; `None` if it cannot be asked now.
    pub fn guest_usage(&self) -> Option<Usage> {
        match self.ask(&Request::Measure) {
            Ok(Some(Reply::Measured(usage))) => Some(usage),
            _ => None,
        }
    }

    /// Speaks to the guest's agent, through the supervisor. What is started so ends with the connection.
    pub async fn agent(&self) -> Result<Agent, WorkspaceError> {
        self.agent_for("exec in").await
    }

    /// The same, to do what the verb says.
    pub(crate) async fn agent_for(&self, verb: &'static str) -> Result<Agent, WorkspaceError> {
        let stream = self.stream(verb, &Request::Agent)?;
        let failed = |source| WorkspaceError::Agent { name: self.name.clone(), source };
        let agent = Agent::connect(stream, AGENT_DEADLINE).await.map_err(failed)?;
        home::mark("agent");
        Ok(agent.exchanging(Regions::Supervisor(self.directory.clone())))
    }

    /// What its serial console said last, and what it says from now on. It must be called on a runtime.
    pub fn console(&self) -> Result<UnixStream, WorkspaceError> {
        self.stream("see the console of", &Request::Console)
    }

    /// Asks for a connection that goes on as another stream.
    fn stream(&self, verb: &'static str, request: &Request) -> Result<UnixStream, WorkspaceError> {
        let state = || self.status().map(|status| status.state);
        match control::open(&self.directory, request) {
            Ok((Reply::Done, stream)) => {
                let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
                stream.map_err(|source| WorkspaceError::Io { name: self.name.clone(), source })
            }
            Ok((Reply::Failed { kind, message, .. }, _)) if kind == STALLED => {
                Err(self.stalled(verb, message))
            }
            Ok(_) | Err(ControlError::Nobody) => Err(self.in_state(verb, state()?)),
            Err(source) => Err(WorkspaceError::Control { name: self.name.clone(), source }),
        }
    }

    pub(crate) fn stalled(&self, verb: &'static str, reason: String) -> WorkspaceError {
        WorkspaceError::Stalled { name: self.name.clone(), verb, reason }
    }

    pub(crate) fn in_state(&self, verb: &'static str, state: State) -> WorkspaceError {
        WorkspaceError::State { name: self.name.clone(), verb, state }
    }
}

/// A workspace at rest, held by this process.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) workspace: Workspace,
    pub(crate) lock: Exclusive,
    pub(crate) facts: StateRecord,
    verb: &'static str,
}

impl Held {
    /// Refuses where a quarantine holds.
    pub(crate) fn unfenced(self) -> Result<Self, WorkspaceError> {
        match self.facts.quarantine {
            Some(_) => Err(self.workspace.in_state(self.verb, State::Quarantined)),
            None => Ok(self),
        }
    }

    /// Keeps its facts.
    pub(crate) fn write_facts(&self) -> Result<(), WorkspaceError> {
        Ok(write_record(&self.workspace.directory.join("state.json"), &self.facts)?)
    }
}
