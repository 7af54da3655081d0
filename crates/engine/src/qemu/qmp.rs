//! QMP, QEMU's control protocol: one JSON document a line, both ways.
//!
//! `docs/interop/qmp-spec.txt` in QEMU's sources. A greeting, `qmp_capabilities`, then answers and events as
//! they come.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Mutex, mpsc, watch};

use super::going_on::Frozen;
use crate::Stall;

/// QEMU's lines are short; a longer one is not QMP.
const LONGEST_LINE: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub(super) enum QmpError {
    #[error("the control channel closed")]
    Closed,
    #[error("an answer that is not QMP: {0}")]
    Garbage(String),
    #[error("QEMU refused a command: {0}")]
    Refused(String),
}

/// The control channel of one QEMU.
#[derive(Debug)]
pub(super) struct Qmp {
    state: watch::Receiver<State>,
    migration: watch::Receiver<String>,
    write_errors: watch::Receiver<WriteErrors>,
    commands: Commands,
}

/// The way to give commands. Clones give them in turn.
#[derive(Debug, Clone)]
pub(super) struct Commands(Arc<Mutex<Commander>>);

#[derive(Debug)]
struct Commander {
    answers: mpsc::UnboundedReceiver<Result<(), String>>,
    writer: OwnedWriteHalf,
}

/// The writes that stopped the machine.
#[derive(Debug, Clone, Default)]
pub(super) struct WriteErrors {
    /// Why the last one failed.
    pub(super) last: Option<Stall>,
}

/// What events have told of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Running,
    /// The guest ended, for this reason.
    ShuttingDown(String),
    /// The channel closed without a reason.
    Closed,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Event {
        event: String,
        data: Option<Value>,
    },
    Error {
        error: Refusal,
    },
    Return {
        #[serde(rename = "return")]
        _value: IgnoredAny,
    },
    Greeting {
        #[serde(rename = "QMP")]
        qmp: Value,
    },
}

#[derive(Debug, Deserialize)]
struct Refusal {
    desc: String,
}

impl Qmp {
    /// Takes the greeting, leaves negotiation mode, and executes the `first` commands, all in one round trip.
    pub(super) async fn connect(stream: UnixStream, first: &[(&str, Value)]) -> Result<Self, QmpError> {
        let (reader, mut writer) = stream.into_split();
        let mut commands = command_text("qmp_capabilities", &json!({}));
        commands.extend(first.iter().map(|(command, arguments)| command_text(command, arguments)));
        writer.write_all(commands.as_bytes()).await.map_err(|_| QmpError::Closed)?;
        let mut lines = Lines { reader: BufReader::new(reader) };
        match lines.next().await? {
            Line::Greeting { qmp } => tracing::debug!(version = %qmp["version"]["qemu"], "QEMU answers"),
            other => return Err(QmpError::Garbage(format!("{other:?}"))),
        }
        let (state_sender, state) = watch::channel(State::Running);
        let (migration_sender, migration) = watch::channel(String::new());
        let (errors_sender, write_errors) = watch::channel(WriteErrors::default());
        let (answer_sender, answers) = mpsc::unbounded_channel();
        let follower = Follower {
            state: state_sender,
            migration: migration_sender,
            write_errors: errors_sender,
            answers: answer_sender,
        };
        tokio::spawn(follower.follow(lines));
        let mut commander = Commander { answers, writer };
        for _ in 0..=first.len() {
            commander.answer().await?;
        }
        Ok(Self { state, migration, write_errors, commands: Commands(Arc::new(Mutex::new(commander))) })
    }

    /// Executes a command and waits for its success.
    pub(super) async fn execute(&self, command: &str, arguments: Value) -> Result<(), QmpError> {
        self.commands.0.lock().await.execute(command, &arguments).await
    }

    /// Executes a command that takes an open file along.
    pub(super) async fn send_descriptor(
        &self,
        command: &str,
        arguments: Value,
        descriptor: BorrowedFd<'_>,
    ) -> Result<(), QmpError> {
        self.commands.0.lock().await.send_descriptor(command, &arguments, descriptor).await
    }

    /// The way to give commands from elsewhere.
    pub(super) fn commands(&self) -> Commands {
        self.commands.clone()
    }

    /// The writes that stopped the machine.
    pub(super) fn write_errors(&self) -> watch::Receiver<WriteErrors> {
        self.write_errors.clone()
    }

    /// Waits for the end of a migration and tells how it ended.
    pub(super) async fn migration_end(&mut self) -> Result<String, QmpError> {
        let over = |status: &String| ["completed", "failed", "cancelled"].contains(&status.as_str());
        let status = self.migration.wait_for(over).await.map_err(|_| QmpError::Closed)?;
        Ok(status.clone())
    }

    /// Waits for the guest's end; `None` if QEMU ended without giving a reason. Cancel-safe.
    pub(super) async fn shutdown_reason(&mut self) -> Option<String> {
        match self.state.wait_for(|state| *state != State::Running).await.as_deref() {
            Ok(State::ShuttingDown(reason)) => Some(reason.clone()),
            _ => None,
        }
    }
}

impl Commands {
    /// Executes a command, unless the machine is to stand still when its turn has come.
    pub(super) async fn execute_unless(
        &self,
        frozen: &Frozen,
        command: &str,
        arguments: &Value,
    ) -> Result<(), QmpError> {
        let mut commander = self.0.lock().await;
        if *frozen.borrow() { Ok(()) } else { commander.execute(command, arguments).await }
    }
}

impl Commander {
    async fn execute(&mut self, command: &str, arguments: &Value) -> Result<(), QmpError> {
        let line = command_text(command, arguments);
        self.writer.write_all(line.as_bytes()).await.map_err(|_| QmpError::Closed)?;
        self.answer().await
    }

    async fn send_descriptor(
        &mut self,
        command: &str,
        arguments: &Value,
        descriptor: BorrowedFd<'_>,
    ) -> Result<(), QmpError> {
        let line = command_text(command, arguments);
        let socket: &UnixStream = self.writer.as_ref();
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let descriptors = [descriptor];
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
            let text = [IoSlice::new(line.as_bytes())];
            Ok(rustix::net::sendmsg(socket, &text, &mut control, SendFlags::NOSIGNAL)?)
        };
        // A line this short goes out whole.
        socket.async_io(Interest::WRITABLE, send).await.map_err(|_| QmpError::Closed)?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<(), QmpError> {
        match self.answers.recv().await {
            Some(answer) => answer.map_err(QmpError::Refused),
            None => Err(QmpError::Closed),
        }
    }
}

fn command_text(command: &str, arguments: &Value) -> String {
    format!("{}\n", json!({ "execute": command, "arguments": arguments }))
}

/// Reads what QEMU says, and passes it on to whoever waits for it.
struct Follower {
    state: watch::Sender<State>,
    migration: watch::Sender<String>,
    write_errors: watch::Sender<WriteErrors>,
    answers: mpsc::UnboundedSender<Result<(), String>>,
}

impl Follower {
    async fn follow(self, mut lines: Lines) {
        while let Ok(line) = lines.next().await {
            // Whoever asked may have given up.
            let _ = match line {
                Line::Return { .. } => self.answers.send(Ok(())),
                Line::Error { error } => self.answers.send(Err(error.desc)),
                Line::Event { event, data } => {
                    self.note(&event, data.as_ref());
                    Ok(())
                }
                Line::Greeting { .. } => Ok(()),
            };
        }
        self.state.send_if_modified(|state| {
            let was_running = *state == State::Running;
            if was_running {
                *state = State::Closed;
            }
            was_running
        });
    }

    fn note(&self, event: &str, data: Option<&Value>) {
        tracing::debug!(event, ?data, "QEMU event");
        let text = |key| data.and_then(|data| data[key].as_str()).unwrap_or("unknown").to_owned();
        match event {
            "SHUTDOWN" => drop(self.state.send_replace(State::ShuttingDown(text("reason")))),
            "MIGRATION" => drop(self.migration.send_replace(text("status"))),
            "BLOCK_IO_ERROR" if text("action") == "stop" => {
                let no_room = data.is_some_and(|data| data["nospace"] == true);
                let stall = if no_room { Stall::NoRoom } else { Stall::Unwritable(text("reason")) };
                self.write_errors.send_replace(WriteErrors { last: Some(stall) });
            }
            _ => {}
        }
    }
}

struct Lines {
    reader: BufReader<tokio::net::unix::OwnedReadHalf>,
}

impl Lines {
    async fn next(&mut self) -> Result<Line, QmpError> {
        let mut line = Vec::new();
        loop {
            let chunk = self.reader.fill_buf().await.map_err(|_| QmpError::Closed)?;
            if chunk.is_empty() {
                return Err(QmpError::Closed);
            }
            let end = chunk.iter().position(|byte| *byte == b'\n').map(|index| index + 1);
            let taken = end.unwrap_or(chunk.len());
            line.extend_from_slice(&chunk[..taken]);
            self.reader.consume(taken);
            if line.len() > LONGEST_LINE {
                return Err(QmpError::Garbage("an endless line".to_owned()));
            }
            if end.is_some() {
                return serde_json::from_slice(&line).map_err(|error| QmpError::Garbage(error.to_string()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn talk(said: &str) -> Result<Qmp, QmpError> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(said.as_bytes()).await.unwrap();
        theirs.shutdown().await.unwrap();
        let connected = Qmp::connect(ours, &[]).await;
        drop(theirs);
        connected
    }

    #[tokio::test]
    async fn the_reason_of_a_shutdown_is_kept() {
        let mut qmp = talk(concat!(
            "{\"QMP\":{\"version\":{},\"capabilities\":[]}}\r\n{\"return\":{}}\n",
            "{\"event\":\"RESUME\",\"timestamp\":{}}\n",
            "{\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true,\"reason\":\"guest-shutdown\"}}\n",
        ))
        .await
        .unwrap();
        assert_eq!(qmp.shutdown_reason().await.as_deref(), Some("guest-shutdown"));
        assert_eq!(qmp.shutdown_reason().await.as_deref(), Some("guest-shutdown"));
    }

    #[tokio::test]
    async fn an_end_without_a_reason_is_an_end() {
        let mut qmp = talk("{\"QMP\":{}}\n{\"return\":{}}\n").await.unwrap();
        assert_eq!(qmp.shutdown_reason().await, None);
    }

    #[tokio::test]
    async fn only_a_write_that_stopped_the_machine_is_an_error_of_its() {
        let mut answers = String::from("{\"QMP\":{}}\n{\"return\":{}}\n");
        for (action, full) in [("stop", true), ("report", false)] {
            let data = json!({ "device": "", "operation": "write", "action": action, "nospace": full,
                "reason": "No space left on device" });
            answers += &json!({ "event": "BLOCK_IO_ERROR", "data": data }).to_string();
            answers.push('\n');
        }
        let qmp = talk(&answers).await.unwrap();
        let mut errors = qmp.write_errors();
        assert!(errors.wait_for(|errors| errors.last == Some(Stall::NoRoom)).await.is_ok());
        assert!(errors.changed().await.is_err(), "the channel closed without another");
    }

    #[tokio::test]
    async fn what_is_not_qmp_is_refused() {
        assert!(matches!(talk("").await, Err(QmpError::Closed)));
        assert!(matches!(talk("hello\n").await, Err(QmpError::Garbage(_))));
        let refused = talk("{\"QMP\":{}}\n{\"error\":{\"class\":\"x\",\"desc\":\"no\"}}\n").await;
        assert!(matches!(refused, Err(QmpError::Refused(reason)) if reason == "no"));
    }
}
