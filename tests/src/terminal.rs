//! A terminal with a program on it, and the test at its keyboard.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal};
use rustix::pty::OpenptFlags;
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::invocation::DEADLINE;

/// A pseudo-terminal. The program on it is the leader of a session of its own.
#[derive(Debug)]
pub struct Terminal {
    ours: OwnedFd,
    /// Kept, so that the terminal outlives its program.
    theirs: OwnedFd,
    child: Child,
    seen: Vec<u8>,
    /// How much of what was seen [`Self::expect`] has passed.
    passed: usize,
}

impl Terminal {
    pub(crate) fn start(command: impl FnOnce() -> Command, rows: u16, columns: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = rustix::pty::openpt(flags).expect("a terminal can be opened");
        rustix::pty::unlockpt(&ours).expect("a terminal can be unlocked");
        let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags).expect("its other end can be opened");
        tcsetwinsize(&ours, window_size(rows, columns)).expect("a terminal has a size");
        let end = || Stdio::from(theirs.try_clone().expect("a descriptor can be copied"));
        let child = command().stdin(end()).stdout(end()).stderr(end()).spawn().expect("the program starts");
        Self { ours, theirs, child, seen: Vec::new(), passed: 0 }
    }

    /// Types.
    pub fn send(&self, keys: &[u8]) {
        let written = rustix::io::write(&self.ours, keys).expect("a terminal can be written to");
        assert_eq!(written, keys.len());
    }

    /// Waits until `text` appears, after what was expected before.
    pub fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let new = &self.seen[self.passed..];
            if let Some(at) = new.windows(text.len()).position(|window| window == text.as_bytes()) {
                self.passed += at + text.len();
                return;
            }
            let alive = self.read_some();
            assert!(alive && Instant::now() < deadline, "no `{text}` in what was shown: {}", self.shown());
        }
    }

    /// Everything that was shown so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Changes its size.
    pub fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.ours, window_size(rows, columns)).expect("a terminal has a size");
    }

    /// Its mode, in a form that can be compared.
    pub fn mode(&self) -> String {
        let Termios { input_modes, output_modes, control_modes, local_modes, .. } =
            tcgetattr(&self.theirs).expect("a terminal has a mode");
        format!("{input_modes:?} {output_modes:?} {control_modes:?} {local_modes:?}")
    }

    /// Sends a signal to its program.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("a child can be signalled");
    }

    /// Whether its program runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Waits for its program's end, reading all that is shown.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.read_some();
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                while self.read_some() {}
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end; shown: {}", self.shown());
        }
    }

    /// Reads what is there, or comes within a moment; false if there was nothing and the program has ended.
    fn read_some(&mut self) -> bool {
        let moment = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let ready = poll(&mut [PollFd::new(&self.ours, PollFlags::IN)], Some(&moment));
        if ready.expect("a terminal can be polled") == 0 {
            return self.is_running();
        }
        let mut buffer = [0; 4096];
        let length = rustix::io::read(&self.ours, &mut buffer).expect("a terminal can be read");
        self.seen.extend_from_slice(&buffer[..length]);
        true
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A test that failed leaves no program behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn window_size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
