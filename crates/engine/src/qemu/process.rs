//! The QEMU process: started with its descriptors, bound to our life, its last words kept.
#![allow(unsafe_code, reason = "binding a child's life to ours happens between fork and exec")]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::command_line::{self, Descriptors};
use super::{LaunchError, PROGRAM};
use crate::{Memory, Start, Tail, VmSpec};

pub(super) const DESCRIPTORS: Descriptors =
    Descriptors { control: 3, console: 4, agent: 5, memory: 6, state: 7, cable: 8, first_disk: 9 };

#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    last_words: Arc<Mutex<Tail>>,
    listener: tokio::task::JoinHandle<()>,
    pub(super) control: Option<UnixStream>,
    /// The guest's port and the console.
    pub(super) streams: Option<(UnixStream, UnixStream)>,
}

/// Starts QEMU for `spec`.
///
/// It must be called on a thread that lives as long as the machine, since the kernel binds the machine's life
/// to that thread.
pub(super) fn start(spec: VmSpec) -> Result<Process, LaunchError> {
    let (control, control_theirs) = channel().map_err(LaunchError::Spawn)?;
    let (console, console_theirs) = channel().map_err(LaunchError::Spawn)?;
    let (agent, agent_theirs) = channel().map_err(LaunchError::Spawn)?;
    let mut command = Command::new(PROGRAM);
    command.args(command_line::arguments(&spec, DESCRIPTORS));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // Ctrl-C in a terminal is for us to handle.
    command.process_group(0).kill_on_drop(true);
    let mut mappings = vec![
        FdMapping { parent_fd: control_theirs, child_fd: DESCRIPTORS.control },
        FdMapping { parent_fd: console_theirs, child_fd: DESCRIPTORS.console },
        FdMapping { parent_fd: agent_theirs, child_fd: DESCRIPTORS.agent },
    ];
    let (memory, state) = match spec.start {
        Start::Boot { memory: Memory::File(memory), .. } => (Some(memory), None),
        Start::Boot { memory: Memory::Private, .. } => (None, None),
        Start::Restore(saved) => (Some(saved.memory), Some(saved.state)),
    };
    let disks =
        (DESCRIPTORS.first_disk..).zip(spec.disks).map(|(child_fd, disk)| (Some(disk.file), child_fd));
    let files = [(memory, DESCRIPTORS.memory), (state, DESCRIPTORS.state)].into_iter().chain(disks);
    mappings.extend(
        files.filter_map(|(file, child_fd)| Some(FdMapping { parent_fd: OwnedFd::from(file?), child_fd })),
    );
    mappings.extend(spec.cable.map(|parent_fd| FdMapping { parent_fd, child_fd: DESCRIPTORS.cable }));
    command.fd_mappings(mappings).expect("each descriptor has a number of its own");
    end_with_parent(&mut command);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => LaunchError::Missing,
        _ => LaunchError::Spawn(error),
    })?;
    let last_words = Arc::new(Mutex::new(Tail::new(8 * 1024)));
    let stderr = child.stderr.take().expect("standard error is a pipe");
    let listener = tokio::spawn(listen(stderr, Arc::clone(&last_words)));
    Ok(Process { child, last_words, listener, control: Some(control), streams: Some((agent, console)) })
}

fn channel() -> std::io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

/// Has the kernel kill the child when we end, however we end.
fn end_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let bind = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // Had we ended before the call above, nobody would have told.
        if rustix::process::getppid() != Some(parent) {
            return Err(std::io::Error::other("the parent is gone"));
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only; its error value carries a static text.
    unsafe { command.pre_exec(bind) };
}

async fn listen(mut stderr: tokio::process::ChildStderr, last_words: Arc<Mutex<Tail>>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        last_words.lock().expect("no holder panics").push(&buffer[..length]);
    }
}

impl Process {
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
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
        let status = self.child.wait().await?;
        if !self.listener.is_finished() {
            // Its standard error has ended with it; an error here is the listener's own end.
            let _ = (&mut self.listener).await;
        }
        Ok(status)
    }

    pub(super) fn kill_soon(&mut self) {
        // It may have ended by itself.
        let _ = self.child.start_kill();
    }

    pub(super) async fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill().await;
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
