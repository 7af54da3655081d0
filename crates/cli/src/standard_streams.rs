//! This process's standard streams as plain descriptors: unbuffered, and patient with non-blocking ones.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// A standard stream.
pub(crate) struct Standard(OwnedFd);

impl Standard {
    pub(crate) fn input() -> io::Result<Self> {
        Ok(Self(io::stdin().as_fd().try_clone_to_owned()?))
    }

    pub(crate) fn output() -> io::Result<Self> {
        Ok(Self(io::stdout().as_fd().try_clone_to_owned()?))
    }

    pub(crate) fn error() -> io::Result<Self> {
        Ok(Self(io::stderr().as_fd().try_clone_to_owned()?))
    }

    /// Tries until the descriptor no longer answers that it would have to wait.
    fn patiently<T>(
        &self,
        ready: PollFlags,
        mut attempt: impl FnMut(&OwnedFd) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match attempt(&self.0) {
                Err(Errno::AGAIN) => {
                    poll(&mut [PollFd::new(&self.0, ready)], None)?;
                }
                Err(Errno::INTR) => {}
                outcome => return Ok(outcome?),
            }
        }
    }
}

impl Read for Standard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.patiently(PollFlags::IN, |descriptor| rustix::io::read(descriptor, &mut *buffer))
    }
}

impl Write for Standard {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.patiently(PollFlags::OUT, |descriptor| rustix::io::write(descriptor, buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
