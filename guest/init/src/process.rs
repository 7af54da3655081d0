//! Starting what the host asks for.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio as StdStdio;

use proto::{Command, ExitStatus, SpawnFailure, SpawnFailureKind, Stdio, TerminalSize, Transfer};
use rustix::fs::OFlags;
use rustix::process::Pid;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::files;
use crate::kernel_calls::{Identity, Image, instead_of_executing, signal_group, start_as};
use crate::root::MountedRoot;
use crate::streams::{Input, InputKind, Output};
use crate::user::{Account, look_up};

/// A process that the host asked for.
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) input: Input,
    /// Standard output (or the terminal) and standard error, until they end.
    pub(crate) outputs: [Option<Output>; 2],
    pub(crate) status: Option<ExitStatus>,
    terminal: Option<OwnedFd>,
}

impl Process {
    /// Starts `command`.
    pub(crate) fn start(command: &Command) -> Result<Self, SpawnFailure> {
        let setup = |reason| SpawnFailure { kind: SpawnFailureKind::Setup, reason };
        let account = look_up(&command.user, Path::new("/etc")).map_err(setup)?;
        let directory = Path::new(OsStr::from_bytes(&command.directory));
        std::fs::create_dir_all(directory).map_err(|error| {
            setup(format!("failed to make the working directory `{}`: {error}", directory.display()))
        })?;
        let mut prepared = prepare(command, &account, directory);
        let streams = Streams::attach(command.stdio, &account, &mut prepared)
            .map_err(|error| setup(format!("failed to make the standard streams: {error}")))?;
        let child = prepared
            .spawn()
            .map_err(|error| spawn_failure(command.argv.first().map_or(b"sh", Vec::as_slice), &error))?;
        // The descriptors of the child's side close with `prepared`.
        drop(prepared);
        let pid = Pid::from_child(&child);
        streams
            .into_process(child, pid)
            .map_err(|error| setup(format!("failed to make the standard streams: {error}")))
    }

    /// Starts a process that packs or unpacks files: a copy of this one. What it may need of `root` it is given.
    pub(crate) fn transfer(
        transfer: &Transfer,
        region: Option<u32>,
        root: &MountedRoot,
    ) -> Result<Self, SpawnFailure> {
        let setup = |error: io::Error| SpawnFailure {
            kind: SpawnFailureKind::Setup,
            reason: format!("a process that copies files: {error}"),
        };
        let given = [root.exchange().map_err(setup)?, root.below().map_err(setup)?];
        let transfer = transfer.clone();
        let mut prepared = std::process::Command::new("/");
        instead_of_executing(&mut prepared, given, move |[exchange, below]| {
            files::transfer(&transfer, region.map(|region| (exchange, region)), below)
        });
        prepared.stdin(StdStdio::piped()).stdout(StdStdio::piped()).stderr(StdStdio::piped());
        let child = prepared.spawn().map_err(setup)?;
        drop(prepared);
        let pid = Pid::from_child(&child);
        Streams::Pipes.into_process(child, pid).map_err(setup)
    }

    /// Sends a signal to the process's group.
    pub(crate) fn signal(&self, number: i32) {
        if self.status.is_none() {
            signal_group(self.pid, number);
        }
    }

    /// Tells the terminal its size.
    pub(crate) fn resize(&self, size: TerminalSize) {
        if let Some(terminal) = &self.terminal {
            let _ = rustix::termios::tcsetwinsize(terminal, window_size(size));
        }
    }

    /// Whether nothing more can come from it.
    pub(crate) fn is_over(&self) -> bool {
        self.status.is_some() && self.outputs.iter().all(Option::is_none)
    }
}

fn prepare(command: &Command, account: &Account, directory: &Path) -> std::process::Command {
    let shell = [shell(account)];
    let argv = if command.argv.is_empty() { &shell[..] } else { &command.argv };
    let program = &argv[0];
    let mut env = command.env.clone();
    if !env.iter().any(|entry| entry.starts_with(b"HOME=")) {
        env.push([b"HOME=", account.home.as_slice()].concat());
    }
    let image = Image {
        candidates: strings(&candidates(program, &env)),
        arguments: strings(argv),
        environment: strings(&env),
    };
    // What is started is the image; the name here is for nobody to see.
    let mut prepared = std::process::Command::new(OsStr::from_bytes(program));
    prepared.current_dir(directory);
    let identity = Identity {
        uid: account.uid,
        gid: account.gid,
        groups: account.groups.clone(),
        on_terminal: matches!(command.stdio, Stdio::Terminal(_)),
    };
    start_as(&mut prepared, identity, image);
    prepared
}

/// The user's shell, or the best there is.
fn shell(account: &Account) -> Vec<u8> {
    let known = [account.shell.as_slice(), b"/bin/bash", b"/usr/bin/bash"];
    let there = |shell: &&[u8]| !shell.is_empty() && Path::new(OsStr::from_bytes(shell)).exists();
    known.into_iter().find(there).unwrap_or(b"/bin/sh").to_vec()
}

/// The files that `program` may mean: itself if it is a path, else one in each directory of `PATH`.
fn candidates(program: &[u8], env: &[Vec<u8>]) -> Vec<Vec<u8>> {
    if program.contains(&b'/') {
        return vec![program.to_vec()];
    }
    let path = env.iter().find_map(|entry| entry.strip_prefix(b"PATH=")).unwrap_or_default();
    let directories = path.split(|byte| *byte == b':');
    directories
        // An empty entry is the working directory; environ(7).
        .map(|directory| if directory.is_empty() { b"." } else { directory })
        .map(|directory| [directory, b"/", program].concat())
        .collect()
}

/// Strings for the kernel; what follows a NUL cannot be passed to it.
fn strings(words: &[Vec<u8>]) -> Vec<CString> {
    let until_nul = |word: &Vec<u8>| word.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    words.iter().map(|word| CString::new(until_nul(word)).unwrap_or_default()).collect()
}

fn spawn_failure(program: &[u8], error: &io::Error) -> SpawnFailure {
    let program = String::from_utf8_lossy(program);
    let (kind, reason) = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => {
            (SpawnFailureKind::NotFound, "not found in the image".to_owned())
        }
        Some(libc::EACCES | libc::EISDIR) => (SpawnFailureKind::NotExecutable, "not executable".to_owned()),
        Some(libc::ENOEXEC) => (SpawnFailureKind::NotExecutable, "not a program for this machine".to_owned()),
        _ => (SpawnFailureKind::NotExecutable, error.to_string()),
    };
    SpawnFailure { kind, reason: format!("`{program}`: {reason}") }
}

/// The guest's side of a process's streams.
enum Streams {
    Pipes,
    Terminal(OwnedFd),
}

impl Streams {
    fn attach(stdio: Stdio, account: &Account, prepared: &mut std::process::Command) -> io::Result<Self> {
        match stdio {
            Stdio::Pipes | Stdio::NoInput => {
                let input = if stdio == Stdio::Pipes { StdStdio::piped() } else { StdStdio::null() };
                prepared.stdin(input).stdout(StdStdio::piped()).stderr(StdStdio::piped());
                Ok(Self::Pipes)
            }
            Stdio::Terminal(size) => {
                let (ours, theirs) = open_terminal(size)?;
                rustix::fs::fchown(&theirs, Some(rustix::fs::Uid::from_raw(account.uid)), None)?;
                prepared.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
                Ok(Self::Terminal(ours))
            }
        }
    }

    fn into_process(self, mut child: std::process::Child, pid: Pid) -> io::Result<Process> {
        let (input, outputs, terminal) = match self {
            Self::Pipes => {
                let input = child.stdin.take().map(OwnedFd::from);
                let stdout = child.stdout.take().map(OwnedFd::from);
                let stderr = child.stderr.take().map(OwnedFd::from);
                (input, [stdout, stderr], None)
            }
            Self::Terminal(ours) => (Some(ours.try_clone()?), [Some(ours.try_clone()?), None], Some(ours)),
        };
        for descriptor in input.iter().chain(outputs.iter().flatten()) {
            let flags = rustix::fs::fcntl_getfl(descriptor)?;
            rustix::fs::fcntl_setfl(descriptor, flags | OFlags::NONBLOCK)?;
        }
        let kind = if terminal.is_some() { InputKind::Terminal } else { InputKind::Pipe };
        let outputs = outputs.map(|output| output.map(Output::new));
        Ok(Process { pid, input: Input::new(input, kind), outputs, status: None, terminal })
    }
}

fn open_terminal(size: TerminalSize) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&ours)?;
    let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags)?;
    rustix::termios::tcsetwinsize(&ours, window_size(size))?;
    Ok((ours, theirs))
}

fn window_size(size: TerminalSize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_in_the_commands_own_path() {
        let env = [b"A=b".to_vec(), b"PATH=/x::/y".to_vec()];
        let found = |program: &[u8]| candidates(program, &env);
        assert_eq!(found(b"sh"), [b"/x/sh".to_vec(), b"./sh".to_vec(), b"/y/sh".to_vec()]);
        assert_eq!(found(b"a/sh"), [b"a/sh".to_vec()]);
    }
}
