//! What a supervisor takes away from itself before it hears anything of a guest.
//!
//! It talks to the guest, plays its network and parses what it says, and it outlives the terminal that it was started
//! from. So it keeps what that takes: the state directory, the disks that its workspace has outside it, what machines are
//! launched from, and the system's programs and settings. The user's other files it cannot open, nor signal processes
//! other than those it started. The network it needs, since it is the guest's.

use confine::Files;
use home::Home;
use volume::{Mount, Source};

/// What the system has for all: programs, libraries, settings, name servers, the kernel's facts.
const OF_THE_SYSTEM: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib64", "/nix/store", "/gnu/store"];
/// Of settings whole directories, since a file that is replaced is another; of `/proc`, nothing of other processes.
const FACTS: &[&str] = &[
    "/etc",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/sys",
    "/proc/self",
    "/proc/sys",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/version",
];
const DEVICES: &[&str] = &["/dev/null", "/dev/urandom", "/dev/random"];

/// Confines this process as far as this host can. A part that it cannot is told of every machine, and here in the log.
pub fn confine(home: &Home, disks: &[Mount]) {
    if let Err(error) = confine::harden() {
        tracing::warn!(%error, "the supervisor cannot be hardened");
    }
    if let Err(error) = confine::restrict_files(&files(home, disks)) {
        tracing::warn!(%error, "the supervisor is not under Landlock");
    }
}

fn files(home: &Home, disks: &[Mount]) -> Files {
    let mut files = Files::default();
    files.change(home.root());
    engine::add_files(&mut files);
    for path in OF_THE_SYSTEM {
        files.run(path);
    }
    if let Ok(program) = std::env::current_exe() {
        files.run(program);
    }
    for path in FACTS {
        files.read(path);
    }
    for path in DEVICES {
        files.device(path);
    }
    // The limits of conversions: a bundle may have to be made again.
    if let Some(settings) = home::configuration_directory() {
        files.read(settings);
    }
    for disk in disks {
        match &disk.source {
            Source::Volume(_) => {}
            Source::Bundle(path) => drop(files.read(path)),
            Source::Image(path) => drop(files.change(path)),
        }
    }
    files
}
