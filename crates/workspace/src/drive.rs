//! A process in a guest, driven from its start to its end: its streams, its time, and what it is told.

use std::time::Duration;

use proto::{ExitStatus, OutputStream};
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::agent::{Process, ProcessEvent, ProcessHandle};
use crate::run::{Control, Finished, ending_signal};
use crate::stop_signal::StopSignal;
use crate::streams::{Input, Sink, Streams, feed};

/// How many interrupts end it all when the process ignores them.
const PATIENCE: u32 = 3;

/// How long a process may take, and how it is asked to end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How long it may run.
    pub(crate) timeout: Option<Duration>,
    /// The signal that asks it to end when its time is up.
    pub(crate) stop_signal: StopSignal,
    /// How long it has between a request to end and its end.
    pub(crate) grace: Duration,
}

/// A process and its streams.
pub(crate) struct Driven {
    process: Process,
    handle: ProcessHandle,
    sinks: Option<[Sink; 2]>,
    input: Option<Input>,
    limits: Limits,
    limit: Limit,
    interrupts: u32,
}

/// What comes when the process does not end by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Limit {
    /// Nothing.
    None,
    /// Then it is asked to end.
    Timeout(Instant),
    /// It was asked to end; then it is given up, and this is how it finished.
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

impl Driven {
    pub(crate) fn new(process: Process, streams: Streams, limits: Limits) -> Self {
        let handle = process.handle();
        let sinks = [
            Sink::new(streams.stdout, OutputStream::Stdout, handle.clone()),
            Sink::new(streams.stderr, OutputStream::Stderr, handle.clone()),
        ];
        Self {
            process,
            handle,
            sinks: Some(sinks),
            input: Some(streams.input),
            limits,
            limit: Limit::None,
            interrupts: 0,
        }
    }

    /// Drives it to its end; `None` if the session with the guest ended before. `started` is called once it runs.
    pub(crate) async fn drive(
        &mut self,
        controls: &mut mpsc::UnboundedReceiver<Control>,
        started: &mut dyn FnMut(),
    ) -> Option<Finished> {
        loop {
            tokio::select! {
                () = self.limit.reached() => if let Some(finished) = self.pass_limit() {
                    return Some(finished);
                },
                event = self.process.events.recv() => {
                    if let Some(finished) = self.handle_event(event?, controls, started).await {
                        return Some(finished);
                    }
                }
                Some(control) = controls.recv() => if let Some(finished) = self.handle_control(control) {
                    return Some(finished);
                },
            }
        }
    }

    async fn handle_event(
        &mut self,
        event: ProcessEvent,
        controls: &mut mpsc::UnboundedReceiver<Control>,
        started: &mut dyn FnMut(),
    ) -> Option<Finished> {
        match event {
            ProcessEvent::Started => {
                tracing::debug!("the process runs");
                home::mark("started");
                started();
                if let Some(timeout) = self.limits.timeout {
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
                tracing::debug!(?status, "the process ended");
                home::mark("ended");
                let finished = self.finish_output(status, controls).await;
                // An end that was asked for because of the time is no end of the command's own.
                let timed_out = matches!(self.limit, Limit::Grace(_, Finished::TimedOut));
                Some(if timed_out { Finished::TimedOut } else { finished })
            }
        }
    }

    /// What the process wrote belongs to its result. A reader that takes none of it can be given up.
    async fn finish_output(
        &mut self,
        status: ExitStatus,
        controls: &mut mpsc::UnboundedReceiver<Control>,
    ) -> Finished {
        let [stdout, stderr] = self.sinks.take().expect("a process ends once");
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
            Control::Detach => return Some(Finished::Detached),
            Control::Signal(signal) => signal,
        };
        self.handle.signal(signal);
        let ends = [Signal::HUP.as_raw(), Signal::TERM.as_raw()].contains(&signal);
        if ends && !matches!(self.limit, Limit::Grace(..)) {
            self.limit = Limit::Grace(Instant::now() + self.limits.grace, Finished::Interrupted(signal));
        }
        self.interrupts += u32::from(signal == Signal::INT.as_raw());
        (self.interrupts >= PATIENCE).then_some(Finished::Interrupted(signal))
    }

    /// Its time is up: it is asked to end first, and then not asked any more.
    fn pass_limit(&mut self) -> Option<Finished> {
        if let Limit::Grace(_, finished) = &self.limit {
            return Some(finished.clone());
        }
        self.handle.signal(self.limits.stop_signal.number());
        self.limit = Limit::Grace(Instant::now() + self.limits.grace, Finished::TimedOut);
        None
    }
}
