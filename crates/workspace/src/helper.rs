//! The sealed machine that has the disk of a workspace at rest: no network, nothing of the workspace's own runs in
//! it, and it is gone when what it was for is done.

use std::fs::File;
use std::time::Duration;

use engine::{Demand, MemorySize, Stalls};
use home::Home;
use proto::{Arrangement, Resolver};
use template::Budget;

use crate::agent::{Agent, AgentError};
use crate::boot::{Booted, StartKind};
use crate::name::random_bytes;
use crate::plan::{Plan, WritableDisk};
use crate::record::WorkspaceRecord;
use crate::root::{RootError, empty_root};
use crate::spec::WorkspaceSpec;
use crate::start::{StartError, root_of};
use crate::workspace::{Held, Workspace, WorkspaceError};
use crate::{BootError, DiskSlots, MachineSettings, Network};
use volume::{Attachment, scratch_copy, scratch_disk};

/// How long a helper may take to write everything out.
const CLEAN: Duration = Duration::from_secs(120);

/// How long its processes have to end, once nobody speaks to them.
const GRACE: Duration = Duration::from_secs(5);

/// The machine that copies files of a workspace at rest; the same for all, so that they share a template.
pub fn helper_machine(record: &WorkspaceRecord) -> MachineSettings {
    MachineSettings {
        acceleration: record.spec.accel,
        cpus: 1,
        memory: MemorySize::mebibytes(512),
        kernel: None,
        network: Network::Isolated,
        disk_size: record.spec.disk_size,
        slots: DiskSlots::default(),
        confinement: record.spec.machine().confinement,
    }
}

/// The machine that looks after volumes; the same for all, so that they share a template.
pub fn volume_machine() -> MachineSettings {
    MachineSettings {
        memory: MemorySize::mebibytes(512),
        network: Network::Isolated,
        slots: DiskSlots::for_disks(1),
        ..WorkspaceSpec::default().machine()
    }
}

/// On what terms a sealed machine starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelperTerms {
    /// How much disk templates may take, if there are to be any.
    pub templates: Budget,
    /// What becomes of it where this host lacks a part of what confines it. The workspace's settings may demand more.
    pub confinement: Demand,
}

impl HelperTerms {
    fn apply(self, machine: MachineSettings) -> MachineSettings {
        match self.confinement {
            Demand::Whole => MachineSettings { confinement: Demand::Whole, ..machine },
            Demand::WhatThereIs => machine,
        }
    }
}

/// A machine with a workspace's disk, or a volume.
pub(crate) struct Helper {
    booted: Booted,
    /// Until the machine is gone.
    held: Option<Held>,
}

impl Helper {
    /// One that sees `attachments` where the workspace does.
    pub(crate) async fn open(
        workspace: &Workspace,
        disk: HelperDisk,
        attachments: Vec<Attachment>,
        terms: HelperTerms,
    ) -> Result<Self, HelperError> {
        Self::start(workspace, disk, attachments, terms, false).await
    }

    /// The same for a disk that is damaged: what can be read of it is there, and it stays as it is.
    pub(crate) async fn open_damaged(
        workspace: &Workspace,
        disk: HelperDisk,
        terms: HelperTerms,
    ) -> Result<Self, HelperError> {
        Self::start(workspace, disk, Vec::new(), terms, true).await
    }

    async fn start(
        workspace: &Workspace,
        disk: HelperDisk,
        attachments: Vec<Attachment>,
        terms: HelperTerms,
        rescue: bool,
    ) -> Result<Self, HelperError> {
        let HelperDisk { held, disk } = disk;
        let failed = |error: StartError| HelperError::Start(Box::new(error));
        let root = root_of(workspace).map_err(failed)?;
        let record = workspace.record();
        let slots = DiskSlots::for_disks(attachments.len());
        let machine = terms.apply(MachineSettings { slots, ..helper_machine(record) });
        let plan = Plan::new(workspace.home(), &machine, root, record.root.clone())
            .map_err(|error| failed(error.into()))?
            .attach(attachments);
        let template = plan.find_machine_template(terms.templates);
        let started = plan.start(WritableDisk::Kept(disk), template, None).await;
        let mut booted = started.map_err(|error| failed(error.into()))?;
        booted.guest.rescue = rescue;
        let mut helper = Self { booted, held };
        helper.booted.set_up_workspace(workspace).await.map_err(failed)?;
        Ok(helper)
    }

    /// One that sees a volume alone, which is in its first slot.
    pub(crate) async fn for_volume(
        home: &Home,
        attachment: Attachment,
        terms: HelperTerms,
    ) -> Result<Self, HelperError> {
        let failed = |error: BootError| HelperError::Start(Box::new(StartError::from(error)));
        let (root, root_id) = empty_root(home).map_err(|error| HelperError::Root(Box::new(error)))?;
        let machine = terms.apply(volume_machine());
        let scratch = scratch_disk(home, machine.disk_size).map_err(|error| failed(error.into()))?;
        let plan = Plan::new(home, &machine, root, root_id).map_err(failed)?.attach(vec![attachment]);
        let template = plan.find_machine_template(terms.templates);
        let booted = plan.start(WritableDisk::Kept(scratch), template, None).await.map_err(failed)?;
        let helper = Self { booted, held: None };
        helper
            .booted
            .set_up("volume", random_bytes(), Arrangement::default(), Resolver::default())
            .await
            .map_err(failed)?;
        Ok(helper)
    }

    pub(crate) fn agent(&self) -> Agent {
        self.booted.agent.clone()
    }

    pub(crate) fn stalls(&self) -> Stalls {
        self.booted.machine.stalls()
    }

    pub(crate) fn booted(&self) -> bool {
        self.booted.start_kind() == StartKind::Boot
    }

    /// Writes everything out, and ends the machine. What was held is given back.
    pub(crate) async fn close(self) -> Result<Option<Held>, AgentError> {
        let clean = self.booted.shut_down(GRACE);
        let outcome = tokio::time::timeout(CLEAN, clean).await.unwrap_or(Err(AgentError::Silent(CLEAN)));
        self.booted.machine.kill().await;
        outcome.map(|()| self.held)
    }
}

/// Why a workspace's disk could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// The workspace cannot be used.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// What the machine starts from could not be made.
    #[error("failed to open the disk")]
    Root(#[source] Box<RootError>),
    /// The machine did not come up.
    #[error("failed to open the disk")]
    Start(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl HelperError {
    /// Whether the disk is what the machine failed at, and may be damaged.
    pub(crate) fn is_damage(&self) -> bool {
        let Self::Start(error) = self else { return false };
        let error = error.downcast_ref::<StartError>();
        matches!(error, Some(StartError::Boot(BootError::Unmountable(_) | BootError::Ended { .. })))
    }

    /// Whether this host lacks a part of what confines machines, and all of it was demanded.
    pub fn is_unconfined(&self) -> bool {
        let Self::Start(error) = self else { return false };
        let error = error.downcast_ref::<StartError>();
        matches!(error, Some(StartError::Boot(error)) if error.is_unconfined())
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Workspace(error) => error.hint(),
            Self::Root(_) => None,
            Self::Start(error) => error.downcast_ref::<StartError>().and_then(StartError::hint),
        }
    }
}

/// A disk for a helper.
#[derive(Debug)]
pub(crate) struct HelperDisk {
    /// Nobody else may use the disk meanwhile. A copy needs no such care.
    held: Option<Held>,
    disk: File,
}

impl HelperDisk {
    /// The disk of a workspace that is held.
    pub(crate) fn held(held: Held) -> Result<Self, WorkspaceError> {
        let io = |source| WorkspaceError::Io { name: held.workspace.name().clone(), source };
        let disk = File::options().read(true).write(true).open(held.workspace.disk()).map_err(io)?;
        Ok(Self { held: Some(held), disk })
    }

    /// A copy of a workspace's disk, which is gone with it.
    pub(crate) fn copied(workspace: &Workspace) -> Result<Self, WorkspaceError> {
        let io = |source| WorkspaceError::Io { name: workspace.name().clone(), source };
        let disk = File::open(workspace.disk()).map_err(io)?;
        Ok(Self { held: None, disk: scratch_copy(workspace.home(), &disk).map_err(io)? })
    }
}
