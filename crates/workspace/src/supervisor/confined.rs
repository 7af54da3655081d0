//! What a supervisor, or a run in the foreground, takes away from itself before it hears anything of a guest.
//!
//! It talks to the guest, plays its network and parses what it says, and it outlives the terminal that it was started
//! from. So it keeps what that takes: the state directory, the disks that its workspace has outside it, what machines are
//! launched from, and the system's programs and settings. The user's other files it cannot open, nor signal processes
//! other than those it started. The network it needs, since it is the guest's. A run has the terminal and its standard streams open
//! already; it keeps the directories where its outputs go.

use std::path::Path;

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
///
/// It counts for the thread that calls it, and for those that it starts from then on.
pub fn confine(home: &Home, disks: &[Mount]) {
    confine_to(&files(home, disks));
}

/// The same for a run whose outputs go to these places of the host.
pub fn confine_run<'p>(home: &Home, disks: &[Mount], outputs: impl IntoIterator<Item = &'p Path>) {
    let mut files = files(home, disks);
    for output in outputs {
        files.change(directory_of(output));
    }
    confine_to(&files);
}

fn confine_to(files: &Files) {
    if let Err(error) = confine::harden() {
        tracing::warn!(%error, "what runs the machine cannot be hardened");
    }
    if let Err(error) = confine::restrict_files(files) {
        tracing::warn!(%error, "what runs the machine is not under Landlock");
    }
}

/// Where something at `output` is made: in it, if it is a directory, else beside it.
fn directory_of(output: &Path) -> &Path {
    if output.is_dir() {
        return output;
    }
    match output.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_made_in_a_directory_that_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let there = directory.path();
        assert_eq!(directory_of(there), there);
        assert_eq!(directory_of(&there.join("file")), there);
        assert_eq!(directory_of(Path::new("file")), Path::new("."));
        assert_eq!(directory_of(Path::new("/file")), Path::new("/"));
    }
}
