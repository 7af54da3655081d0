//! The streams of a process: pipes or a terminal, with the credit that bounds what is on the way.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use proto::WINDOW;
use rustix::io::Errno;

/// What a process writes to, seen from the side that reads.
pub(crate) struct Output {
    descriptor: OwnedFd,
    credit: u32,
}

/// What one attempt to read gave.
pub(crate) enum Read<'a> {
    Data(&'a [u8]),
    /// Nothing now.
    Empty,
    /// Nothing ever again.
    End,
    /// The host has to take what it was sent first.
    NoCredit,
}

impl Output {
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor, credit: WINDOW }
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    pub(crate) fn has_credit(&self) -> bool {
        self.credit > 0
    }

    pub(crate) fn add_credit(&mut self, bytes: u32) {
        self.credit = self.credit.saturating_add(bytes).min(WINDOW);
    }

    pub(crate) fn read<'a>(&mut self, buffer: &'a mut [u8]) -> Read<'a> {
        let room = buffer.len().min(self.credit as usize);
        if room == 0 {
            return Read::NoCredit;
        }
        loop {
            match rustix::io::read(&self.descriptor, &mut buffer[..room]) {
                Ok(0) => return Read::End,
                Ok(length) => {
                    self.credit -= length as u32;
                    return Read::Data(&buffer[..length]);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Read::Empty,
                // EIO is a terminal's way to say that nobody has it open any more.
                Err(_) => return Read::End,
            }
        }
    }
}

/// A process's standard input, seen from the side that writes.
pub(crate) struct Input {
    descriptor: Option<OwnedFd>,
    waiting: VecDeque<u8>,
    state: InputState,
    kind: InputKind,
}

#[derive(PartialEq, Eq)]
enum InputState {
    Open,
    /// The host has no more; what waits is still to be written.
    Ending,
    /// Nobody reads it any more.
    Broken,
}

/// What standard input is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputKind {
    Pipe,
    /// Its end is for the terminal's user to type; closing it would hang it up.
    Terminal,
}

impl Input {
    pub(crate) fn new(descriptor: Option<OwnedFd>, kind: InputKind) -> Self {
        Self { descriptor, waiting: VecDeque::new(), state: InputState::Open, kind }
    }

    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.descriptor.is_some() && !self.waiting.is_empty()
    }

    /// Takes in data; returns how many bytes the host gets back as credit at once.
    pub(crate) fn push(&mut self, data: &[u8]) -> u32 {
        // As with a local pipe, what nobody reads is gone, and must not hold up the host.
        if self.descriptor.is_none() || self.state != InputState::Open {
            return data.len() as u32;
        }
        self.waiting.extend(data);
        0
    }

    pub(crate) fn end(&mut self) {
        self.state = InputState::Ending;
        self.close_if_done();
    }

    /// Writes what the process takes now; returns how many bytes are done with.
    pub(crate) fn flush(&mut self) -> u32 {
        let mut done = 0;
        while let Some(descriptor) = self.descriptor.as_ref().filter(|_| !self.waiting.is_empty()) {
            match rustix::io::write(descriptor, self.waiting.as_slices().0) {
                Ok(written) => {
                    self.waiting.drain(..written);
                    done += written as u32;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return done,
                Err(_) => {
                    done += self.waiting.len() as u32;
                    self.waiting.clear();
                    self.state = InputState::Broken;
                }
            }
        }
        self.close_if_done();
        done
    }

    fn close_if_done(&mut self) {
        if self.state == InputState::Ending && self.waiting.is_empty() && self.kind == InputKind::Pipe {
            self.descriptor = None;
        }
    }
}
