//! A larger disk for a workspace.

use std::fs::File;

use home::{fault_point, write_record};
use proto::ToGuest;

use crate::agent::AgentError;
use crate::event::EventKind;
use crate::helper::{Helper, HelperDisk, HelperError, HelperTerms};
use crate::record::WorkspaceRecord;
use crate::workspace::{Workspace, WorkspaceError};
use volume::DiskSize;

/// Why a disk has its old size.
#[derive(Debug, thiserror::Error)]
pub enum ResizeError {
    /// The workspace cannot be used.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// It would be smaller.
    #[error(
        "cannot shrink the disk of workspace `{name}` from {from} to {to}: what is at its end would be lost"
    )]
    Shrink {
        /// The workspace.
        name: home::Name,
        /// Its size.
        from: DiskSize,
        /// The size that was asked for.
        to: DiskSize,
    },
    /// Its disk could not be opened.
    #[error(transparent)]
    Helper(HelperError),
    /// The file system did not grow.
    #[error("failed to grow the file system of the workspace")]
    Grow(#[source] AgentError),
}

impl ResizeError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Workspace(error) => error.hint(),
            Self::Shrink { .. } => {
                Some("make a smaller workspace, and take with it what is needed: microagent cp".to_owned())
            }
            Self::Helper(error) => error.hint(),
            Self::Grow(_) => None,
        }
    }
}

impl From<HelperError> for ResizeError {
    fn from(error: HelperError) -> Self {
        match error {
            HelperError::Workspace(error) => Self::Workspace(error),
            error => Self::Helper(error),
        }
    }
}

impl Workspace {
    /// Gives it a disk of `size`, with what is on it. It must be at rest. Tells whether a template would have
    /// spared a boot.
    ///
    /// Each step may be the last, and all of them may be done again: the disk's file grows, then the file system in
    /// it, then the record says so.
    pub async fn resize(&self, size: DiskSize, terms: HelperTerms) -> Result<bool, ResizeError> {
        let io = |source| WorkspaceError::Io { name: self.name().clone(), source };
        let held = self.hold("resize")?.unfenced()?;
        let from = self.record().spec.disk_size;
        if size.bytes() < from.bytes() {
            return Err(ResizeError::Shrink { name: self.name().clone(), from, to: size });
        }
        let disk = File::options().write(true).open(self.disk()).map_err(io)?;
        // A file that is larger already is what an earlier attempt left.
        if disk.metadata().map_err(io)?.len() < size.bytes() {
            disk.set_len(size.bytes()).map_err(io)?;
        }
        fault_point("resize.file");
        let helper = Helper::open(self, HelperDisk::held(held)?, Vec::new(), terms).await?;
        let booted = helper.booted();
        let grown = helper.agent().request(&ToGuest::Grow { disk: None, size: size.bytes() }).await;
        let held = helper.close().await;
        grown.map_err(ResizeError::Grow)?;
        let held = held.map_err(ResizeError::Grow)?;
        fault_point("resize.grown");
        let mut record: WorkspaceRecord = self.record().clone();
        record.spec.disk_size = size;
        write_record(&self.directory().join("workspace.json"), &record).map_err(WorkspaceError::from)?;
        self.tell(EventKind::Resized { size });
        drop(held);
        Ok(booted)
    }
}
