//! Bytes taken for what a guest's agent says to a host that has asked things of it.

use std::time::Duration;

use proto::{Command, Stdio, ToGuest};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use workspace::agent::Agent;

/// More than anything takes whose answer is there or never comes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Far more than a write takes where somebody reads.
const MOMENT: Duration = Duration::from_millis(100);

/// Asks, starts two processes, and hears `bytes` as the answer; the first byte says where they are cut.
///
/// # Panics
///
/// If somebody still waits once the guest is gone.
pub fn speak_with_guest(bytes: &[u8]) {
    crate::wait(async {
        let all = tokio::time::timeout(PATIENCE, speak(bytes));
        all.await.expect("nobody waits for a guest that is gone");
    });
}

async fn speak(bytes: &[u8]) {
    let Some((cut, said)) = bytes.split_first() else { return };
    let (ours, mut guest) = UnixStream::pair().expect("a pair of sockets can be made");
    guest.write_all(&proto::encode_greeting()).await.expect("it was just made");
    let agent = Agent::connect(ours, PATIENCE).await.expect("it greeted");
    let asked = [agent.request(&ToGuest::Measure), agent.request(&ToGuest::Measure)];
    let measured = agent.measure();
    let mut processes = [agent.spawn(command()), agent.spawn(command())];
    let handles = processes.each_ref().map(|process| process.handle());
    handles[0].input(b"some input").await;
    for chunk in said.chunks(usize::from(*cut).max(1)) {
        // Whoever has heard enough reads no more, and single bytes soon fill what is between.
        if tokio::time::timeout(MOMENT, guest.write_all(chunk)).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    drop(guest);
    for asked in asked {
        let _ = asked.await;
    }
    let _ = measured.await;
    for (process, handle) in processes.iter_mut().zip(&handles) {
        while let Some(event) = process.events.recv().await {
            if let workspace::agent::ProcessEvent::Output(stream, data) = event {
                handle.credit(stream, data.len());
            }
        }
        handle.input(&[0; 1000]).await;
    }
}

fn command() -> Command {
    Command {
        argv: vec![b"true".to_vec()],
        env: Vec::new(),
        directory: b"/".to_vec(),
        user: String::new(),
        stdio: Stdio::Pipes,
    }
}
