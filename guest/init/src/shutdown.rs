//! The way down: processes asked, then killed; file systems unmounted; power off.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};

use crate::kernel_calls::signal_every_process;
use crate::root::MountedRoot;

/// Ends every process but this one: SIGTERM, then SIGKILL for those still there after `grace`.
pub(crate) fn end_processes(grace: Duration) {
    if !signal_every_process(Signal::TERM) {
        return;
    }
    let deadline = Instant::now() + grace;
    while Instant::now() < deadline {
        if reap_all() == Remaining::None {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    signal_every_process(Signal::KILL);
    while reap_all() == Remaining::Some {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[derive(PartialEq, Eq)]
enum Remaining {
    None,
    Some,
}

fn reap_all() -> Remaining {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => return Remaining::Some,
            Err(_) => return Remaining::None,
        }
    }
}

/// Writes everything out and unmounts the root file system.
pub(crate) fn unmount(root: Option<MountedRoot>) -> Result<(), String> {
    rustix::fs::sync();
    root.map_or(Ok(()), MountedRoot::unmount)
}

/// Switches the machine off.
pub(crate) fn power_off() -> ! {
    rustix::fs::sync();
    let outcome = rustix::system::reboot(rustix::system::RebootCommand::PowerOff);
    crate::say(&format!("failed to power off: {outcome:?}"));
    loop {
        // The first process must never return.
        let _ = rustix::process::waitpid(None::<Pid>, WaitOptions::empty());
        std::thread::sleep(Duration::from_secs(1));
    }
}
