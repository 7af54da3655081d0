//! A second workspace with what the first has on its disk.

use std::fs::File;

use home::{Name, fault_point};
use jiff::Timestamp;

use crate::event::EventKind;
use crate::machine_id::MachineId;
use crate::record::{KeepError, NewDisk, WorkspaceRecord, make};
use crate::root::open_root;
use crate::workspace::{Workspace, WorkspaceError};

/// Why a workspace was not cloned.
#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    /// It cannot be used.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// The other one could not be made.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

impl CloneError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Workspace(error) => error.hint(),
            Self::Keep(KeepError::Exists(_)) => Some("choose another name".to_owned()),
            Self::Keep(_) => None,
        }
    }
}

impl Workspace {
    /// Makes the workspace `to` with the same settings and a copy of the disk; from then on neither knows of the
    /// other. It must be at rest: a disk that is written to has no moment to copy.
    ///
    /// The copy shares its blocks with the original where the file system can do that, and takes what is not a hole
    /// elsewhere.
    pub fn clone_as(&self, to: &Name) -> Result<(), CloneError> {
        let io = |source| WorkspaceError::Io { name: self.name().clone(), source };
        let held = self.hold("clone")?.unfenced()?;
        fault_point("clone.held");
        // The root file system stays while somebody has it open, and until the new record names it.
        let _root = open_root(self.home(), &self.record().root).map_err(io)?;
        let disk = File::open(self.disk()).map_err(io)?;
        let record = WorkspaceRecord {
            // Two machines that are up at the same time are two.
            id: MachineId::random(),
            created_at: Timestamp::now(),
            ..self.record().clone()
        };
        drop(make(self.home(), to, &record, NewDisk::Copy(&disk))?);
        self.tell(EventKind::Cloned { to: to.clone() });
        if let Ok(workspace) = Self::find(self.home(), to) {
            workspace.tell(EventKind::Created);
        }
        drop(held);
        Ok(())
    }
}
