//! Starting a workspace: its lock goes to a new supervisor, which says how it went.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use engine::Demand;
use home::{Home, Name, fault_point};
use image::Store;
use proto::{SpawnFailure, SpawnFailureKind};
use template::Budget;

use volume::AttachError;

use crate::attach::attach_all;
use crate::boot::{Booted, ConsoleSink};
use crate::plan::{Plan, WritableDisk};
use crate::record::WorkspaceRecord;
use crate::resolver::in_guest;
use crate::root::{chain_id, open_root, root_file_system};
use crate::state::State;
use crate::supervisor::report::{Failure, Said, hear};
use crate::workspace::{Workspace, WorkspaceError};
use crate::{BootError, StartKind, Step};

/// The descriptors that a supervisor finds open, by number.
pub const SUPERVISOR_LOCK: i32 = 3;
/// See [`SUPERVISOR_LOCK`].
pub const SUPERVISOR_REPORT: i32 = 4;

/// What became of a request to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// Its service was started.
    Now,
    /// It was running.
    Already,
}

/// Why a supervisor did not start the service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The root file system of its image is gone.
    #[error("the root file system of image `{image}` is not there any more")]
    NoRoot { image: String },
    /// A file could not be opened.
    #[error("failed to open the workspace's disks")]
    Disks(#[source] std::io::Error),
    /// A volume of it cannot be used.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The machine did not come up.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The service could not be started.
    #[error("cannot start {}", .0.reason)]
    Service(SpawnFailure),
    /// The guest ended before it started the service.
    #[error("the guest ended before it started the service")]
    GuestGone,
}

impl StartError {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::NoRoot { .. } => "image_unusable",
            Self::Disks(_) => "disk",
            Self::Attach(_) => "volume",
            Self::Boot(BootError::NoKernel) => "no_kernel",
            Self::Boot(error) if error.is_unconfined() => "confinement",
            Self::Boot(_) | Self::GuestGone => "boot_failed",
            Self::Service(failure) => match failure.kind {
                SpawnFailureKind::NotFound => "command_not_found",
                SpawnFailureKind::NotExecutable => "command_not_executable",
                SpawnFailureKind::Setup => "command_setup",
            },
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NoRoot { image } => Some(format!("fetch the image again: microagent pull {image}")),
            Self::Attach(error) => error.hint(),
            Self::Boot(error) => error.hint(),
            _ => None,
        }
    }

    /// The code that a shell would have for it.
    pub(crate) fn exit(&self) -> Option<u8> {
        match self {
            Self::Service(failure) => Some(match failure.kind {
                SpawnFailureKind::NotFound => 127,
                SpawnFailureKind::NotExecutable => 126,
                SpawnFailureKind::Setup => 125,
            }),
            _ => None,
        }
    }
}

/// All that a workspace's machine is made from.
pub(crate) struct Machinery {
    plan: Plan,
    disk: File,
    budget: Budget,
}

impl Machinery {
    /// Finds it.
    pub(crate) fn of(workspace: &Workspace, budget: Budget, confinement: Demand) -> Result<Self, StartError> {
        let record = workspace.record();
        let mut machine = record.spec.machine();
        if confinement == Demand::Whole {
            machine.confinement = confinement;
        }
        let root = root_of(workspace)?;
        let attachments = attach_all(workspace.home(), &record.spec.volumes, &mut |_, _| ())?;
        let plan = Plan::new(workspace.home(), &machine, root, record.root.clone())?;
        let plan = plan.attach(attachments);
        let disk =
            File::options().read(true).write(true).open(workspace.disk()).map_err(StartError::Disks)?;
        Ok(Self { plan, disk, budget })
    }

    /// Starts the machine: a copy of its template, if there is one.
    pub(crate) async fn start(self, sink: ConsoleSink) -> Result<Booted, StartError> {
        let template = self.plan.find_machine_template(self.budget);
        Ok(self.plan.start(WritableDisk::Kept(self.disk), template, Some(sink)).await?)
    }
}

impl Booted {
    /// Makes the machine the workspace's.
    pub(crate) async fn set_up_workspace(&mut self, workspace: &Workspace) -> Result<(), StartError> {
        let record = workspace.record();
        let name = workspace.called_now();
        let hostname = record.spec.hostname.as_deref().unwrap_or(name.name().as_str());
        let arrangement = record.spec.arrangement(&record.service.directory);
        let resolver = in_guest(&record.spec.resolver());
        match self.set_up(hostname, record.id.bytes(), arrangement, resolver).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.why_not_set_up(error).await.into()),
        }
    }
}

/// The root file system of a workspace's image.
pub(crate) fn root_of(workspace: &Workspace) -> Result<File, StartError> {
    let record = workspace.record();
    match open_root(workspace.home(), &record.root).map_err(StartError::Disks)? {
        Some(root) => Ok(root),
        None => make_again(workspace.home(), record),
    }
}

/// The root file system, made again of the image's layers, if the store has them still.
fn make_again(home: &Home, record: &WorkspaceRecord) -> Result<File, StartError> {
    let image = || {
        let digest = record.image_digest.parse().ok()?;
        let image = Store::open(&home.images()).ok()?.read(&digest).ok()?;
        (chain_id(&image) == record.root).then_some(image)
    };
    let gone = || StartError::NoRoot { image: record.image.clone() };
    root_file_system(home, &image().ok_or_else(gone)?, &mut |_| ()).map_err(|_| gone())
}

/// Starts the workspace `name` from the disk that it has. `supervisor` is the command that becomes its
/// supervisor; `observe` hears each step.
pub fn start(
    home: &Home,
    name: &Name,
    supervisor: Command,
    observe: &mut dyn FnMut(Step),
) -> Result<Started, WorkspaceError> {
    let workspace = Workspace::find(home, name)?;
    let held = match workspace.hold("start") {
        Ok(held) => held.unfenced()?,
        Err(WorkspaceError::State { state: State::Running | State::Starting, .. }) => {
            return Ok(Started::Already);
        }
        Err(error) => return Err(error),
    };
    fault_point("start.held");
    let io = |source| WorkspaceError::Io { name: name.clone(), source };
    let lock = held.lock.file().try_clone().map_err(io)?;
    let report = spawn(supervisor, lock).map_err(io)?;
    fault_point("start.spawned");
    // The supervisor has the lock now: it is one open file, however many descriptors lead to it.
    drop(held);
    let said = hear(report, &mut |said| match said {
        Said::Restoring => observe(Step::Starting(StartKind::Restore)),
        _ => observe(Step::Starting(StartKind::Boot)),
    });
    match said {
        Some(Said::Started) => Ok(Started::Now),
        Some(Said::Failed(Failure { kind, message, hint })) => Err(WorkspaceError::Refused {
            kind,
            message: format!("failed to start workspace `{name}`: {message}"),
            hint,
        }),
        _ => Err(WorkspaceError::Refused {
            kind: "supervisor".to_owned(),
            message: format!("failed to start workspace `{name}`: its supervisor ended without notice"),
            hint: Some(format!("see what it said: microagent logs {name}")),
        }),
    }
}

/// Starts the supervisor; what it says comes through what this returns.
fn spawn(mut supervisor: Command, lock: File) -> std::io::Result<File> {
    let (ours, theirs) = std::io::pipe()?;
    supervisor.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mappings = vec![
        FdMapping { parent_fd: OwnedFd::from(lock), child_fd: SUPERVISOR_LOCK },
        FdMapping { parent_fd: OwnedFd::from(theirs), child_fd: SUPERVISOR_REPORT },
    ];
    supervisor.fd_mappings(mappings).map_err(std::io::Error::other)?;
    // Nobody waits for it: it outlives us, or ends with its workspace.
    drop(supervisor.spawn()?);
    Ok(OwnedFd::from(ours).into())
}
