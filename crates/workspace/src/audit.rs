//! What was decided about a guest's connections: a journal in its workspace's directory.
//!
//! ```text
//! network ─ decisions ─▶ keeper ─▶ network/        all of them, the same ones of a moment in one line
//!                          └─────▶ events          what was refused, and that not too often
//! ```
//!
//! Both are bounded in rate and size, so that a guest that tries everything fills no disk and drives nothing out; what
//! is left out is counted. A run whose workspace is not kept tells at its end what it was refused.

mod keeper;
mod reader;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use network::{Decision, Refusal, Traffic};
use serde::{Deserialize, Serialize};

use crate::journal::Bounds;

pub(crate) use keeper::{Keeper, Listener};
pub use reader::{FollowNetworkLog, NetworkLogFilter, NetworkLogReader};

/// Where a workspace's journal is, in its directory.
const DIRECTORY: &str = "network";

/// Some twenty thousand lines.
const BOUNDS: Bounds = Bounds { segment: 1 << 20, segments: 4 };

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was let pass.
    Allowed,
    /// It was not.
    Refused,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
        })
    }
}

/// A line of the journal: a decision, or several of a moment that are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkLogEntry {
    /// When the first was made.
    pub time: Timestamp,
    /// What was decided.
    pub verdict: Verdict,
    /// What the guest wanted.
    pub traffic: Traffic,
    /// The address, unless it asked for a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The port, where there are ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The name that it asked for, or that leads to the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Refusal>,
    /// How many times in that moment.
    pub times: u64,
    /// How many decisions before this one are in no line, since there were too many at once.
    #[serde(default)]
    pub left_out: u64,
}

impl NetworkLogEntry {
    fn of(decision: Decision) -> Self {
        let has_port = matches!(decision.traffic, Traffic::Tcp | Traffic::Udp);
        Self {
            time: Timestamp::try_from(decision.time).unwrap_or(Timestamp::MAX),
            verdict: if decision.refusal.is_some() { Verdict::Refused } else { Verdict::Allowed },
            traffic: decision.traffic,
            address: decision.to.map(|to| to.ip()),
            port: decision.to.filter(|_| has_port).map(|to| to.port()),
            name: decision.name,
            reason: decision.refusal,
            times: 1,
            left_out: 0,
        }
    }

    /// Whether it is the same decision at another time.
    fn is_same(&self, other: &Self) -> bool {
        let key = |entry: &Self| (entry.traffic, entry.address, entry.port, entry.reason);
        key(self) == key(other) && self.name == other.name
    }

    /// Whom the guest addressed, in words: `tcp 192.0.2.7:443 (example.com)`, `name example.com`.
    pub fn target(&self) -> String {
        let address = match (self.address, self.port) {
            (Some(address), Some(port)) => SocketAddr::new(address, port).to_string(),
            (Some(address), None) => address.to_string(),
            (None, _) => String::new(),
        };
        match &self.name {
            Some(name) if address.is_empty() => format!("{} {name}", self.traffic),
            Some(name) => format!("{} {address} ({name})", self.traffic),
            None => format!("{} {address}", self.traffic),
        }
    }
}

#[cfg(test)]
mod tests;
