//! A machine of ours, or one that another process keeps for us.

use engine::{ControlError, Ended, Link};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// The longest account of an end that a keeper gives, in bytes.
const LONGEST_ACCOUNT: usize = 64 * 1024;

/// A running machine, seen from the process that uses it.
#[derive(Debug)]
pub(crate) enum Machine {
    /// Its monitor is our child.
    Own(Box<engine::Machine>),
    /// Its monitor is the child of a keeper, which ends it when this channel closes.
    Lent(Lent),
}

/// The channel to a keeper.
#[derive(Debug)]
pub(crate) struct Lent {
    keeper: UnixStream,
    account: Vec<u8>,
}

impl Lent {
    pub(crate) fn new(keeper: UnixStream) -> Self {
        Self { keeper, account: Vec::new() }
    }

    /// The keeper says how the machine ended, then hangs up. Cancel-safe.
    async fn ended(&mut self) -> Ended {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = self.keeper.read(&mut buffer).await {
            if self.account.len() < LONGEST_ACCOUNT {
                self.account.extend_from_slice(&buffer[..length]);
            }
        }
        serde_json::from_slice(&self.account).unwrap_or_else(|_| Ended::Died {
            status: "the process that kept it is gone".to_owned(),
            last_words: Vec::new(),
        })
    }
}

impl Machine {
    /// Its process, if it is ours.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Own(machine) => machine.pid(),
            Self::Lent(_) => None,
        }
    }

    /// Freezes the virtual CPUs.
    pub(crate) async fn pause(&mut self) -> Result<(), ControlError> {
        self.own().pause().await
    }

    /// Lets them run again.
    pub(crate) async fn resume(&mut self) -> Result<(), ControlError> {
        self.own().resume().await
    }

    /// Plugs the network device in or out.
    pub(crate) async fn set_network(&mut self, link: Link) -> Result<(), ControlError> {
        self.own().set_network(link).await
    }

    fn own(&mut self) -> &mut engine::Machine {
        match self {
            Self::Own(machine) => machine,
            Self::Lent(_) => unreachable!("only one-shot runs use a machine that is lent"),
        }
    }

    /// Waits for the machine's end. Cancel-safe: it may be called again.
    pub(crate) async fn ended(&mut self) -> Ended {
        match self {
            Self::Own(machine) => machine.ended().await,
            Self::Lent(lent) => lent.ended().await,
        }
    }

    /// Ends the machine at once and waits until it is gone.
    pub(crate) async fn kill(self) {
        match self {
            Self::Own(machine) => machine.kill().await,
            Self::Lent(mut lent) => {
                // A keeper that cannot hear us is gone, and the machine with it.
                let _ = rustix::net::shutdown(&lent.keeper, rustix::net::Shutdown::Write);
                lent.ended().await;
            }
        }
    }

    /// Ends the machine, which is gone a moment later.
    pub(crate) fn kill_soon(self) {
        match self {
            Self::Own(machine) => machine.kill_soon(),
            // The keeper hears that nobody uses it any more.
            Self::Lent(lent) => drop(lent),
        }
    }
}
