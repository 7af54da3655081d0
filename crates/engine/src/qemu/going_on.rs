//! Lets a machine go on that QEMU stopped, since this host did not take what the guest wrote.
//!
//! ```text
//! running ──BLOCK_IO_ERROR──▶ stalled ──pause──▶ cont ──quiet──▶ running
//!                                ▲                 │
//!                                └─BLOCK_IO_ERROR──┘
//! ```
//!
//! QEMU keeps the requests that failed, and makes them again with each `cont`. Nobody asks anything while nothing is
//! wrong.

use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use super::qmp::{Commands, WriteErrors};
use crate::Stall;

/// The pause before the first attempt; it doubles with each that fails, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// What failed fails again at once: a machine that was quiet for so long goes on.
const QUIET: Duration = Duration::from_secs(1);

/// Whether somebody wants the machine to stand still.
pub(super) type Frozen = watch::Receiver<bool>;

/// Tells of stalls, and ends them, until the machine is gone.
pub(super) async fn go_on(
    mut errors: watch::Receiver<WriteErrors>,
    commands: Commands,
    mut frozen: Frozen,
    stalls: watch::Sender<Option<Stall>>,
) {
    while let Some(stall) = next_error(&mut errors).await {
        tracing::warn!(%stall, "the machine stands still");
        stalls.send_replace(Some(stall));
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            if frozen.wait_for(|frozen| !frozen).await.is_err() {
                return;
            }
            // What failed since then, as after an attempt of somebody else's, is no failure of this one.
            errors.mark_unchanged();
            if commands.execute_unless(&frozen, "cont", &json!({})).await.is_err() {
                return;
            }
            match timeout(QUIET, next_error(&mut errors)).await {
                Ok(None) => return,
                Ok(Some(stall)) => drop(stalls.send_replace(Some(stall))),
                Err(_) if *frozen.borrow() => {}
                Err(_) => break,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        tracing::info!("the machine goes on");
        stalls.send_replace(None);
    }
}

/// Waits for a write to fail; `None` once the machine is gone.
async fn next_error(errors: &mut watch::Receiver<WriteErrors>) -> Option<Stall> {
    errors.changed().await.ok()?;
    errors.borrow_and_update().last.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stalls;
    use crate::qemu::qmp::Qmp;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::UnixStream;

    const ERROR: &str = "{\"event\":\"BLOCK_IO_ERROR\",\"data\":{\"action\":\"stop\",\"nospace\":true}}\n";

    #[tokio::test]
    async fn a_machine_is_tried_again_until_it_is_quiet_and_not_while_it_is_frozen() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (reader, mut writer) = theirs.into_split();
        writer.write_all(b"{\"QMP\":{}}\n{\"return\":{}}\n").await.unwrap();
        let qmp = Qmp::connect(ours, &[]).await.unwrap();
        let (sender, mut stalls) = Stalls::new();
        let frozen = watch::Sender::new(true);
        tokio::spawn(go_on(qmp.write_errors(), qmp.commands(), frozen.subscribe(), sender));
        let mut lines = BufReader::new(reader).lines();
        lines.next_line().await.unwrap();

        writer.write_all(ERROR.as_bytes()).await.unwrap();
        assert_eq!(stalls.changed().await, Some(Stall::NoRoom));
        assert!(timeout(FIRST_PAUSE * 2, lines.next_line()).await.is_err(), "it is frozen");
        frozen.send_replace(false);
        // The host is full still, and then it is not.
        for answer in [format!("{{\"return\":{{}}}}\n{ERROR}"), "{\"return\":{}}\n".to_owned()] {
            assert!(lines.next_line().await.unwrap().unwrap().contains("\"cont\""));
            assert_eq!(stalls.now(), Some(Stall::NoRoom));
            writer.write_all(answer.as_bytes()).await.unwrap();
        }
        while stalls.now().is_some() {
            stalls.changed().await;
        }
        assert!(timeout(FIRST_PAUSE * 2, lines.next_line()).await.is_err(), "nothing is asked");
    }
}
