//! A machine that stands still by itself: this host did not take what its guest wrote.
//!
//! Nothing is lost by it. The guest's write was not acknowledged, and is tried again until it works.

use std::fmt;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Why a machine stands still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stall {
    /// The file system that its disk is on is full.
    NoRoom,
    /// The disk cannot be written to, for this reason, in the system's words.
    Unwritable(String),
}

impl fmt::Display for Stall {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom => formatter.write_str("this host has no room left for its disk"),
            Self::Unwritable(reason) => write!(formatter, "this host fails to write to its disk ({reason})"),
        }
    }
}

/// What is known of a machine's stalls, now and later.
#[derive(Debug, Clone)]
pub struct Stalls(watch::Receiver<Option<Stall>>);

impl Stalls {
    /// Those that the returned sender tells of.
    pub fn new() -> (watch::Sender<Option<Stall>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(receiver))
    }

    /// Why it stands still now, if it does.
    pub fn now(&self) -> Option<Stall> {
        self.0.borrow().clone()
    }

    /// Waits for the next change: a stall, or that it goes on. For ever once the machine is gone. Cancel-safe.
    pub async fn changed(&mut self) -> Option<Stall> {
        match self.0.changed().await {
            Ok(()) => self.0.borrow_and_update().clone(),
            Err(_) => std::future::pending().await,
        }
    }
}
