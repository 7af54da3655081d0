//! The sealed machine that has the disk of a workspace at rest: no network, nothing of the workspace's own runs in
//! it, and it is gone after the copy.

use std::fs::File;
use std::time::Duration;

use engine::MemorySize;
use proto::ToGuest;
use template::Budget;

use super::{Access, CopyError};
use crate::agent::{Agent, AgentError};
use crate::boot::{Booted, StartKind};
use crate::disk::scratch_copy;
use crate::plan::{Plan, WritableDisk};
use crate::record::WorkspaceRecord;
use crate::start::{StartError, root_of};
use crate::state::State;
use crate::workspace::{Held, Workspace, WorkspaceError};
use crate::{MachineSettings, Network};

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
    }
}

/// A machine with a workspace's disk.
pub(super) struct Helper {
    booted: Booted,
    /// Nobody else may use the disk meanwhile. A copy of a disk needs no such care.
    _held: Option<Held>,
}

impl Helper {
    pub(super) async fn open(
        workspace: &Workspace,
        access: Access,
        templates: Budget,
    ) -> Result<Self, CopyError> {
        let (held, disk) = take_disk(workspace, access)?;
        let failed = |error: StartError| CopyError::Helper(Box::new(error));
        let root = root_of(workspace).map_err(failed)?;
        let record = workspace.record();
        let plan = Plan::new(workspace.home(), &helper_machine(record), root, record.root.clone())
            .map_err(|error| failed(error.into()))?;
        let template = plan.find_machine_template(templates);
        let started = plan.start(WritableDisk::Kept(disk), template, None).await;
        let booted = started.map_err(|error| failed(error.into()))?;
        let helper = Self { booted, _held: held };
        helper.booted.set_up_workspace(workspace).await.map_err(failed)?;
        Ok(helper)
    }

    pub(super) fn agent(&self) -> Agent {
        self.booted.agent.clone()
    }

    pub(super) fn booted(&self) -> bool {
        self.booted.start_kind() == StartKind::Boot
    }

    /// Writes everything out, and ends the machine.
    pub(super) async fn close(self) -> Result<(), AgentError> {
        let clean = self.booted.agent.request(&ToGuest::ShutDown { grace: GRACE });
        let outcome = tokio::time::timeout(CLEAN, clean).await.unwrap_or(Err(AgentError::Silent(CLEAN)));
        self.booted.machine.kill().await;
        outcome
    }
}

/// The workspace's disk, held. What is in quarantine stays as it is, and a copy of its disk is looked at.
fn take_disk(workspace: &Workspace, access: Access) -> Result<(Option<Held>, File), CopyError> {
    let io = |source| WorkspaceError::Io { name: workspace.name().clone(), source };
    if workspace.facts()?.quarantine.is_some() {
        if access == Access::Change {
            return Err(workspace.in_state(access.verb(), State::Quarantined).into());
        }
        let disk = File::open(workspace.disk()).map_err(io)?;
        return Ok((None, scratch_copy(workspace.home(), &disk).map_err(io)?));
    }
    let held = workspace.hold(access.verb())?;
    let disk = File::options().read(true).write(true).open(workspace.disk()).map_err(io)?;
    Ok((Some(held), disk))
}
