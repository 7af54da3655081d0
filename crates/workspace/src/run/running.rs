//! A command in its machine, from its start to the machine's end.

use std::time::Duration;

use proto::{ExitStatus, OutputStream, ToGuest};
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Afterwards, Control, Finished, RunError, RunRequest, Step, ending_signal};
use crate::BootError;
use crate::agent::{AgentError, Process, ProcessEvent, ProcessHandle};
use crate::boot::Booted;
use crate::stop_signal::StopSignal;
use crate::streams::{Input, Sink, Streams, feed};

/// How many interrupts end the machine when the command ignores them.
const PATIENCE: u32 = 3;

/// A command in its machine.
pub(super) struct Running {
    booted: Booted,
    process: Process,
    handle: ProcessHandle,
    sinks: Option<[Sink; 2]>,
    input: Option<Input>,
    timeout: Option<Duration>,
    limit: Limit,
    stop_signal: StopSignal,
    grace: Duration,
    interrupts: u32,
}

/// What comes when the command does not end by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Limit {
    /// Nothing.
    None,
    /// Then it is asked to end.
    Timeout(Instant),
    /// It was asked to end; then the machine ends, and this is how the run did.
    Grace(Instant, Finished),
}

impl Limit {
    /// Waits until it is reached.
    async fn reached(&self) {
        match self {
            Self::None => std::future::pending().await,
            Self::Timeout(at) | Self::Grace(at, _) => tokio::time::sleep_until(*at).await,
        }
    }
}

impl Running {
    pub(super) fn new(booted: Booted, process: Process, streams: Streams, request: &RunRequest) -> Self {
        let handle = process.handle();
        let sinks = [
            Sink::new(streams.stdout, OutputStream::Stdout, handle.clone()),
            Sink::new(streams.stderr, OutputStream::Stderr, handle.clone()),
        ];
        Self {
            booted,
            process,
            handle,
            sinks: Some(sinks),
            input: Some(streams.input),
            timeout: request.timeout,
            limit: Limit::None,
            stop_signal: request.stop_signal.unwrap_or(StopSignal::TERMINATE),
            grace: request.grace,
            interrupts: 0,
        }
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
            }
            ended = self.booted.machine.ended() => return Err(machine_ended(&ended, &self.booted)),
            signal = ending_signal(controls) => return Ok(Finished::Interrupted(signal)),
        }
        loop {
            tokio::select! {
                () = self.limit.reached() => if let Some(finished) = self.pass_limit() {
                    return Ok(finished);
                },
                event = self.process.events.recv() => match event {
                    Some(event) => if let Some(finished) = self.handle_event(event, controls, observe).await {
                        return Ok(finished);
                    },
                    None => return Err(self.lost().await),
                },
                Some(control) = controls.recv() => if let Some(finished) = self.handle_control(control) {
                    return Ok(finished);
                },
            }
        }
    }

    async fn handle_event(
        &mut self,
        event: ProcessEvent,
        controls: &mut mpsc::UnboundedReceiver<Control>,
        observe: &mut dyn FnMut(Step),
    ) -> Option<Finished> {
        match event {
            ProcessEvent::Started => {
                tracing::debug!("the command runs");
                observe(Step::Running);
                if let Some(timeout) = self.timeout {
                    self.limit = Limit::Timeout(Instant::now() + timeout);
                }
                if let Some(Input::Stream(source)) = self.input.take() {
                    feed(source, self.handle.clone());
                }
                None
            }
            ProcessEvent::Failed(failure) => Some(Finished::NotStarted(failure)),
            ProcessEvent::Output(stream, chunk) => {
                let sinks = self.sinks.as_ref().expect("output comes before the end");
                sinks[stream as usize].push(chunk);
                None
            }
            ProcessEvent::Exited(status) => {
                tracing::debug!(?status, "the command ended");
                let finished = self.finish_output(status, controls).await;
                // An end that was asked for because of the time is no end of the command's own.
                let timed_out = matches!(self.limit, Limit::Grace(_, Finished::TimedOut));
                Some(if timed_out { Finished::TimedOut } else { finished })
            }
        }
    }

    /// What the command wrote belongs to its result. A reader that takes none of it can be given up.
    async fn finish_output(
        &mut self,
        status: ExitStatus,
        controls: &mut mpsc::UnboundedReceiver<Control>,
    ) -> Finished {
        let [stdout, stderr] = self.sinks.take().expect("a command ends once");
        tokio::select! {
            () = async { stdout.finish().await; stderr.finish().await } => Finished::Exited(status),
            signal = ending_signal(controls) => Finished::Interrupted(signal),
            () = self.limit.reached() => match &self.limit {
                Limit::Grace(_, finished) => finished.clone(),
                Limit::None | Limit::Timeout(_) => Finished::TimedOut,
            },
        }
    }

    fn handle_control(&mut self, control: Control) -> Option<Finished> {
        let signal = match control {
            Control::Resize(size) => {
                self.handle.resize(size);
                return None;
            }
            Control::Signal(signal) => signal,
        };
        self.handle.signal(signal);
        let ends = [Signal::HUP.as_raw(), Signal::TERM.as_raw()].contains(&signal);
        if ends && !matches!(self.limit, Limit::Grace(..)) {
            self.limit = Limit::Grace(Instant::now() + self.grace, Finished::Interrupted(signal));
        }
        self.interrupts += u32::from(signal == Signal::INT.as_raw());
        (self.interrupts >= PATIENCE).then_some(Finished::Interrupted(signal))
    }

    /// The command's time is up: it is asked to end first, and then not asked any more.
    fn pass_limit(&mut self) -> Option<Finished> {
        if let Limit::Grace(_, finished) = &self.limit {
            return Some(finished.clone());
        }
        self.handle.signal(self.stop_signal.number());
        self.limit = Limit::Grace(Instant::now() + self.grace, Finished::TimedOut);
        None
    }

    /// The session ended before the command did: the machine's end says why, if it ended.
    async fn lost(&mut self) -> RunError {
        let soon = Duration::from_secs(2);
        match tokio::time::timeout(soon, self.booted.machine.ended()).await {
            Ok(ended) => machine_ended(&ended, &self.booted),
            Err(_) => RunError::Agent(self.booted.agent.why_lost()),
        }
    }

    /// Ends the machine: at once if nothing of it is kept.
    pub(super) async fn end(self, request: &RunRequest, finished: &Finished) -> Result<(), RunError> {
        tracing::debug!("ending the machine");
        if matches!(request.afterwards, Afterwards::Remove) {
            self.booted.machine.kill_soon();
            return Ok(());
        }
        let outcome = self.shut_down(request, finished).await;
        self.booted.machine.kill().await;
        outcome
    }

    async fn shut_down(&self, request: &RunRequest, finished: &Finished) -> Result<(), RunError> {
        let grace = if matches!(finished, Finished::Exited(_)) { request.grace } else { Duration::ZERO };
        let clean = self.booted.agent.request(&ToGuest::ShutDown { grace });
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
