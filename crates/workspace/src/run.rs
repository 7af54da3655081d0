//! One command in one machine, from start to end.
//!
//! ```text
//! preparing ──▶ starting ──▶ running ──▶ ending
//!     └────────────┴───── a signal ends these at once; in `running` it goes to the command
//! ```
//!
//! Unless the workspace is kept, its disk has no name, so nothing is left of a run however it ends.

mod connected;
mod kept;
mod running;

use std::cell::RefCell;
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use engine::{Stall, Stalls};
use home::{Home, Name};
use image::{Image, Store};
use network::{Capture, CaptureError, Fittings, JoinError, PublishError, PublishSpec};
use proto::{Arrangement, Command, ExitStatus, SpawnFailure, Stdio, TerminalSize};
use template::{Budget, Template, Templates};
use tokio::sync::mpsc;

use volume::{AttachError, Mount};

use crate::agent::{Agent, AgentError};
use crate::artifact::Artifact;
use crate::attach::{MountsError, attach_all, check_mounts};
use crate::audit::NetworkLogEntry;
use crate::boot::{Booted, StartKind, tell_time};
use crate::copy::{Copied, CopyError};
use crate::networks::join;
use crate::plan::{Plan, WritableDisk};
use crate::record::{KeepError, exists};
use crate::resolver::in_guest;
use crate::root::{RootError, chain_id, root_file_system};
use crate::service::{Service, ServiceError};
use crate::spec::WorkspaceSpec;
use crate::streams::Streams;
use crate::supervisor::confined::confine_run;
use crate::{
    BootError, CommandError, InvalidStopSignal, MachineId, MachineSettings, Overrides, StopSignal, Tmpfs,
    command,
};
use connected::Connected;
use kept::KeptRun;
use running::Running;

/// What to run.
#[derive(Debug)]
pub struct RunRequest {
    /// The image.
    pub image: Image,
    /// What to start in it.
    pub command: Overrides,
    /// The machine.
    pub machine: MachineSettings,
    /// Its network, where it has one.
    pub network: network::Settings,
    /// What its programs make of names before they ask for them.
    pub resolver: network::Resolver,
    /// The ports that are published on this host.
    pub publish: Vec<PublishSpec>,
    /// The named networks that it is on.
    pub networks: Vec<Name>,
    /// The file that what its network carries is written to.
    pub pcap: Option<PathBuf>,
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
    /// The signal that asks the command to end when its time is up; the image's if absent, else SIGTERM.
    pub stop_signal: Option<StopSignal>,
    /// How long the command has between a request to end and its end.
    pub grace: Duration,
    /// What is fetched when the command has ended.
    pub outputs: Vec<Artifact>,
    /// The disks beside the workspace's own.
    pub volumes: Vec<Mount>,
    /// File systems in the guest's memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Whether only these take changes.
    pub read_only: bool,
}

impl RunRequest {
    /// What the root file system is to have for a command that starts in `directory`.
    fn arrangement(&self, directory: &[u8]) -> Arrangement {
        let tmpfs = self.tmpfs.iter().map(Tmpfs::in_guest).collect();
        Arrangement { tmpfs, read_only: self.read_only, directory: directory.to_owned() }
    }
}

/// What became of a run.
#[derive(Debug)]
pub struct Ran {
    /// How its command ended.
    pub finished: Finished,
    /// What became of its outputs.
    pub outputs: Vec<(Artifact, Result<Copied, CopyError>)>,
    /// What its network refused, as far as there is room to tell.
    pub refused: Vec<NetworkLogEntry>,
}

/// What happens to a run's workspace.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Afterwards {
    /// It is gone with the run.
    #[default]
    Remove,
    /// It stays, and is what this says.
    Keep(Box<KeptWorkspace>),
}

/// What a run's workspace is when it stays.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptWorkspace {
    pub(crate) spec: WorkspaceSpec,
    pub(crate) service: Service,
}

impl KeptWorkspace {
    /// One with these settings, whose later starts start the service that they name.
    pub fn new(spec: WorkspaceSpec, image: &Image, store: &Store) -> Result<Self, ServiceError> {
        let service = Service::resolve(&spec, image, store)?;
        Ok(Self { spec, service })
    }
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
    /// Whoever looks on goes away.
    Detach,
}

/// Where a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The machine stands still until this host takes what it writes.
    Stalled(Stall),
    /// It goes on.
    WentOn,
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
    /// Whoever looked on went away.
    Detached,
}

/// Why a command was not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is nothing to run.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The image's signal to end is none.
    #[error("cannot use the image's stop signal")]
    StopSignal(#[from] InvalidStopSignal),
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
    /// Its volumes make no sense together.
    #[error(transparent)]
    Mounts(#[from] MountsError),
    /// A volume of it cannot be used.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The workspace could not be kept.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// A port could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A network could not be joined.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Packets could not be captured.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The network could not be started.
    #[error("failed to start the network")]
    Network(#[source] std::io::Error),
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
            Self::Root { source, .. } => source.hint(),
            Self::Attach(error) => error.hint(),
            Self::Publish(error) => error.hint(),
            Self::Join(error) => error.hint(),
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
    kept: Option<KeptRun>,
    command: Command,
    fittings: Fittings,
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
    if request.stop_signal.is_none() {
        request.stop_signal = image_stop_signal(&request.image)?;
    }
    if exists(home, &request.name) {
        return Err(RunError::NameTaken(request.name.clone()));
    }
    check_mounts(&request.volumes)?;
    let fittings = Fittings {
        listeners: network::bind(&request.publish)?,
        memberships: join(home, &request.networks, &request.name)?,
        capture: request.pcap.as_deref().map(Capture::create).transpose()?,
        ..Fittings::default()
    };
    let total = request.image.size();
    let image = request.image.reference.as_ref().map_or_else(String::new, ToString::to_string);
    let root =
        root_file_system(home, &request.image, &mut |bytes| observe(Step::Converting { bytes, total }))
            .map_err(|source| RunError::Root { image: image.clone(), source })?;
    let attachments = attach_all(home, &request.volumes, &mut |bytes, total| {
        observe(Step::Converting { bytes, total });
    })?;
    let plan = Plan::new(home, &request.machine, root, chain_id(&request.image))?.attach(attachments);
    let (template, template_use) = find_template(home, &request, &plan);
    let (kept, disk) = match &request.afterwards {
        Afterwards::Remove => (None, WritableDisk::Scratch),
        Afterwards::Keep(wanted) => {
            let (kept, disk) = KeptRun::make(home, &request, wanted)?;
            (Some(kept), WritableDisk::Kept(disk))
        }
    };
    Ok(PreparedRun { plan, disk, template, template_use, kept, command, fittings, request })
}

pub(crate) fn image_stop_signal(image: &Image) -> Result<Option<StopSignal>, InvalidStopSignal> {
    let config = image.config.config().as_ref();
    config.and_then(|config| config.stop_signal().as_deref()).map(str::parse).transpose()
}

/// The template to start from, if there is one. A kept workspace's disk is not a template's copy.
fn find_template(home: &Home, request: &RunRequest, plan: &Plan) -> (Option<Template>, TemplateUse) {
    if request.templates == Budget::Off {
        return (None, TemplateUse::None);
    }
    if request.afterwards != Afterwards::Remove {
        return (plan.find_machine_template(request.templates), TemplateUse::None);
    }
    let Some(key) = plan.image_template() else { return (None, TemplateUse::None) };
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

    /// Has this thread, and all that it starts from here on, give up what the run does not need. All else is to be done:
    /// images fetched, files opened, other threads ended.
    pub fn confine(&self, home: &Home) {
        let outputs: Vec<_> = self.request.outputs.iter().map(Artifact::destination).collect();
        confine_run(home, &self.request.volumes, outputs.iter().map(PathBuf::as_path));
    }

    /// Runs the command to its end. `controls` may close at any time; `observe` hears each step.
    ///
    /// It must be driven on a thread that lives until the run is over.
    pub async fn run(
        self,
        streams: Streams,
        mut controls: mpsc::UnboundedReceiver<Control>,
        observe: &mut dyn FnMut(Step),
    ) -> Result<Ran, RunError> {
        let kind = if self.template.is_some() { StartKind::Restore } else { StartKind::Boot };
        observe(Step::Starting(kind));
        let mut booted = tokio::select! {
            booted = start(&self.plan, self.disk, self.template, self.request.spares) => booted?,
            signal = ending_signal(&mut controls) => {
                return Ok(Ran { finished: Finished::Interrupted(signal), outputs: Vec::new(), refused: Vec::new() });
            }
        };
        let mut request = self.request;
        let settings = std::mem::take(&mut request.network);
        let network = Connected::start(booted.cable.take(), settings, self.fittings, self.kept.as_ref());
        let network = network.map_err(RunError::Network)?;
        let machine_id = self.kept.as_ref().map_or_else(MachineId::random, KeptRun::machine_id);
        let hostname = request.hostname.as_deref().unwrap_or(request.name.as_str());
        let arrangement = request.arrangement(&self.command.directory);
        let set_up = booted.set_up(hostname, machine_id.bytes(), arrangement, in_guest(&request.resolver));
        let process = booted.agent.spawn(self.command);
        let (agent, stalls) = (booted.agent.clone(), booted.machine.stalls());
        let mut running = Running::new(booted, process, streams, &request);
        let mut outputs = Vec::new();
        let observe = RefCell::new(observe);
        let life = async {
            let step = &mut |step| observe.borrow_mut()(step);
            let finished = running.drive(set_up, &mut controls, step).await?;
            outputs = running.fetch(&request, &finished, &mut controls).await;
            running.end(&request, &finished).await.map(|()| finished)
        };
        let outcome = tokio::select! {
            outcome = life => outcome,
            never = watch_stalls(stalls, &agent, &observe) => match never {},
        };
        let refused = network.map(Connected::end).unwrap_or_default();
        if let Some(kept) = self.kept {
            kept.finish(&outcome);
        }
        outcome.map(|finished| Ran { finished, outputs, refused })
    }
}

/// Tells of a machine that stands still, and tells it the time when it goes on.
async fn watch_stalls(
    mut stalls: Stalls,
    agent: &Agent,
    observe: &RefCell<&mut dyn FnMut(Step)>,
) -> Infallible {
    loop {
        let step = if let Some(stall) = stalls.changed().await {
            Step::Stalled(stall)
        } else {
            tell_time(agent);
            Step::WentOn
        };
        observe.borrow_mut()(step);
    }
}

/// Takes a spare, or starts a machine.
async fn start(
    plan: &Plan,
    disk: WritableDisk,
    template: Option<Template>,
    spares: Spares,
) -> Result<Booted, BootError> {
    if let (Some(template), Spares::Use, WritableDisk::Scratch) = (&template, spares, &disk)
        && !plan.has_slots()
        && let Some(spare) = plan.claim_spare(&template.key).await
    {
        tracing::info!("starting in a spare");
        return Ok(spare);
    }
    let how = if template.is_some() { "restoring a template" } else { "booting" };
    tracing::info!("{how}");
    plan.start(disk, template, None).await
}

pub(crate) async fn ending_signal(controls: &mut mpsc::UnboundedReceiver<Control>) -> i32 {
    loop {
        match controls.recv().await {
            Some(Control::Signal(signal)) => return signal,
            Some(Control::Resize(_) | Control::Detach) => {}
            None => std::future::pending().await,
        }
    }
}
