//! A process that was launched, held by a descriptor and never by a number that another could get.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, WaitOptions};

use crate::group::Group;

/// A confined process. It is ended when this is dropped.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    handle: OwnedFd,
    ended: Option<ExitStatus>,
    /// Gone when it has ended.
    group: Option<Group>,
}

impl Child {
    pub(crate) fn new(pid: Pid, handle: OwnedFd, group: Option<Group>) -> Self {
        Self { pid, handle, ended: None, group }
    }

    pub(crate) fn group(&self) -> Option<&Path> {
        self.group.as_ref().map(Group::place)
    }

    /// Its number, for people.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// How it ended, if it has.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.reap(WaitOptions::NOHANG)
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.reap(WaitOptions::empty())? {
                return Ok(status);
            }
        }
    }

    /// Ends it. It is gone a moment later.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            // It may have ended by itself.
            let _ = rustix::process::pidfd_send_signal(&self.handle, Signal::KILL);
        }
    }

    fn reap(&mut self, options: WaitOptions) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            // Until it is waited for, the number is this child's.
            let found = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(self.pid), options))?;
            self.ended = found.map(|(_, status)| ExitStatus::from_raw(status.as_raw()));
        }
        if self.ended.is_some() {
            self.group = None;
        }
        Ok(self.ended)
    }
}

impl AsFd for Child {
    /// Readable once it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl AsRawFd for Child {
    fn as_raw_fd(&self) -> RawFd {
        self.handle.as_raw_fd()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        if matches!(self.try_wait(), Ok(None)) {
            let (pid, group) = (self.pid, self.group.take());
            // Freeing its memory takes a while, and nobody is to wait for that. Where no thread is to be had, its entry in
            // the list of processes stays until this process ends.
            let _ = std::thread::Builder::new().name("reaper".to_owned()).spawn(move || {
                let _ =
                    rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::empty()));
                drop(group);
            });
        }
    }
}
