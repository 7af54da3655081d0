//! Marks on the way of a start, for whoever measures it.
//!
//! With `MICROAGENT_MARKS=FILE` each mark becomes a line `<nanoseconds of CLOCK_MONOTONIC> <name>` at the file's
//! end, from every process that takes part. Without it a mark costs a look at an empty cell.

use std::fs::File;
use std::io::Write;
use std::sync::OnceLock;

use rustix::time::{ClockId, clock_gettime};

static FILE: OnceLock<Option<File>> = OnceLock::new();

/// The environment variable that names the file.
pub const MARKS_VARIABLE: &str = "MICROAGENT_MARKS";

/// Passes the mark `name`.
pub fn mark(name: &str) {
    let open = || {
        let path = std::env::var_os(MARKS_VARIABLE)?;
        File::options().create(true).append(true).open(path).ok()
    };
    if let Some(mut file) = FILE.get_or_init(open).as_ref() {
        // A measurement that lacks a mark says so.
        let _ = file.write_all(format!("{} {name}\n", monotonic_nanoseconds()).as_bytes());
    }
}

/// The time that marks carry; the same clock for all processes of a host.
pub fn monotonic_nanoseconds() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
