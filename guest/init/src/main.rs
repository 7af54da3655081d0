//! PID 1 of the guest, and the agent that serves the host.
//!
//! It is started by the kernel from the initramfs, loads the modules that the kernel has not built in, finds
//! the virtio-serial port, and then does what the host asks for, one event at a time: no threads, no runtime,
//! few pages and few instructions, since under software translation each new one costs.
//!
//! ```text
//! boot      /dev /proc /sys, modules, the port
//! agent     the event loop: host, signals, the streams of processes
//!  ├─ root      the image and the writable disk become `/`
//!  ├─ identity  host name, machine ID, randomness, clock
//!  ├─ network   loopback and the network device
//!  ├─ process   what the host started: streams, credit, exit
//!  │   └─ files     trees of files, out and in
//!  └─ shutdown  the way down, until the disk is clean
//! ```
//!
//! It trusts the host and nothing else: a workload may do to its machine whatever it likes, and at worst the
//! machine ends.

mod agent;
mod arrange;
mod boot;
mod files;
mod identity;
mod kernel_calls;
mod network;
mod outbox;
mod process;
mod root;
mod scaffold;
mod shutdown;
mod streams;
mod usage;
mod user;
mod volumes;

use std::process::ExitCode;

fn main() -> ExitCode {
    if rustix::process::getpid().as_raw_nonzero().get() != 1 {
        say("this program is the first process of a microagent guest, and runs nowhere else");
        return ExitCode::FAILURE;
    }
    let Err(error) = boot::boot().and_then(agent::serve);
    say(&error);
    shutdown::power_off()
}

/// Writes a line to the console, which the host keeps.
pub(crate) fn say(line: &str) {
    let text = format!("microagent-init: {line}\n");
    // There is nobody to tell if the console is gone.
    let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
}

/// The error of a step, in words: what was tried, and what the kernel said.
pub(crate) fn failed(what: &str) -> impl Fn(std::io::Error) -> String {
    move |error| format!("failed to {what}: {error}")
}
