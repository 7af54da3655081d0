//! QMP, QEMU's control protocol: one JSON document a line, both ways.
//!
//! `docs/interop/qmp-spec.txt` in QEMU's sources. A greeting, `qmp_capabilities`, then answers and events as
//! they come.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::watch;

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
    _writer: tokio::net::unix::OwnedWriteHalf,
}

/// What events have told.
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
    /// Takes the greeting and leaves negotiation mode.
    pub(super) async fn connect(stream: UnixStream) -> Result<Self, QmpError> {
        let (reader, mut writer) = stream.into_split();
        let mut lines = Lines { reader: BufReader::new(reader) };
        match lines.next().await? {
            Line::Greeting { qmp } => tracing::debug!(version = %qmp["version"]["qemu"], "QEMU answers"),
            other => return Err(QmpError::Garbage(format!("{other:?}"))),
        }
        let negotiate = b"{\"execute\":\"qmp_capabilities\"}\n";
        writer.write_all(negotiate).await.map_err(|_| QmpError::Closed)?;
        let (sender, state) = watch::channel(State::Running);
        loop {
            match lines.next().await? {
                Line::Return { .. } => break,
                Line::Error { error } => return Err(QmpError::Refused(error.desc)),
                Line::Event { event, data } => note_event(&sender, &event, data.as_ref()),
                Line::Greeting { .. } => {}
            }
        }
        tokio::spawn(follow(lines, sender));
        Ok(Self { state, _writer: writer })
    }

    /// Waits for the guest's end; `None` if QEMU ended without giving a reason. Cancel-safe.
    pub(super) async fn shutdown_reason(&mut self) -> Option<String> {
        match self.state.wait_for(|state| *state != State::Running).await.as_deref() {
            Ok(State::ShuttingDown(reason)) => Some(reason.clone()),
            _ => None,
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

async fn follow(mut lines: Lines, sender: watch::Sender<State>) {
    while let Ok(line) = lines.next().await {
        if let Line::Event { event, data } = line {
            note_event(&sender, &event, data.as_ref());
        }
    }
    sender.send_if_modified(|state| {
        let was_running = *state == State::Running;
        if was_running {
            *state = State::Closed;
        }
        was_running
    });
}

fn note_event(sender: &watch::Sender<State>, event: &str, data: Option<&Value>) {
    tracing::debug!(event, ?data, "QEMU event");
    if event == "SHUTDOWN" {
        let reason = data.and_then(|data| data["reason"].as_str()).unwrap_or("unknown");
        sender.send_replace(State::ShuttingDown(reason.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn talk(said: &str) -> Result<Qmp, QmpError> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(said.as_bytes()).await.unwrap();
        theirs.shutdown().await.unwrap();
        let connected = Qmp::connect(ours).await;
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
    async fn what_is_not_qmp_is_refused() {
        assert!(matches!(talk("").await, Err(QmpError::Closed)));
        assert!(matches!(talk("hello\n").await, Err(QmpError::Garbage(_))));
        let refused = talk("{\"QMP\":{}}\n{\"error\":{\"class\":\"x\",\"desc\":\"no\"}}\n").await;
        assert!(matches!(refused, Err(QmpError::Refused(reason)) if reason == "no"));
    }
}
