//! Limits on what a process may use, `getrlimit(2)`.
#![allow(
    unsafe_code,
    reason = "the safe wrappers make more than one system call, and this runs between fork and exec"
)]

use std::io;

/// What a confined process may use. Never any of these is a dump of its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open descriptors.
    pub descriptors: u64,
    /// Bytes of the longest file that it may write; a file that is longer stays as it is.
    pub file_size: u64,
    /// Bytes of address space.
    pub address_space: u64,
    /// Threads and processes. It counts only in a user namespace of its own, since elsewhere all of the user's do.
    pub threads: u64,
}

/// A limit on dumps that is below any dump's size, and not zero: a kernel that pipes dumps to a program takes zero for
/// no limit, and one for "never"; `do_coredump` in Linux's fs/coredump.c.
const NO_DUMP: u64 = 1;

impl Limits {
    /// Sets them for this process. Makes system calls only.
    pub(crate) fn set(&self, own_users: bool) -> io::Result<()> {
        set(libc::RLIMIT_CORE, NO_DUMP)?;
        set(libc::RLIMIT_NOFILE, self.descriptors)?;
        set(libc::RLIMIT_FSIZE, self.file_size)?;
        set(libc::RLIMIT_AS, self.address_space)?;
        if own_users {
            set(libc::RLIMIT_NPROC, self.threads)?;
        }
        Ok(())
    }
}

/// Forbids dumps of this process.
pub(crate) fn forbid_dumps() -> io::Result<()> {
    set(libc::RLIMIT_CORE, NO_DUMP)
}

/// Lowers a limit, soft and hard; one that is lower already stays.
fn set(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a value of our own.
    if unsafe { libc::getrlimit(resource, &raw mut now) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let value = value.min(now.rlim_max);
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: likewise.
    if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
