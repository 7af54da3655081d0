//! What is done to a machine while it runs.

use serde_json::json;

use super::Machine;
use super::qmp::QmpError;

/// Whether a machine's network device is plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It is.
    Up,
    /// Nothing gets in or out.
    Down,
}

/// The machine did not do what it was told.
#[derive(Debug, thiserror::Error)]
#[error("QEMU failed to {what}: {reason}")]
pub struct ControlError {
    what: &'static str,
    reason: String,
}

impl Machine {
    /// Freezes the virtual CPUs.
    pub async fn pause(&mut self) -> Result<(), ControlError> {
        self.frozen.send_replace(true);
        self.command("pause the machine", "stop", json!({})).await
    }

    /// Lets them run again. The guest's clocks go on from where they stopped.
    pub async fn resume(&mut self) -> Result<(), ControlError> {
        self.frozen.send_replace(false);
        self.command("resume the machine", "cont", json!({})).await
    }

    /// Plugs the network device in or out. A machine without one is always out.
    pub async fn set_network(&mut self, link: Link) -> Result<(), ControlError> {
        if !self.has_network {
            return Ok(());
        }
        let arguments = json!({ "name": "net", "up": link == Link::Up });
        self.command("switch the network", "set_link", arguments).await
    }

    async fn command(
        &mut self,
        what: &'static str,
        command: &str,
        arguments: serde_json::Value,
    ) -> Result<(), ControlError> {
        let outcome = self.qmp.execute(command, arguments).await;
        outcome.map_err(|error: QmpError| ControlError { what, reason: error.to_string() })
    }
}
