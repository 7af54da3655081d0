//! Waiting until a journal grows.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::Directory;

/// How often it is looked where the host has no watches left.
const WITHOUT_WATCH: Duration = Duration::from_millis(500);

/// A watch on a journal's directory.
#[derive(Debug)]
pub(crate) struct Watch {
    /// None if the host has no more of them.
    inotify: Option<OwnedFd>,
}

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It may have grown.
    Growth,
    /// An appender ended, or went on to the next segment.
    Closed,
    /// Nothing, for all the time.
    Nothing,
}

impl Watch {
    /// Starts to watch. What happens from now on is seen, so read to the end only after this.
    pub(crate) fn new(directory: &Directory) -> Self {
        let inotify = watch(directory);
        if let Err(error) = &inotify {
            tracing::debug!(%error, "no watch is to be had");
        }
        Self { inotify: inotify.ok() }
    }

    /// Waits until something is seen, for `time` at most.
    pub(crate) fn wait(&self, time: Duration) -> io::Result<Seen> {
        let Some(inotify) = &self.inotify else {
            std::thread::sleep(time.min(WITHOUT_WATCH));
            return Ok(Seen::Closed);
        };
        let timeout = Timespec::try_from(time).ok();
        match poll(&mut [PollFd::new(inotify, PollFlags::IN)], timeout.as_ref()) {
            Ok(0) => Ok(Seen::Nothing),
            Ok(_) => drain(inotify),
            Err(Errno::INTR) => Ok(Seen::Growth),
            Err(error) => Err(error.into()),
        }
    }
}

fn watch(directory: &Directory) -> io::Result<OwnedFd> {
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let events = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::CLOSE_WRITE | WatchFlags::DELETE_SELF;
    inotify::add_watch(&inotify, directory.path(), events)?;
    Ok(inotify)
}

fn drain(inotify: &OwnedFd) -> io::Result<Seen> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(inotify, &mut buffer);
    let mut seen = Seen::Growth;
    loop {
        match events.next() {
            Ok(event) if event.events().intersects(ReadFlags::CLOSE_WRITE | ReadFlags::DELETE_SELF) => {
                seen = Seen::Closed;
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => return Ok(seen),
            Err(error) => return Err(error.into()),
        }
    }
}
