//! QEMU as the machine.
//!
//! Everything that QEMU opens is handed to it as an open descriptor: disks, the guest's port, the console and
//! its own control channel (QMP). So there are no sockets in the file system, and what is not handed over is
//! not needed.

mod command_line;
mod control;
mod fingerprint;
mod going_on;
mod inspect;
mod process;
mod qmp;
mod sandbox;
mod save;
mod trial;

use std::path::PathBuf;
use std::time::Duration;

use confine::{Held, Part};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::{NetworkDevice, Stalls, Start, VmSpec};
use process::Process;
use qmp::Qmp;

pub use control::{ControlError, Link};
pub use fingerprint::fingerprint;
pub use inspect::inspect;
pub use process::version;
pub use sandbox::add_files;
pub use save::SaveError;
pub use trial::{CONTROL, InvalidVersion, OLDEST, QemuVersion, try_confinement, try_launch};

/// The program; found through `PATH`.
const PROGRAM: &str = "qemu-system-x86_64";

/// How long QEMU may take until it answers on its control channel.
const GREETING_DEADLINE: Duration = Duration::from_secs(20);

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    process: Process,
    qmp: Qmp,
    has_network: bool,
    stalls: Stalls,
    /// Whether somebody wants it to stand still.
    frozen: watch::Sender<bool>,
}

/// Why a machine could not be launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// QEMU is not installed.
    #[error("cannot find `{PROGRAM}`")]
    Missing,
    /// A file that the machine starts from is not there.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// QEMU could not be started.
    #[error("failed to start `{PROGRAM}`")]
    Spawn(#[source] std::io::Error),
    /// QEMU cannot be confined as it was demanded.
    #[error("cannot confine `{PROGRAM}`: this host has no {part} for you")]
    Unconfined {
        /// What is lacking.
        part: Part,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// QEMU ended before it answered.
    #[error("`{PROGRAM}` ended at once ({status}){}", said(last_words))]
    Died {
        /// How.
        status: std::process::ExitStatus,
        /// What it said last.
        last_words: Vec<String>,
    },
    /// QEMU did not answer in time.
    #[error("`{PROGRAM}` did not answer within {} s{}", GREETING_DEADLINE.as_secs(), said(last_words))]
    Silent {
        /// What it said last.
        last_words: Vec<String>,
    },
    /// QEMU answered something that is not its protocol.
    #[error("failed to talk to `{PROGRAM}`: {0}")]
    Control(String),
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// The guest switched itself off.
    PoweredOff,
    /// The guest asked for a reset, or its kernel panicked.
    Reset,
    /// QEMU ended by itself or was killed.
    Died {
        /// How, in the system's words.
        status: String,
        /// What it said last.
        last_words: Vec<String>,
    },
}

impl From<confine::LaunchError> for LaunchError {
    fn from(error: confine::LaunchError) -> Self {
        match error {
            confine::LaunchError::Lacks { part, source } => Self::Unconfined { part, source },
            confine::LaunchError::Execute { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Self::Missing
            }
            confine::LaunchError::Execute { source, .. } | confine::LaunchError::Process(source) => {
                Self::Spawn(source)
            }
        }
    }
}

impl LaunchError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing => Some("install it: sudo apt-get install qemu-system-x86".to_owned()),
            Self::Died { last_words, .. } if last_words.iter().any(|line| line.contains("kvm")) => {
                Some("run it without KVM: --accel tcg".to_owned())
            }
            Self::Unconfined { .. } => Some(
                "see how this host comes to have it: microagent doctor; or leave out --require-confinement"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// Starts a machine. It runs when this returns; how far the guest is, its agent tells.
pub async fn launch(spec: VmSpec) -> Result<Machine, LaunchError> {
    if let Start::Boot { kernel, initramfs, .. } = &spec.start {
        for path in [kernel, initramfs] {
            std::fs::File::open(path)
                .map_err(|source| LaunchError::Unreadable { path: path.clone(), source })?;
        }
    }
    let first = match &spec.start {
        Start::Boot { .. } => Vec::new(),
        Start::Restore(_) => save::restore_commands(process::DESCRIPTORS.state).to_vec(),
    };
    let has_network = spec.network != NetworkDevice::None;
    let mut process = process::start(spec)?;
    tracing::debug!("QEMU is spawned");
    let control = process.control.take().expect("a new process has its control channel");
    let greeting = tokio::time::timeout(GREETING_DEADLINE, Qmp::connect(control, &first)).await;
    let qmp = match greeting {
        Ok(Ok(qmp)) => qmp,
        Ok(Err(qmp::QmpError::Closed)) => return Err(process.died().await),
        Ok(Err(error)) => return Err(LaunchError::Control(error.to_string())),
        Err(_) => return Err(LaunchError::Silent { last_words: process.last_words() }),
    };
    let (stalled, stalls) = Stalls::new();
    let frozen = watch::Sender::new(false);
    tokio::spawn(going_on::go_on(qmp.write_errors(), qmp.commands(), frozen.subscribe(), stalled));
    Ok(Machine { process, qmp, has_network, stalls, frozen })
}

impl Machine {
    /// The streams between the guest and us; to be taken once.
    ///
    /// First the guest's port, writable from the start, however far the guest is. Second what the serial
    /// console says; the guest waits if nobody reads it.
    pub fn take_streams(&mut self) -> (UnixStream, UnixStream) {
        self.process.streams.take().expect("the streams of a machine are taken once")
    }

    /// When it stands still since this host does not take what the guest writes. It goes on by itself once the host
    /// does.
    pub fn stalls(&self) -> Stalls {
        self.stalls.clone()
    }

    /// Waits for the machine's end. Cancel-safe: it may be called again.
    pub async fn ended(&mut self) -> Ended {
        let reason = self.qmp.shutdown_reason().await;
        let status = self.process.wait().await;
        match reason.as_deref() {
            Some("guest-shutdown") => Ended::PoweredOff,
            Some("guest-reset" | "guest-panic") => Ended::Reset,
            _ => Ended::Died { status, last_words: self.process.last_words() },
        }
    }

    /// Ends the machine at once and waits until it is gone.
    pub async fn kill(mut self) {
        self.process.kill().await;
    }

    /// Ends the machine, which is gone a moment later.
    pub fn kill_soon(mut self) {
        self.process.kill_soon();
    }

    /// The process that is the machine.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What confines it.
    pub fn confinement(&self) -> &Held {
        self.process.held()
    }
}

fn said(last_words: &[String]) -> String {
    if last_words.is_empty() { String::new() } else { format!("; it said: {}", last_words.join(" / ")) }
}
