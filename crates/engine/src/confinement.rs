//! What this host has for confining a process: system-call filters, Landlock, namespaces of users.
#![allow(unsafe_code, reason = "one question has no safe call, and one is asked between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::thread::UnshareFlags;

/// What the kernel offers to the user who asks.
#[derive(Debug)]
pub struct Confinement {
    /// The version of Landlock's interface (landlock(7)); none where the kernel has it not, or switched off.
    pub landlock: Option<u32>,
    /// Whether a process may have a namespace of users of its own; the reason if not.
    pub user_namespaces: Result<(), io::Error>,
}

impl Confinement {
    /// Asks the kernel by doing it, in a process that ends at once.
    pub fn of_host() -> Self {
        Self { landlock: landlock_version(), user_namespaces: try_user_namespace() }
    }
}

fn landlock_version() -> Option<u32> {
    // LANDLOCK_CREATE_RULESET_VERSION of linux/landlock.h: tell the version and make nothing.
    const TELL_VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the kernel demands no attributes and touches no memory of ours.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            TELL_VERSION,
        )
    };
    u32::try_from(version).ok().filter(|version| *version > 0)
}

fn try_user_namespace() -> Result<(), io::Error> {
    let mut command = Command::new("/proc/self/exe");
    // What is started does not matter: it is ended before it begins.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).arg("--version");
    let enter = || {
        // SAFETY: the child shares nothing with threads of ours.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }?;
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
        Ok(())
    };
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(enter) };
    match command.spawn() {
        // It is gone before it could tell that all went well, which `spawn` takes for success.
        Ok(mut child) => child.wait().map(drop),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_asked_and_not_changed() {
        let namespace = || std::fs::read_link("/proc/self/ns/user").unwrap();
        let before = namespace();
        let confinement = Confinement::of_host();
        assert_eq!(namespace(), before);
        // Where the kernel lists it, it has a version.
        let modules = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
        if modules.contains("landlock") {
            assert!(confinement.landlock.is_some());
        }
        if let Err(error) = confinement.user_namespaces {
            assert!(error.raw_os_error().is_some(), "{error}");
        }
    }
}
