//! The user's terminal: its size, raw mode, and its way back.
//!
//! Raw mode must end however this program ends. A value restores it on the way out; for the ways out that run
//! no code of ours (a panic that aborts, SIGKILL) a second process waits for our end and restores it then.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::sys::signal::{SigSet, Signal};
use proto::TerminalSize;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::exit::Exit;

/// Whether standard input is a terminal.
pub(crate) fn is_input() -> bool {
    io::stdin().is_terminal()
}

/// The size of the terminal, or of a common one if there is none.
pub(crate) fn size() -> TerminalSize {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin()));
    match size {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            TerminalSize { rows: size.ws_row, columns: size.ws_col }
        }
        _ => TerminalSize { rows: 24, columns: 80 },
    }
}

/// The terminal with what is typed not shown, until this value is dropped.
pub(crate) struct Silence(#[expect(dead_code, reason = "holding it is its use")] Changed);

impl Silence {
    /// Nothing that is typed is shown from here on.
    pub(crate) fn begin() -> io::Result<Self> {
        Changed::make(|mode| mode.local_modes.remove(LocalModes::ECHO)).map(Self)
    }
}

/// The terminal in raw mode, until this value is dropped.
pub(crate) struct RawMode(#[expect(dead_code, reason = "holding it is its use")] Changed);

impl RawMode {
    /// Every key goes to the guest from here on.
    pub(crate) fn enter() -> io::Result<Self> {
        Changed::make(Termios::make_raw).map(Self)
    }
}

/// The terminal in another mode, and who restores it.
struct Changed {
    before: Termios,
    guard: Child,
    /// Closing it, by dropping it or by our end, tells the guard.
    still_here: Option<ChildStdin>,
}

impl Changed {
    fn make(change: impl FnOnce(&mut Termios)) -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut guard = start_guard()?;
        let still_here = guard.stdin.take();
        let mut changed = before.clone();
        change(&mut changed);
        tcsetattr(io::stdin(), OptionalActions::Now, &changed)?;
        Ok(Self { before, guard, still_here })
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        // Output that is still on its way to the screen was meant for raw mode.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
        // The guard ends by itself; it finds nothing to change.
        drop(self.still_here.take());
        let _ = self.guard.wait();
    }
}

/// Starts the process that restores the terminal when we are gone, and waits until it knows the mode.
fn start_guard() -> io::Result<Child> {
    let terminal = io::stdin().as_fd().try_clone_to_owned()?;
    let mut guard = Command::new("/proc/self/exe")
        .arg("guard-terminal")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(terminal))
        // What is sent to our group is not for it.
        .process_group(0)
        .spawn()?;
    let mut ready = [0];
    let mut answer = guard.stdout.take().expect("standard output is a pipe");
    answer.read_exact(&mut ready)?;
    Ok(guard)
}

/// The second process: its standard input ends with the first, and its standard error is the terminal.
pub(crate) fn guard() -> Exit {
    let wait = || -> io::Result<()> {
        let before = tcgetattr(io::stderr())?;
        io::stdout().write_all(&[1])?;
        io::stdout().flush()?;
        io::stdin().read_to_end(&mut Vec::new())?;
        if tcgetattr(io::stderr())?.local_modes != before.local_modes {
            // The kernel stops whoever changes a terminal from the background and does not block this signal.
            let mut background = SigSet::empty();
            background.add(Signal::SIGTTOU);
            background.thread_block()?;
            tcsetattr(io::stderr(), OptionalActions::Now, &before)?;
        }
        Ok(())
    };
    if wait().is_ok() { Exit::Success } else { Exit::Failed }
}
