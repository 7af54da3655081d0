//! Commands in a workspace that runs.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::Command;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::agent::Agent;
use crate::control::{Reply, Request, STALLED};
use crate::drive::{Driven, Limits};
use crate::run::{Control, Finished};
use crate::stop_signal::StopSignal;
use crate::streams::Streams;
use crate::workspace::{Workspace, WorkspaceError};

/// How long a command has to end when its time is up, before it is ended.
const GRACE: Duration = Duration::from_secs(2);

/// A command to execute.
pub struct ExecRequest {
    /// What to start.
    pub command: Command,
    /// Where its streams lead.
    pub streams: Streams,
    /// How long it may run.
    pub timeout: Option<Duration>,
}

/// How an executed command ended; the words are a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecStatus {
    /// With an exit code.
    Exited,
    /// By a signal.
    Signaled,
    /// Its time was up.
    Timeout,
    /// It never ran.
    FailedToStart,
}

/// Executes a command in `workspace` and waits for its end. It ends with this process, or when this is dropped.
/// `started` is called once it runs.
pub async fn execute(
    workspace: &Workspace,
    request: ExecRequest,
    controls: &mut mpsc::UnboundedReceiver<Control>,
    started: &mut dyn FnMut(),
) -> Result<Finished, WorkspaceError> {
    let agent = workspace.agent().await?;
    let process = agent.spawn(request.command);
    let limits = Limits { timeout: request.timeout, stop_signal: StopSignal::TERMINATE, grace: GRACE };
    let mut driven = Driven::new(process, request.streams, limits);
    match driven.drive(controls, started).await {
        Some(finished) => Ok(finished),
        None => Err(lost(workspace, &agent)),
    }
}

/// The session ends with the machine, whose state says more.
fn lost(workspace: &Workspace, agent: &Agent) -> WorkspaceError {
    let state = workspace.status().map(|status| status.state);
    let message = match state {
        Ok(state) => format!("the command was cut off: workspace `{}` is {state}", workspace.name()),
        Err(_) => format!("the command was cut off: {}", agent.why_lost()),
    };
    WorkspaceError::Refused { kind: "state".to_owned(), message, hint: None }
}

/// Starts a command in `workspace` and leaves it running. What it writes is thrown away.
pub fn detach(workspace: &Workspace, command: Command) -> Result<(), WorkspaceError> {
    match workspace.ask(&Request::Detached { command: Box::new(command) }) {
        Ok(Some(Reply::Done)) => Ok(()),
        Err(WorkspaceError::Refused { kind, message, .. }) if kind == STALLED => {
            Err(workspace.stalled("exec in", message))
        }
        Err(error) => Err(error),
        Ok(_) => Err(workspace.in_state("exec in", workspace.status()?.state)),
    }
}

/// A stream that is kept, up to a bound.
#[derive(Debug, Clone)]
pub struct Capture(Arc<Mutex<Captured>>, usize);

/// What was captured of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// Its first bytes.
    pub bytes: Vec<u8>,
    /// Whether there were more.
    pub truncated: bool,
}

impl Capture {
    /// Keeps at most `most` bytes, and throws away the rest.
    pub fn new(most: usize) -> Self {
        Self(Arc::default(), most)
    }

    /// What was captured so far.
    pub fn captured(&self) -> Captured {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut captured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = self.1 - captured.bytes.len();
        captured.truncated |= bytes.len() > room;
        captured.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_bound_is_told_and_not_kept() {
        let mut capture = Capture::new(5);
        capture.write_all(b"abc").unwrap();
        assert_eq!(capture.captured(), Captured { bytes: b"abc".to_vec(), truncated: false });
        capture.write_all(b"de").unwrap();
        assert!(!capture.captured().truncated);
        capture.write_all(b"fgh").unwrap();
        assert_eq!(capture.captured(), Captured { bytes: b"abcde".to_vec(), truncated: true });
    }
}
