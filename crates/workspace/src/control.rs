//! What a supervisor is asked through its socket, and what it answers.
//!
//! ```text
//! client ──▶ {"microagent":1,"request":…}\n
//! client ◀── {"microagent":1,"reply":…}\n        one request a connection
//! ```
//!
//! After [`Request::Agent`] and [`Request::Console`] the connection goes on as another stream: the protocol of
//! `proto`, in which the supervisor stands for the guest, or the raw bytes of the serial console.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;

use engine::Accelerator;
use jiff::Timestamp;
use network::{PublishSpec, Published, Report};
use proto::{Command, Usage};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::health::Health;
use crate::socket::Socket;
use crate::state::{Exit, State};

/// The version that this release speaks.
const VERSION: u32 = 1;

/// The same; tests of builds with debug assertions may have a process speak another.
pub(crate) fn version() -> u32 {
    let pretended = || std::env::var("MICROAGENT_CONTROL_VERSION").ok()?.parse().ok();
    if cfg!(debug_assertions) { pretended().unwrap_or(VERSION) } else { VERSION }
}

/// The longest document, in bytes. Commands are as long as the kernel lets them be, and then in JSON.
pub(crate) const LONGEST: u64 = 8 << 20;

/// The kind of a failure that is the machine's standing still; its message is the reason.
pub(crate) const STALLED: &str = "stalled";

/// The socket's name in a workspace's directory.
pub(crate) const SOCKET: &str = "control.sock";

/// What a supervisor is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// What is known.
    Status,
    /// End cleanly, or fail.
    Halt,
    /// Ask the service to end, and wait so many seconds.
    Stop {
        /// How long.
        timeout: f64,
    },
    /// End at once.
    Kill,
    /// Send the service a signal.
    Signal {
        /// The signal's Linux number.
        signal: i32,
    },
    /// Freeze the virtual CPUs.
    Pause,
    /// Let them run again.
    Resume,
    /// Freeze, and cut off.
    Quarantine {
        /// Why.
        reason: String,
    },
    /// Lift the quarantine, and halt.
    Release {
        /// Why.
        reason: String,
    },
    /// Answer once it has ended for good.
    Wait,
    /// How much of the machine is used, as its guest sees it.
    Measure,
    /// Start a command that nobody looks at, and leave it running.
    Detached {
        /// The command.
        command: Box<Command>,
    },
    /// What the network has done, and is doing.
    Network,
    /// Publish more ports.
    Publish {
        /// Which.
        ports: PublishSpec,
    },
    /// Publish ports no longer.
    Withdraw {
        /// Which.
        ports: PublishSpec,
    },
    /// Go on as the guest's agent.
    Agent,
    /// Give a region of the disk for exchange, until the client hangs up. After the answer comes the disk's file, as a
    /// descriptor.
    Exchange,
    /// Go on as the serial console.
    Console,
}

/// What a supervisor answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// It is done.
    Done,
    /// What is known.
    Status(Box<LiveStatus>),
    /// How much of the machine is used.
    Measured(Usage),
    /// What the network has done, and is doing.
    Network(Report),
    /// These ports were published.
    Published(Vec<Published>),
    /// The region of this number is the client's.
    Region {
        /// Its number.
        number: u32,
    },
    /// The service ended so, if it was ever started.
    Ended {
        /// How.
        exit: Option<Exit>,
    },
    /// It was not done.
    Failed {
        /// The kind of failure, for programs.
        kind: String,
        /// Why, in words.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

/// What a supervisor knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveStatus {
    /// The state.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// The supervisor's process.
    pub supervisor: u32,
    /// The machine's process.
    pub machine: Option<u32>,
    /// What runs the guest's instructions.
    #[serde(with = "home::as_text::optional")]
    pub acceleration: Option<Accelerator>,
    /// When the service was started.
    pub service_started_at: Option<Timestamp>,
    /// Whether the service is well, where there is a check.
    pub health: Option<Health>,
    /// Why the machine does not go on by itself, as when the host's disk is full.
    pub trouble: Option<String>,
    /// The ports that are published.
    #[serde(default)]
    pub ports: Vec<Published>,
}

/// Why a supervisor could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is none.
    #[error("it is not running")]
    Nobody,
    /// It speaks another version.
    #[error(
        "it was started by another release, whose control protocol is of version {theirs} and not {VERSION}"
    )]
    OtherRelease {
        /// Its version.
        theirs: u32,
    },
    /// It went away before it answered.
    #[error("it ended before it answered")]
    Gone,
    /// What it said makes no sense.
    #[error("it answered what is no reply")]
    Garbled(#[source] serde_json::Error),
    /// The socket failed.
    #[error("failed to use its socket")]
    Io(#[from] io::Error),
}

/// A request on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Asked<T> {
    pub(crate) microagent: u32,
    pub(crate) request: T,
}

/// A reply on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answered<T> {
    pub(crate) microagent: u32,
    pub(crate) reply: T,
}

/// Reads a document's version before the rest, which only the same version can tell.
#[derive(Deserialize)]
struct Version {
    microagent: u32,
}

/// Asks the supervisor of the workspace in `directory`, and waits for its answer.
pub(crate) fn ask(directory: &Path, request: &Request) -> Result<Reply, ControlError> {
    Ok(open(directory, request)?.0)
}

/// The same, with the connection, which may go on as another stream.
pub(crate) fn open(directory: &Path, request: &Request) -> Result<(Reply, StdUnixStream), ControlError> {
    let socket = match Socket::of(directory, SOCKET) {
        Ok(socket) => socket,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ControlError::Nobody),
        Err(error) => return Err(error.into()),
    };
    let mut stream = socket.connect()?.ok_or(ControlError::Nobody)?;
    let line = line(&Asked { microagent: version(), request });
    // One that went away before it read the request is seen below.
    let _ = stream.write_all(&line);
    let reply = read_line(&mut stream)?;
    Ok((parse::<Answered<Reply>>(&reply)?.reply, stream))
}

/// A document as it is sent.
pub(crate) fn line(document: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(document).expect("documents are plain data");
    line.push(b'\n');
    line
}

/// Reads a document of the version that this release speaks.
pub(crate) fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, ControlError> {
    let Version { microagent } = serde_json::from_slice(line).map_err(ControlError::Garbled)?;
    if microagent != version() {
        return Err(ControlError::OtherRelease { theirs: microagent });
    }
    serde_json::from_slice(line).map_err(ControlError::Garbled)
}

/// Reads up to the line's end and not a byte more: what follows belongs to another stream.
fn read_line(stream: &mut StdUnixStream) -> Result<Vec<u8>, ControlError> {
    let mut line = Vec::new();
    let mut byte = [0];
    while (line.len() as u64) < LONGEST {
        match stream.read(&mut byte) {
            Ok(0) => return Err(ControlError::Gone),
            Ok(_) if byte[0] == b'\n' => return Ok(line),
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(ControlError::Gone),
            Err(error) => return Err(error.into()),
        }
    }
    Err(ControlError::Gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_told_before_anything_else_is_read() {
        let newer = br#"{"microagent":2,"reply":{"unheard":[1]}}"#;
        let error = parse::<Answered<Reply>>(newer).unwrap_err();
        assert!(matches!(error, ControlError::OtherRelease { theirs: 2 }), "{error}");
        assert!(matches!(parse::<Answered<Reply>>(b"{}"), Err(ControlError::Garbled(_))));
    }

    #[test]
    fn requests_are_read_as_they_are_written() {
        for request in [Request::Status, Request::Stop { timeout: 1.5 }, Request::Signal { signal: 15 }] {
            let sent = line(&Asked { microagent: VERSION, request: request.clone() });
            assert_eq!(parse::<Asked<Request>>(&sent).unwrap().request, request);
        }
    }

    #[test]
    fn a_directory_without_a_supervisor_answers_nobody() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(ask(directory.path(), &Request::Status), Err(ControlError::Nobody)));
        let gone = directory.path().join("gone");
        assert!(matches!(ask(&gone, &Request::Status), Err(ControlError::Nobody)));
    }
}
