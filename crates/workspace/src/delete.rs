//! Deleting and renaming.

use home::{Home, Name, Scratch, fault_point};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::event::EventKind;
use crate::record::place;
use crate::state::State;
use crate::workspace::{Workspace, WorkspaceError};

impl Workspace {
    /// Deletes it, with its disk. It must be at rest.
    pub fn delete(&self) -> Result<(), WorkspaceError> {
        let io = |source| WorkspaceError::Io { name: self.name().clone(), source };
        let held = self.hold("delete")?.unfenced()?;
        fault_point("delete.held");
        let scratch = Scratch::new(self.home()).map_err(io)?;
        std::fs::rename(self.directory(), scratch.path().join("deleted")).map_err(io)?;
        fault_point("delete.moved");
        home::sync_directory(&self.home().workspaces()).map_err(io)?;
        self.tell(EventKind::Deleted);
        drop(held);
        Ok(())
    }

    /// Gives it another name, also while it runs.
    pub fn rename(&self, to: &Name) -> Result<(), WorkspaceError> {
        let status = self.status()?;
        if status.state == State::Quarantined {
            return Err(self.in_state("rename", State::Quarantined));
        }
        move_to(self.home(), self.name(), to)?;
        fault_point("rename.moved");
        let io = |source| WorkspaceError::Io { name: self.name().clone(), source };
        home::sync_directory(&self.home().workspaces()).map_err(io)?;
        self.rename_on_networks(to);
        self.tell(EventKind::Renamed { to: to.clone() });
        Ok(())
    }
}

fn move_to(home: &Home, from: &Name, to: &Name) -> Result<(), WorkspaceError> {
    match renameat_with(CWD, place(home, from), CWD, place(home, to), RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(WorkspaceError::Refused {
            kind: "name_taken".to_owned(),
            message: format!("cannot rename workspace `{from}`: a workspace `{to}` exists already"),
            hint: None,
        }),
        Err(Errno::NOENT) => Err(WorkspaceError::Unknown(from.clone())),
        Err(error) => Err(WorkspaceError::Io { name: from.clone(), source: error.into() }),
    }
}
