//! A control channel's bytes, taken apart and not acted upon: what a fuzzer looks at.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::qmp::Qmp;

/// More than any answer to what is in memory takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes `bytes` for all that QEMU ever says; true if that began as a session.
///
/// # Panics
///
/// If it makes somebody wait for more.
pub async fn inspect(bytes: &[u8]) -> bool {
    let Ok((ours, mut theirs)) = UnixStream::pair() else { return false };
    let bytes = bytes.to_vec();
    let saying = tokio::spawn(async move {
        // Who has heard enough hangs up.
        let _ = theirs.write_all(&bytes).await;
        let _ = theirs.shutdown().await;
        theirs
    });
    let all = async {
        let Ok(mut session) = Qmp::connect(ours, &[]).await else { return false };
        session.shutdown_reason().await;
        // None is under way.
        let _ = session.migration_end().await;
        true
    };
    let began = tokio::time::timeout(PATIENCE, all).await.expect("nobody waits for one that is gone");
    saying.abort();
    began
}
