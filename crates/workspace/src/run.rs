//! One command in one machine, from start to end.
//!
//! ```text
//! preparing ──▶ starting ──▶ running ──▶ ending
//!     └────────────┴───── a signal ends these at once; in `running` it goes to the command
//! ```
//!
//! Unless the workspace is kept, its disk has no name, so nothing is left of a run however it ends.

use std::time::Duration;

use home::{Home, Name};
use image::Image;
use proto::{Command, ExitStatus, OutputStream, SpawnFailure, Stdio, TerminalSize, ToGuest};
use rustix::process::Signal;
use template::{Budget, Template, Templates};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::agent::{AgentError, Process, ProcessEvent, ProcessHandle};
use crate::boot::{Booted, StartKind};
use crate::plan::{Plan, WritableDisk};
use crate::record::{Keep, KeepError, WorkspaceRecord, exists};
use crate::root::{RootError, root_file_system};
use crate::streams::{Input, Sink, Streams, feed};
use crate::{BootError, CommandError, MachineSettings, Overrides, command};

/// How many interrupts end the machine when the command ignores them.
const PATIENCE: u32 = 3;

/// What to run.
#[derive(Debug)]
pub struct RunRequest {
    /// The image.
    pub image: Image,
    /// What to start in it.
    pub command: Overrides,
    /// The machine.
    pub machine: MachineSettings,
    /// The workspace's name.
    pub name: Name,
    /// The host name; the workspace's name if absent.
    pub hostname: Option<String>,
    /// The terminal that the command runs on, if it does.
    pub terminal: Option<TerminalSize>,
    /// Whether the command, without a terminal, has an input.
    pub interactive: bool,
    /// What happens to the workspace afterwards.
    pub afterwards: Afterwards,
    /// How much disk templates may take, if there are to be any.
    pub templates: Budget,
    /// Whether it may start in a machine that waits for a run like it.
    pub spares: Spares,
    /// How long the command may run.
    pub timeout: Option<Duration>,
    /// How long the command has between a request to end and its end.
    pub grace: Duration,
}

/// What happens to a run's workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Afterwards {
    /// It is gone with the run.
    #[default]
    Remove,
    /// It stays.
    Keep,
}

/// Whether a run may start in a spare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spares {
    /// If one waits.
    Use,
    /// Not even then.
    Ignore,
}

/// What the front tells a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// This process got a signal.
    Signal(i32),
    /// The terminal has a new size.
    Resize(TerminalSize),
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Layers become a root file system: so many bytes of so many.
    Converting {
        /// Done.
        bytes: u64,
        /// In all.
        total: u64,
    },
    /// The machine starts.
    Starting(StartKind),
    /// The command runs.
    Running,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// The command ended.
    Exited(ExitStatus),
    /// The command could not be started.
    NotStarted(SpawnFailure),
    /// The command took longer than it may.
    TimedOut,
    /// A signal to this process ended the run.
    Interrupted(i32),
}

/// Why a command was not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is nothing to run.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A workspace has that name.
    #[error("a workspace `{0}` exists already")]
    NameTaken(Name),
    /// The image's layers are no root file system.
    #[error("cannot use image `{image}`")]
    Root {
        /// The image.
        image: String,
        /// Why.
        source: RootError,
    },
    /// The workspace could not be kept.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// The machine did not come up.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The machine ended before the command did.
    #[error("the machine ended before the command did: {0}")]
    MachineEnded(String),
    /// The guest broke the protocol, or its agent died.
    #[error(transparent)]
    Agent(AgentError),
    /// The disk of a kept workspace is not clean.
    #[error("failed to shut the workspace `{name}` down cleanly")]
    Unclean {
        /// The workspace.
        name: Name,
        /// Why.
        source: AgentError,
    },
}

impl RunError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Boot(error) => error.hint(),
            Self::Keep(KeepError::Disk(error)) => error.hint(),
            Self::Command(CommandError::NoCommand) => {
                Some("name one after the image, as in: microagent run IMAGE sh".to_owned())
            }
            Self::NameTaken(_) | Self::Keep(KeepError::Exists(_)) => Some("choose another --name".to_owned()),
            _ => None,
        }
    }
}

/// A run that has everything it needs, and has not started.
pub struct PreparedRun {
    plan: Plan,
    disk: WritableDisk,
    template: Option<Template>,
    template_use: TemplateUse,
    kept: Option<Keep>,
    command: Command,
    request: RunRequest,
}

/// What a run has to do with templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateUse {
    /// It starts from one.
    Restored,
    /// There is none for it yet; one would help the next run like it.
    Wanted,
    /// None is used and none is wanted.
    None,
}

/// Finds and makes what a run needs: the root file system, a disk, a kernel. `observe` hears each step.
///
/// A process that is killed in here leaves nothing behind, unless the workspace is to be kept.
pub fn prepare(
    home: &Home,
    mut request: RunRequest,
    observe: &mut dyn FnMut(Step),
) -> Result<PreparedRun, RunError> {
    let stdio = match (request.terminal, request.interactive) {
        (Some(size), _) => Stdio::Terminal(size),
        (None, true) => Stdio::Pipes,
        (None, false) => Stdio::NoInput,
    };
    let command = command::resolve(&request.image.config, std::mem::take(&mut request.command), stdio)?;
    if exists(home, &request.name) {
        return Err(RunError::NameTaken(request.name.clone()));
    }
    let total = request.image.size();
    let image = request.image.reference.as_ref().map_or_else(String::new, ToString::to_string);
    let root =
        root_file_system(home, &request.image, &mut |bytes| observe(Step::Converting { bytes, total }))
            .map_err(|source| RunError::Root { image: image.clone(), source })?;
    let plan = Plan::new(home, &request.machine, &request.image, root)?;
    let (template, template_use) = find_template(home, &request, &plan);
    let (kept, disk) = match request.afterwards {
        Afterwards::Remove => (None, WritableDisk::Scratch),
        Afterwards::Keep => {
            let record = WorkspaceRecord {
                image,
                image_digest: request.image.manifest_digest.to_string(),
                created_at: jiff::Timestamp::now(),
            };
            let (kept, disk) = Keep::create(home, &request.name, &record, request.machine.disk_size)?;
            (Some(kept), WritableDisk::Kept(disk))
        }
    };
    Ok(PreparedRun { plan, disk, template, template_use, kept, command, request })
}

/// The template to start from, if there is one. A kept workspace's disk is not a template's copy.
fn find_template(home: &Home, request: &RunRequest, plan: &Plan) -> (Option<Template>, TemplateUse) {
    if request.templates == Budget::Off || request.afterwards == Afterwards::Keep {
        return (None, TemplateUse::None);
    }
    let Some(key) = plan.template_key() else { return (None, TemplateUse::None) };
    match Templates::open(home).find(&key) {
        Some(template) => (Some(template), TemplateUse::Restored),
        None => (None, TemplateUse::Wanted),
    }
}

impl PreparedRun {
    /// What it has to do with templates.
    pub fn template_use(&self) -> TemplateUse {
        self.template_use
    }

    /// Runs the command to its end. `controls` may close at any time; `observe` hears each step.
    ///
    /// It must be driven on a thread that lives until the run is over.
    pub async fn run(
        self,
        streams: Streams,
        mut controls: mpsc::UnboundedReceiver<Control>,
        observe: &mut dyn FnMut(Step),
    ) -> Result<Finished, RunError> {
        let kind = if self.template.is_some() { StartKind::Restore } else { StartKind::Boot };
        observe(Step::Starting(kind));
        let booted = tokio::select! {
            booted = start(&self.plan, self.disk, self.template, self.request.spares) => booted?,
            signal = ending_signal(&mut controls) => return Ok(Finished::Interrupted(signal)),
        };
        let request = self.request;
        let set_up = booted.set_up(request.hostname.as_deref().unwrap_or(request.name.as_str()));
        let process = booted.agent.spawn(self.command);
        let mut running = Running::new(booted, process, streams, &request);
        let finished = running.drive(set_up, &mut controls, observe).await?;
        let ended = running.end(&request, &finished).await;
        // Until here nobody else may use the workspace's disk.
        drop(self.kept);
        ended.map(|()| finished)
    }
}

/// Takes a spare, or starts a machine.
async fn start(
    plan: &Plan,
    disk: WritableDisk,
    template: Option<Template>,
    spares: Spares,
) -> Result<Booted, BootError> {
    if let (Some(template), Spares::Use) = (&template, spares)
        && let Some(spare) = plan.claim_spare(&template.key).await
    {
        tracing::info!("starting in a spare");
        return Ok(spare);
    }
    let how = if template.is_some() { "restoring a template" } else { "booting" };
    tracing::info!("{how}");
    plan.start(disk, template).await
}

async fn ending_signal(controls: &mut mpsc::UnboundedReceiver<Control>) -> i32 {
    loop {
        match controls.recv().await {
            Some(Control::Signal(signal)) => return signal,
            Some(Control::Resize(_)) => {}
            None => std::future::pending().await,
        }
    }
}

/// A command in its machine.
struct Running {
    booted: Booted,
    process: Process,
    handle: ProcessHandle,
    sinks: Option<[Sink; 2]>,
    input: Option<Input>,
    timeout: Option<Duration>,
    /// When the machine ends, whatever the command does, and what the run's result then is.
    deadline: Option<(Instant, Finished)>,
    grace: Duration,
    interrupts: u32,
}

impl Running {
    fn new(booted: Booted, process: Process, streams: Streams, request: &RunRequest) -> Self {
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
            deadline: None,
            grace: request.grace,
            interrupts: 0,
        }
    }

    async fn drive(
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
            let deadline = self.deadline.as_ref().map(|(at, _)| *at);
            tokio::select! {
                event = self.process.events.recv() => match event {
                    Some(event) => if let Some(finished) = self.handle_event(event, controls, observe).await {
                        return Ok(finished);
                    },
                    None => return Err(self.lost().await),
                },
                Some(control) = controls.recv() => if let Some(finished) = self.handle_control(control) {
                    return Ok(finished);
                },
                () = sleep_until(deadline) => {
                    let (_, finished) = self.deadline.take().expect("a deadline has passed");
                    return Ok(finished);
                }
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
                self.deadline = self.timeout.map(|timeout| (Instant::now() + timeout, Finished::TimedOut));
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
                Some(self.finish_output(status, controls).await)
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
        let deadline = self.deadline.as_ref().map(|(at, _)| *at);
        tokio::select! {
            () = async { stdout.finish().await; stderr.finish().await } => Finished::Exited(status),
            signal = ending_signal(controls) => Finished::Interrupted(signal),
            () = sleep_until(deadline) => {
                self.deadline.take().map_or(Finished::TimedOut, |(_, finished)| finished)
            }
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
        if ends && self.deadline.as_ref().is_none_or(|(_, finished)| *finished == Finished::TimedOut) {
            self.deadline = Some((Instant::now() + self.grace, Finished::Interrupted(signal)));
        }
        self.interrupts += u32::from(signal == Signal::INT.as_raw());
        (self.interrupts >= PATIENCE).then_some(Finished::Interrupted(signal))
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
    async fn end(self, request: &RunRequest, finished: &Finished) -> Result<(), RunError> {
        tracing::debug!("ending the machine");
        if request.afterwards == Afterwards::Remove {
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

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn machine_ended(ended: &engine::Ended, booted: &Booted) -> RunError {
    RunError::MachineEnded(match ended {
        engine::Ended::PoweredOff => "the guest switched itself off".to_owned(),
        engine::Ended::Reset => {
            let console = booted.console.lock().expect("no holder panics").last_lines(5);
            format!("the guest restarted or its kernel panicked; its last words: {}", console.join(" / "))
        }
        engine::Ended::Died { status, last_words } => {
            format!("its process ended ({status}) {}", last_words.join(" / "))
        }
    })
}
