//! What a process takes away from itself.
#![allow(unsafe_code, reason = "prctl(2)")]

use std::io;
use std::os::fd::AsRawFd;

use crate::Files;
use crate::files::Beside;
pub use crate::launch::no_new_privileges;
use crate::launch::restrict_self;
use crate::limits::forbid_dumps;

/// Nobody but root may look into this process, no dump of it is kept, and no program that it starts gains rights.
pub fn harden() -> io::Result<()> {
    forbid_dumps()?;
    // SAFETY: the call takes numbers.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    no_new_privileges()
}

/// Lets this thread, and those and the processes that it will start, open `files` and nothing else; and send signals
/// to nobody but them. `no_new_privs` must be set.
pub fn restrict_files(files: &Files) -> io::Result<()> {
    restrict_self(files.rule_set(Beside::AllButNetwork, false)?.as_raw_fd())
}
