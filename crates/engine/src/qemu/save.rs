//! A machine becomes files.
//!
//! The memory is in its file already; what is saved here is the state of the devices, some hundred kilobytes.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use serde_json::{Value, json};

use super::Machine;
use super::qmp::QmpError;

/// How long the devices' state may take; it is small.
const DEADLINE: Duration = Duration::from_secs(60);

/// Why a machine was not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// QEMU refused, or failed.
    #[error("QEMU failed to save the machine: {0}")]
    Refused(String),
    /// QEMU did not finish in time.
    #[error("QEMU did not save the machine within {} s", DEADLINE.as_secs())]
    Late,
    /// The state could not be written.
    #[error("failed to write the state")]
    Write(#[from] io::Error),
}

impl From<QmpError> for SaveError {
    fn from(error: QmpError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// The command that keeps the memory, which has a file of its own, out of the state; needed on both sides.
fn leave_out_memory() -> (&'static str, Value) {
    let capabilities = json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] });
    ("migrate-set-capabilities", capabilities)
}

/// The commands that restore a machine from the state on a descriptor of QEMU's.
pub(super) fn restore_commands(descriptor: i32) -> [(&'static str, Value); 2] {
    [leave_out_memory(), ("migrate-incoming", json!({ "uri": format!("fd:{descriptor}") }))]
}

impl Machine {
    /// Stops the machine for good, and writes the state of its devices to `state`. Together with the file of
    /// its memory ([`crate::Memory::File`]) and its disks as they are then, that is the whole machine.
    pub async fn save(mut self, state: &File) -> Result<(), SaveError> {
        let saved = tokio::time::timeout(DEADLINE, self.write_state(state)).await;
        self.process.kill().await;
        saved.unwrap_or(Err(SaveError::Late))
    }

    async fn write_state(&mut self, state: &File) -> Result<(), SaveError> {
        let qmp = &mut self.qmp;
        // The migration stops the machine itself; one that was stopped before would be restored as stopped.
        let (command, arguments) = leave_out_memory();
        qmp.execute(command, arguments).await?;
        let events = json!({ "capabilities": [{ "capability": "events", "state": true }] });
        qmp.execute("migrate-set-capabilities", events).await?;
        // The default limit is a network's; a file takes what it gets.
        qmp.execute("migrate-set-parameters", json!({ "max-bandwidth": 1_u64 << 40 })).await?;
        qmp.send_descriptor("getfd", json!({ "fdname": "state" }), state.as_fd()).await?;
        qmp.execute("migrate", json!({ "uri": "fd:state" })).await?;
        match qmp.migration_end().await?.as_str() {
            "completed" => Ok(()),
            status => Err(SaveError::Refused(format!("its migration ended as `{status}`"))),
        }
    }
}
