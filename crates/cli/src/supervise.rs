//! `supervise`, hidden: the process that a running workspace has. `start` starts it, and nobody else.
#![allow(unsafe_code, reason = "descriptors that were inherited are only known by number")]

use std::fs::File;
use std::os::fd::FromRawFd;
use std::path::PathBuf;

use home::Name;
use workspace::{SUPERVISOR_LOCK, SUPERVISOR_REPORT, Supervise};

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::pull::{open_home, runtime};

pub(crate) fn supervise(global: &Global, name: Name, pcap: Option<PathBuf>) -> Result<Exit, Failure> {
    if ![SUPERVISOR_LOCK, SUPERVISOR_REPORT].into_iter().all(is_open) {
        return Err(Failure::usage("this command is for `microagent start` to use")
            .hint(Some(format!("start the workspace: microagent start {name}"))));
    }
    let home = open_home(global)?;
    // SAFETY: both are open, as was just seen, and nothing else in this process has them: they were open before
    // it began, and it opens none by number.
    let [lock, report] =
        [SUPERVISOR_LOCK, SUPERVISOR_REPORT].map(|number| unsafe { File::from_raw_fd(number) });
    for descriptor in [&lock, &report] {
        // QEMU has no use for them; where this fails it has them open, and nothing more.
        let _ = rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC);
    }
    // What lists of processes show.
    let _ = rustix::thread::set_name(c"supervisor");
    let confinement = global.confinement();
    let order = Supervise { home, name, lock, report, templates: global.templates, pcap, confinement };
    runtime()?.block_on(workspace::supervise(order));
    Ok(Exit::Success)
}

fn is_open(number: i32) -> bool {
    std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok()
}
