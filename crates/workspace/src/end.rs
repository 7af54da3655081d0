//! Asking a workspace's supervisor: halt, stop, kill, pause and the rest. What is at rest answers for itself.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use home::{Exclusive, fault_point};
use jiff::Timestamp;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::control::{self, ControlError, Reply, Request, SOCKET, STALLED};
use crate::event::EventKind;
use crate::socket::Socket;
use crate::state::{Ending, Exit, Quarantine, State};
use crate::workspace::{Workspace, WorkspaceError};

/// How long a supervisor that was killed may take to be gone.
const GONE: Duration = Duration::from_secs(10);

/// What became of a request to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It is down.
    Now,
    /// It was.
    Already,
}

impl Workspace {
    /// Ends it cleanly; when this returns, its disk is clean.
    pub fn halt(&self) -> Result<Ended, WorkspaceError> {
        match self.ask_in("halt", &Request::Halt) {
            Ok(Some(_)) => Ok(Ended::Now),
            Ok(None) => self.end_at_rest("halt"),
            Err(error) => self.ended_meanwhile(error, &[State::Halted]),
        }
    }

    /// Asks its service to end, and waits so long. One that stays is left as it is.
    pub fn stop(&self, timeout: Duration) -> Result<Ended, WorkspaceError> {
        match self.ask_in("stop", &Request::Stop { timeout: timeout.as_secs_f64() }) {
            Ok(Some(_)) => Ok(Ended::Now),
            Ok(None) => self.end_at_rest("stop"),
            Err(error) => self.ended_meanwhile(error, &[State::Halted, State::Stopped]),
        }
    }

    /// Ends it at once.
    pub fn kill(&self) -> Result<Ended, WorkspaceError> {
        match self.ask_in("kill", &Request::Kill) {
            Ok(Some(_)) => Ok(Ended::Now),
            Ok(None) => self.end_at_rest("kill"),
            Err(error @ WorkspaceError::Control { source: ControlError::Gone, .. }) => {
                self.ended_meanwhile(error, &[State::Halted, State::Stopped, State::Failed])
            }
            // What speaks another language still can be ended.
            Err(WorkspaceError::Control { source, .. }) if !matches!(source, ControlError::Nobody) => {
                self.kill_supervisor().map(|()| Ended::Now)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends its service a signal.
    pub fn signal(&self, signal: i32) -> Result<(), WorkspaceError> {
        self.must("signal", &Request::Signal { signal }).map(drop)
    }

    /// Freezes its virtual CPUs.
    pub fn pause(&self) -> Result<(), WorkspaceError> {
        self.must("pause", &Request::Pause).map(drop)
    }

    /// Lets them run again.
    pub fn resume(&self) -> Result<(), WorkspaceError> {
        self.must("resume", &Request::Resume).map(drop)
    }

    /// Waits until it has ended for good, and tells how its service ended; `None` if it never ran.
    pub fn wait(&self) -> Result<Option<Exit>, WorkspaceError> {
        match self.ask(&Request::Wait) {
            Ok(Some(Reply::Ended { exit })) => return Ok(exit),
            // A supervisor that was killed has an end all the same.
            Ok(_) | Err(WorkspaceError::Control { source: ControlError::Gone, .. }) => {}
            Err(error) => return Err(error),
        }
        let status = self.status()?;
        if status.state.is_live() {
            // Its supervisor ended between two looks, or it belongs to a run in the foreground.
            let lock = Exclusive::wait(&self.lock_path())?;
            drop(lock);
        }
        Ok(self.facts()?.end.and_then(|end| end.exit))
    }

    /// Freezes it, cuts it off, and fences every verb that would change it.
    pub fn quarantine(&self, reason: &str) -> Result<(), WorkspaceError> {
        let request = Request::Quarantine { reason: reason.to_owned() };
        if self.ask_in("quarantine", &request)?.is_some() {
            return Ok(());
        }
        let mut held = self.hold("quarantine")?.unfenced()?;
        held.facts.quarantine = Some(Quarantine { reason: reason.to_owned(), since: Timestamp::now() });
        held.write_facts()?;
        fault_point("quarantine.at_rest");
        self.tell(EventKind::Quarantined { reason: reason.to_owned() });
        Ok(())
    }

    /// Lifts the quarantine; it is halted then.
    pub fn release(&self, reason: &str) -> Result<(), WorkspaceError> {
        let status = self.status()?;
        if status.state != State::Quarantined {
            return Err(WorkspaceError::Refused {
                kind: "state".to_owned(),
                message: format!("workspace `{}` is not quarantined: it is {}", self.name(), status.state),
                hint: None,
            });
        }
        let request = Request::Release { reason: reason.to_owned() };
        if status.live.is_some() && self.ask(&request)?.is_some() {
            return Ok(());
        }
        let mut held = self.hold("release")?;
        held.facts.quarantine = None;
        if let Some(end) = &mut held.facts.end {
            end.how = Ending::Halted;
        }
        held.write_facts()?;
        fault_point("release.at_rest");
        self.tell(EventKind::Released { reason: reason.to_owned() });
        Ok(())
    }

    /// Asks the supervisor, if there is one, for what makes no sense in a quarantine.
    fn ask_in(&self, verb: &'static str, request: &Request) -> Result<Option<Reply>, WorkspaceError> {
        if let Some(Reply::Status(live)) = self.ask_status()?
            && live.state == State::Quarantined
        {
            return Err(self.in_state(verb, State::Quarantined));
        }
        match self.ask(request) {
            Err(WorkspaceError::Refused { kind, .. }) if kind == "state" => {
                let state = self.status()?.state;
                Err(self.in_state(verb, state))
            }
            Err(WorkspaceError::Refused { kind, message, .. }) if kind == STALLED => {
                Err(self.stalled(verb, message))
            }
            Err(WorkspaceError::Refused { kind, message, hint }) => {
                let message = format!("failed to {verb} workspace `{}`: {message}", self.name());
                let advice = matches!(kind.as_str(), "still_up" | "not_clean");
                let hint = hint
                    .or_else(|| advice.then(|| format!("end it at once: microagent kill {}", self.name())));
                Err(WorkspaceError::Refused { kind, message, hint })
            }
            outcome => outcome,
        }
    }

    /// What another release's supervisor cannot tell is not asked.
    fn ask_status(&self) -> Result<Option<Reply>, WorkspaceError> {
        match self.ask(&Request::Status) {
            Err(WorkspaceError::Control { source: ControlError::OtherRelease { .. }, .. }) => Ok(None),
            outcome => outcome,
        }
    }

    /// The same for what only makes sense with a supervisor.
    fn must(&self, verb: &'static str, request: &Request) -> Result<Reply, WorkspaceError> {
        if let Some(reply) = self.ask_in(verb, request)? {
            return Ok(reply);
        }
        Err(self.in_state(verb, self.status()?.state))
    }

    /// A supervisor that went before it answered may have ended as it should, because of somebody else.
    fn ended_meanwhile(&self, error: WorkspaceError, well: &[State]) -> Result<Ended, WorkspaceError> {
        let gone = matches!(error, WorkspaceError::Control { source: ControlError::Gone, .. });
        if gone && well.contains(&self.status()?.state) { Ok(Ended::Now) } else { Err(error) }
    }

    /// There is nothing to end, and the state stays what it is.
    fn end_at_rest(&self, verb: &'static str) -> Result<Ended, WorkspaceError> {
        self.hold(verb)?.unfenced().map(|_| Ended::Already)
    }

    /// Ends a supervisor that cannot be asked; its machine ends with it.
    fn kill_supervisor(&self) -> Result<(), WorkspaceError> {
        let io = |source| WorkspaceError::Io { name: self.name().clone(), source };
        let socket = Socket::of(self.directory(), SOCKET).map_err(io)?;
        let Some(stream) = socket.connect().map_err(io)? else { return Ok(()) };
        // The kernel says who is at the other end; no number is guessed.
        let peer = rustix::net::sockopt::socket_peercred(stream.as_fd()).map_err(|error| io(error.into()))?;
        let process = pidfd_open(peer.pid, PidfdFlags::empty()).map_err(|error| io(error.into()))?;
        pidfd_send_signal(&process, Signal::KILL).map_err(|error| io(error.into()))?;
        let deadline = Instant::now() + GONE;
        while !matches!(control::ask(self.directory(), &Request::Status), Err(ControlError::Nobody)) {
            if Instant::now() > deadline {
                return Err(WorkspaceError::Busy(self.name().clone()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut held = self.hold("kill")?;
        if let Some(end) = &mut held.facts.end {
            end.how = Ending::Killed;
            end.reason = None;
        }
        held.write_facts()?;
        self.tell(EventKind::Killed);
        Ok(())
    }
}
