//! A command in its machine, from its start to the machine's end.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{Afterwards, Control, Finished, RunError, RunRequest, Step, ending_signal};
use crate::BootError;
use crate::agent::{AgentError, Process};
use crate::artifact::Artifact;
use crate::boot::Booted;
use crate::copy::{Copied, CopyError, copy_out};
use crate::drive::{Driven, Limits};
use crate::stop_signal::StopSignal;
use crate::streams::Streams;

/// A command in its machine.
pub(super) struct Running {
    booted: Booted,
    driven: Driven,
}

impl Running {
    pub(super) fn new(booted: Booted, process: Process, streams: Streams, request: &RunRequest) -> Self {
        let limits = Limits {
            timeout: request.timeout,
            stop_signal: request.stop_signal.unwrap_or(StopSignal::TERMINATE),
            grace: request.grace,
        };
        Self { booted, driven: Driven::new(process, streams, limits) }
    }

    pub(super) async fn drive(
        &mut self,
        set_up: impl Future<Output = Result<(), BootError>>,
        controls: &mut mpsc::UnboundedReceiver<Control>,
        observe: &mut dyn FnMut(Step),
    ) -> Result<Finished, RunError> {
        tokio::select! {
            outcome = set_up => {
                outcome?;
                tracing::debug!("the machine is set up");
                home::mark("set up");
            }
            ended = self.booted.machine.ended() => return Err(machine_ended(&ended, &self.booted)),
            signal = ending_signal(controls) => return Ok(Finished::Interrupted(signal)),
        }
        match self.driven.drive(controls, &mut || observe(Step::Running)).await {
            Some(finished) => Ok(finished),
            None => Err(self.lost().await),
        }
    }

    /// The session ended before the command did: the machine's end says why, if it ended.
    async fn lost(&mut self) -> RunError {
        let soon = Duration::from_secs(2);
        match tokio::time::timeout(soon, self.booted.machine.ended()).await {
            Ok(ended) => machine_ended(&ended, &self.booted),
            Err(_) => RunError::Agent(self.booted.agent.why_lost()),
        }
    }

    /// Fetches what the run is for, also of a command that failed: that is when it is looked at. One that was
    /// interrupted is not wanted any more.
    pub(super) async fn fetch(
        &self,
        request: &RunRequest,
        finished: &Finished,
        controls: &mut mpsc::UnboundedReceiver<Control>,
    ) -> Vec<(Artifact, Result<Copied, CopyError>)> {
        let mut fetched = Vec::new();
        if !matches!(finished, Finished::Exited(_) | Finished::TimedOut) {
            return fetched;
        }
        for artifact in &request.outputs {
            tracing::debug!(%artifact, "fetching an output");
            let (source, target) = artifact.ends();
            let outcome = copy_out(&self.booted.agent, source, target, controls, |_| ()).await;
            let interrupted = matches!(outcome, Ok(Copied::Interrupted(_)));
            fetched.push((artifact.clone(), outcome));
            if interrupted {
                break;
            }
        }
        fetched
    }

    /// Ends the machine: at once if nothing that it wrote is kept.
    pub(super) async fn end(self, request: &RunRequest, finished: &Finished) -> Result<(), RunError> {
        tracing::debug!("ending the machine");
        if matches!(request.afterwards, Afterwards::Remove) && !self.booted.writes_elsewhere() {
            // What it holds is free for the next when this returns.
            if self.booted.holds_disks() {
                self.booted.machine.kill().await;
            } else {
                self.booted.machine.kill_soon();
            }
            return Ok(());
        }
        let outcome = self.shut_down(request, finished).await;
        self.booted.machine.kill().await;
        outcome
    }

    async fn shut_down(&self, request: &RunRequest, finished: &Finished) -> Result<(), RunError> {
        let grace = if matches!(finished, Finished::Exited(_)) { request.grace } else { Duration::ZERO };
        let clean = self.booted.shut_down(grace);
        let deadline = request.grace + Duration::from_secs(60);
        let outcome = tokio::time::timeout(deadline, clean).await;
        outcome
            .unwrap_or(Err(AgentError::Silent(deadline)))
            .map_err(|source| RunError::Unclean { name: request.name.clone(), source })
    }
}

fn machine_ended(ended: &engine::Ended, booted: &Booted) -> RunError {
    RunError::MachineEnded(booted.why_ended(ended))
}
