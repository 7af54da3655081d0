//! A machine of ours, or one that another process keeps for us.

use engine::{ControlError, Ended, Held, Link, Stall, Stalls};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

/// The longest that a keeper says at once, in bytes.
const LONGEST_LINE: u64 = 64 * 1024;

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
    /// Closed, it ends the machine.
    keeper: OwnedWriteHalf,
    ended: watch::Receiver<Option<Ended>>,
    stalls: Stalls,
}

/// What a keeper says, a line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeeperSays {
    /// The machine stands still for this reason, or goes on.
    Stalled(Option<Stall>),
    /// The machine ended so. The last line.
    Ended(Ended),
}

impl KeeperSays {
    /// Says it to the run. One that is gone needs to hear nothing.
    pub(crate) async fn to(&self, run: &mut UnixStream) {
        let mut line = serde_json::to_vec(self).expect("what a keeper says is plain data");
        line.push(b'\n');
        let _ = run.write_all(&line).await;
    }
}

impl Lent {
    pub(crate) fn new(keeper: UnixStream) -> Self {
        let (reader, keeper) = keeper.into_split();
        let (end, ended) = watch::channel(None);
        let (stall, stalls) = Stalls::new();
        tokio::spawn(async move {
            let account = listen(reader, &stall).await;
            end.send_replace(Some(account));
        });
        Self { keeper, ended, stalls }
    }

    /// The keeper says how the machine ended, then hangs up. Cancel-safe.
    async fn ended(&mut self) -> Ended {
        let ended = self.ended.wait_for(Option::is_some).await;
        ended.ok().and_then(|ended| ended.clone()).unwrap_or_else(keeper_gone)
    }
}

/// Hears what the keeper says until the machine's end, which it returns.
async fn listen(reader: OwnedReadHalf, stall: &watch::Sender<Option<Stall>>) -> Ended {
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let _ = (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line).await;
        match serde_json::from_slice(&line) {
            Ok(KeeperSays::Stalled(reason)) => drop(stall.send_replace(reason)),
            Ok(KeeperSays::Ended(ended)) => return ended,
            Err(_) => return keeper_gone(),
        }
    }
}

fn keeper_gone() -> Ended {
    Ended::Died { status: "the process that kept it is gone".to_owned(), last_words: Vec::new() }
}

impl Machine {
    /// Its process, if it is ours.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Own(machine) => Some(machine.pid()),
            Self::Lent(_) => None,
        }
    }

    /// What confines it, if it is ours.
    pub(crate) fn confinement(&self) -> Option<Held> {
        match self {
            Self::Own(machine) => Some(machine.confinement().clone()),
            Self::Lent(_) => None,
        }
    }

    /// When it stands still by itself.
    pub(crate) fn stalls(&self) -> Stalls {
        match self {
            Self::Own(machine) => machine.stalls(),
            Self::Lent(lent) => lent.stalls.clone(),
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
                let _ = lent.keeper.shutdown().await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_keeper_tells_of_stalls_and_of_the_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut lent = Lent::new(ours);
        let mut stalls = lent.stalls.clone();
        KeeperSays::Stalled(Some(Stall::NoRoom)).to(&mut theirs).await;
        assert_eq!(stalls.changed().await, Some(Stall::NoRoom));
        KeeperSays::Stalled(None).to(&mut theirs).await;
        assert_eq!(stalls.changed().await, None);
        KeeperSays::Ended(Ended::PoweredOff).to(&mut theirs).await;
        assert_eq!(lent.ended().await, Ended::PoweredOff);
        assert_eq!(lent.ended().await, Ended::PoweredOff);
    }

    #[tokio::test]
    async fn a_keeper_that_is_gone_has_taken_the_machine_along() {
        for said in [&b""[..], b"garbage\n", b"{\"stalled\":null}\n"] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let mut lent = Lent::new(ours);
            theirs.write_all(said).await.unwrap();
            drop(theirs);
            assert_eq!(lent.ended().await, keeper_gone());
        }
    }
}
