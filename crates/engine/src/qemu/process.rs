//! The QEMU process: started with its descriptors, confined, bound to our life, its last words kept.
#![allow(unsafe_code, reason = "waiting for a descriptor takes the promise that it stays")]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};

use confine::{Child, Held};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;

use super::command_line::Descriptors;
use super::sandbox;
use super::{LaunchError, PROGRAM};
use crate::{Tail, VmSpec};

pub(super) const DESCRIPTORS: Descriptors =
    Descriptors { control: 3, console: 4, agent: 5, memory: 6, state: 7, cable: 8, first_disk: 9 };

#[derive(Debug)]
pub(super) struct Process {
    child: AsyncFd<Child>,
    last_words: Arc<Mutex<Tail>>,
    listener: tokio::task::JoinHandle<()>,
    held: Held,
    pub(super) control: Option<UnixStream>,
    /// The guest's port and the console.
    pub(super) streams: Option<(UnixStream, UnixStream)>,
}

/// Starts QEMU for `spec`.
///
/// It must be called on a thread that lives as long as the machine, since the kernel binds the machine's life
/// to that thread.
pub(super) fn start(spec: VmSpec) -> Result<Process, LaunchError> {
    let (launch, ours) = prepare(spec)?;
    let (child, stderr, held) = launch.launch()?;
    let last_words = Arc::new(Mutex::new(Tail::new(8 * 1024)));
    let listener = tokio::spawn(listen(stderr, Arc::clone(&last_words)));
    // SAFETY: a child has one descriptor from its making to its drop.
    let child = unsafe { AsyncFd::register_with_interest(child, Interest::READABLE) };
    let child = child.map_err(|error| LaunchError::Spawn(error.into()))?;
    let OurEnds { control, agent, console } = ours;
    Ok(Process { child, last_words, listener, held, control: Some(control), streams: Some((agent, console)) })
}

/// Our ends of its channels.
pub(super) struct OurEnds {
    pub(super) control: UnixStream,
    agent: UnixStream,
    console: UnixStream,
}

/// All that is to be launched, and the other ends of its channels.
pub(super) fn prepare(spec: VmSpec) -> Result<(confine::Launch, OurEnds), LaunchError> {
    let (control, control_theirs) = channel().map_err(LaunchError::Spawn)?;
    let (console, console_theirs) = channel().map_err(LaunchError::Spawn)?;
    let (agent, agent_theirs) = channel().map_err(LaunchError::Spawn)?;
    let mut launch = sandbox::launch(spec)?;
    launch.descriptors.extend([
        (DESCRIPTORS.control, control_theirs),
        (DESCRIPTORS.console, console_theirs),
        (DESCRIPTORS.agent, agent_theirs),
    ]);
    Ok((launch, OurEnds { control, agent, console }))
}

fn channel() -> std::io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

async fn listen(stderr: File, last_words: Arc<Mutex<Tail>>) {
    let Ok(mut stderr) = Receiver::from_file(stderr) else { return };
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        last_words.lock().expect("no holder panics").push(&buffer[..length]);
    }
}

impl Process {
    pub(super) fn pid(&self) -> u32 {
        self.child.get_ref().id()
    }

    /// What confines it.
    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    /// What it said last. Complete once it has ended.
    pub(super) fn last_words(&self) -> Vec<String> {
        self.last_words.lock().expect("no holder panics").last_lines(5)
    }

    pub(super) async fn wait(&mut self) -> String {
        match self.exit_status().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    pub(super) async fn died(mut self) -> LaunchError {
        match self.exit_status().await {
            Ok(status) => LaunchError::Died { status, last_words: self.last_words() },
            Err(error) => LaunchError::Spawn(error),
        }
    }

    async fn exit_status(&mut self) -> std::io::Result<ExitStatus> {
        let status = loop {
            if let Some(status) = self.child.get_mut().try_wait()? {
                break status;
            }
            self.child.readable_mut().await?.clear_ready();
        };
        if !self.listener.is_finished() {
            // Its standard error has ended with it; an error here is the listener's own end.
            let _ = (&mut self.listener).await;
        }
        Ok(status)
    }

    pub(super) fn kill_soon(&mut self) {
        self.child.get_mut().kill();
    }

    pub(super) async fn kill(&mut self) {
        self.kill_soon();
        // How it ended is of no interest.
        let _ = self.exit_status().await;
    }
}

/// The version of the QEMU that is installed, as it says itself.
pub fn version() -> Result<String, LaunchError> {
    let output = std::process::Command::new(PROGRAM).arg("--version").output();
    let output = output.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => LaunchError::Missing,
        _ => LaunchError::Spawn(error),
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim_start_matches("QEMU emulator version ").to_owned())
}
