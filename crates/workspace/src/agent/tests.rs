//! A guest that is played by the test, honest or not.

use super::*;
use proto::{Identity, Stdio, ToHost};

const SOON: Duration = Duration::from_secs(5);

async fn connect() -> (Agent, UnixStream) {
    let (ours, mut guest) = UnixStream::pair().unwrap();
    guest.write_all(&proto::encode_greeting()).await.unwrap();
    let agent = Agent::connect(ours, SOON).await.unwrap();
    (agent, guest)
}

async fn say(guest: &mut UnixStream, message: &ToHost<'_>) {
    let mut frame = Vec::new();
    encode(message, &mut frame);
    guest.write_all(&frame).await.unwrap();
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

fn identity() -> Identity {
    Identity { hostname: "h".to_owned(), machine_id: [0; 16], seed: [0; 32], clock: Duration::ZERO }
}

#[tokio::test]
async fn answers_go_to_requests_in_order() {
    let (agent, mut guest) = connect().await;
    let first = agent.request(&ToGuest::Identify(identity()));
    let second = agent.request(&ToGuest::Identify(identity()));
    say(&mut guest, &ToHost::Done(Ok(()))).await;
    say(&mut guest, &ToHost::Done(Err("failed to\n do it".to_owned()))).await;
    assert_eq!(first.await, Ok(()));
    assert_eq!(second.await, Err(AgentError::Refused("failed to do it".to_owned())));
}

#[tokio::test]
async fn a_process_speaks_in_order_and_ends() {
    let (agent, mut guest) = connect().await;
    let mut process = agent.spawn(command());
    let id = ProcessId(1);
    say(&mut guest, &ToHost::Spawned { process: id, pid: 7 }).await;
    say(&mut guest, &ToHost::Output { process: id, stream: OutputStream::Stderr, data: b"\0x" }).await;
    say(&mut guest, &ToHost::Exited { process: id, status: ExitStatus::Code(3) }).await;
    let mut events = Vec::new();
    while let Some(event) = process.events.recv().await {
        events.push(event);
    }
    let output = ProcessEvent::Output(OutputStream::Stderr, b"\0x".to_vec());
    assert_eq!(events, [ProcessEvent::Started, output, ProcessEvent::Exited(ExitStatus::Code(3))]);
}

/// What a guest may not do ends its session with a reason, and nothing else.
async fn assert_ends_with(misdeed: &[ToHost<'_>], reason: &str) {
    let (agent, mut guest) = connect().await;
    let mut process = agent.spawn(command());
    let pending = agent.request(&ToGuest::Identify(identity()));
    say(&mut guest, &ToHost::Done(Ok(()))).await;
    pending.await.unwrap();
    for message in misdeed {
        say(&mut guest, message).await;
    }
    while process.events.recv().await.is_some() {}
    assert_eq!(agent.why_lost(), AgentError::Lost(reason.to_owned()));
}

#[tokio::test]
async fn more_output_than_credit_ends_the_session() {
    let id = ProcessId(1);
    let data = vec![0; proto::MAX_DATA];
    let output = || ToHost::Output { process: id, stream: OutputStream::Stdout, data: &data };
    let flood: Vec<_> = (0..=WINDOW as usize / proto::MAX_DATA).map(|_| output()).collect();
    assert_ends_with(&flood, "it sent more than it was allowed to").await;
}

#[tokio::test]
async fn credit_for_what_was_not_sent_ends_the_session() {
    let credit = ToHost::Credit { process: ProcessId(1), bytes: 1 };
    assert_ends_with(&[credit], "it took more input than it was sent").await;
}

#[tokio::test]
async fn a_process_that_is_not_there_ends_the_session() {
    let exited = ToHost::Exited { process: ProcessId(9), status: ExitStatus::Code(0) };
    assert_ends_with(&[exited], "it spoke of process 9, which is not there").await;
}

#[tokio::test]
async fn an_answer_to_nothing_ends_the_session() {
    assert_ends_with(&[ToHost::Done(Ok(()))], "it answered what nobody asked").await;
}

#[tokio::test]
async fn garbage_ends_the_session() {
    let (agent, mut guest) = connect().await;
    let mut process = agent.spawn(command());
    guest.write_all(&[0xff, 0xff, 0xff, 0x7f, 1, 2, 3]).await.unwrap();
    assert_eq!(process.events.recv().await, None);
    let AgentError::Lost(reason) = agent.why_lost() else { panic!("lost") };
    assert!(reason.contains("a frame of 2147483647 bytes"), "{reason}");
}

#[tokio::test]
async fn a_silent_guest_is_given_up() {
    let (ours, _guest) = UnixStream::pair().unwrap();
    let deadline = Duration::from_millis(20);
    assert_eq!(Agent::connect(ours, deadline).await.unwrap_err(), AgentError::Silent(deadline));
}

#[tokio::test]
async fn a_guest_of_another_release_is_refused_with_both_versions() {
    let (ours, mut guest) = UnixStream::pair().unwrap();
    let mut greeting = proto::encode_greeting();
    greeting[4] = 77;
    guest.write_all(&greeting).await.unwrap();
    let error = Agent::connect(ours, SOON).await.unwrap_err();
    assert_eq!(error, AgentError::Version { guest: 77, host: proto::VERSION });
}

#[tokio::test]
async fn who_asks_after_the_end_is_told_at_once() {
    let (agent, guest) = connect().await;
    drop(guest);
    agent.request(&ToGuest::Identify(identity())).await.unwrap_err();
    // Only now it is sure that the end was seen.
    let later = async {
        agent.request(&ToGuest::Identify(identity())).await.unwrap_err();
        agent.measure().await.unwrap_err();
        let mut process = agent.spawn(command());
        assert_eq!(process.events.recv().await, None);
        process.handle().input(&[0; 8]).await;
    };
    tokio::time::timeout(SOON, later).await.expect("nobody waits for a guest that is gone");
}
