//! The workspace of a run that is kept: made before the run, held while it lasts, its end on record.

use std::fs::File;

use home::{Exclusive, Home, write_record};
use jiff::Timestamp;

use super::{Finished, KeptWorkspace, RunError, RunRequest};
use crate::event::EventKind;
use crate::machine_id::MachineId;
use crate::record::{KeepError, NewDisk, WorkspaceRecord, make};
use crate::state::{BootRecord, EndRecord, Ending, StateRecord};
use crate::supervisor::report::causes;
use crate::workspace::{Workspace, WorkspaceError};

/// A workspace that belongs to a run in the foreground.
#[derive(Debug)]
pub(super) struct KeptRun {
    pub(super) workspace: Workspace,
    /// Until the run is over nobody else may use the disk.
    _lock: Exclusive,
}

impl KeptRun {
    /// Makes the workspace, and gives its disk.
    pub(super) fn make(
        home: &Home,
        request: &RunRequest,
        kept: &KeptWorkspace,
    ) -> Result<(Self, File), RunError> {
        let record = WorkspaceRecord::new(&request.image, kept.spec.clone(), kept.service.clone());
        let new = make(home, &request.name, &record, NewDisk::Blank)?;
        let found = Workspace::find(home, &request.name);
        let workspace = found.map_err(|error| KeepError::Io(std::io::Error::other(causes(&error))))?;
        workspace.tell(EventKind::Created);
        let boot = BootRecord::begin(1);
        let kept = Self { workspace, _lock: new.lock };
        kept.note(&StateRecord { boot: Some(boot), ..StateRecord::default() });
        Ok((kept, new.disk))
    }

    pub(super) fn machine_id(&self) -> MachineId {
        self.workspace.record().id
    }

    /// Notes how it ended.
    pub(super) fn finish(self, outcome: &Result<Finished, RunError>) {
        let exit = match outcome {
            Ok(Finished::Exited(status)) => Some((*status).into()),
            _ => None,
        };
        let (how, reason) = match outcome {
            Ok(Finished::Exited(proto::ExitStatus::Code(0)) | Finished::Interrupted(_)) => {
                (Ending::Stopped, None)
            }
            Ok(Finished::NotStarted(failure)) => (Ending::Failed, Some(failure.reason.clone())),
            Ok(_) => (Ending::Failed, None),
            Err(error) => (Ending::Failed, Some(causes(error))),
        };
        let mut facts = self.workspace.facts().unwrap_or_default();
        let boot = facts.boot.as_ref().map_or(0, |boot| boot.number);
        facts.end = Some(EndRecord { boot, how, at: Timestamp::now(), exit, reason: reason.clone() });
        self.note(&facts);
        self.workspace.tell(match how {
            Ending::Failed => EventKind::Failed { reason: reason.unwrap_or_default() },
            _ => EventKind::Stopped,
        });
    }

    /// A fact that cannot be kept looks like a crash later, which loses nothing.
    fn note(&self, facts: &StateRecord) {
        let written = write_record(&self.workspace.directory().join("state.json"), facts);
        if let Err(error) = written.map_err(WorkspaceError::from) {
            tracing::warn!(error = causes(&error), "failed to keep the workspace's state");
        }
    }
}
