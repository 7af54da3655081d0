//! What was decided about what a guest wanted to reach, told to whoever has the network.
//!
//! The stack never waits for a listener: what does not fit on the way is counted and gone.

use std::fmt;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::reach::Refusal;

/// Decisions that may be on their way.
const MOST_UNHEARD: usize = 4096;

/// What a guest wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Traffic {
    /// A TCP connection.
    Tcp,
    /// To send datagrams.
    Udp,
    /// An answer to an echo request.
    Ping,
    /// A name's addresses, or whatever else is known by a name.
    Name,
}

impl fmt::Display for Traffic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Ping => "ping",
            Self::Name => "name",
        })
    }
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// When.
    pub time: SystemTime,
    /// About what.
    pub traffic: Traffic,
    /// Whom the guest addressed; nobody when it asked for a name.
    pub to: Option<SocketAddr>,
    /// The name that it asked for, or by which it found the address.
    pub name: Option<String>,
    /// Why not, if it was refused.
    pub refusal: Option<Refusal>,
}

/// Where decisions go.
#[derive(Debug, Default)]
pub struct Audit {
    listener: Option<SyncSender<Decision>>,
}

impl Audit {
    /// One whose decisions are heard. The receiver's end comes with the network's.
    pub fn heard() -> (Self, Receiver<Decision>) {
        let (sender, receiver) = sync_channel(MOST_UNHEARD);
        (Self { listener: Some(sender) }, receiver)
    }

    /// Tells of a decision; whether it is on its way, where somebody listens.
    pub fn tell(&self, decision: Decision) -> bool {
        self.listener.as_ref().is_none_or(|listener| listener.try_send(decision).is_ok())
    }
}
