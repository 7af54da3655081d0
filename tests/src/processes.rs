//! Processes of the host, as `/proc` shows them.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Pid;

/// A process that has to do with a state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostProcess {
    /// Its number.
    pub pid: i32,
    /// Its name, as the kernel has it.
    pub name: String,
}

/// The processes whose environment, arguments or open files name `home`, but this one.
pub fn processes_of(home: &Path) -> Vec<HostProcess> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let entries = fs_err::read_dir("/proc").expect("the host has a /proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let named = |pid: i32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        HostProcess { pid, name: name.trim_end().to_owned() }
    };
    pids.filter(|pid| *pid != own && concerns(*pid, home)).map(named).collect()
}

fn concerns(pid: i32, home: &Path) -> bool {
    let wanted = home.as_os_str().as_bytes();
    let contains = |bytes: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
    let files = ["environ", "cmdline"].map(|file| std::fs::read(format!("/proc/{pid}/{file}")));
    if files.iter().flatten().any(|content| contains(content)) {
        return true;
    }
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut targets = descriptors.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.any(|target| target.starts_with(home))
}

/// The most memory that a process had resident so far, in bytes; none if it has ended.
pub fn peak_memory(pid: Pid) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Waits until `found` returns nothing, and fails with what it returned last if that takes longer than `patience`.
pub fn wait_until<T: std::fmt::Debug>(patience: Duration, mut found: impl FnMut() -> Vec<T>) {
    let deadline = Instant::now() + patience;
    loop {
        let left = found();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "still there after {patience:?}: {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
