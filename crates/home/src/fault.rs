//! Named points at which a test may end a process, to see what a crash there leaves.
//!
//! Only builds with debug assertions have them. `MICROAGENT_FAULT=point` aborts at that point,
//! `MICROAGENT_FAULT=point:3` at the third time it is reached; `MICROAGENT_FAULT_TRACE=FILE` notes every point
//! that is passed, one a line, so that a test can find out which there are.

/// Passes the point `name`, or does not.
#[inline]
pub fn fault_point(name: &str) {
    #[cfg(debug_assertions)]
    armed::pass(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::fs::File;
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static PASSED: AtomicU32 = AtomicU32::new(0);
    /// Opened at the first point, since a process may confine itself afterwards.
    static TRACE: OnceLock<Option<File>> = OnceLock::new();

    pub(super) fn pass(name: &str) {
        let open = || {
            let path = std::env::var_os("MICROAGENT_FAULT_TRACE")?;
            File::options().create(true).append(true).open(path).ok()
        };
        if let Some(mut file) = TRACE.get_or_init(open).as_ref() {
            // A trace that cannot be written makes the test fail that wants it.
            let _ = file.write_all(format!("{name}\n").as_bytes());
        }
        let Ok(fault) = std::env::var("MICROAGENT_FAULT") else { return };
        let (point, time) = fault.split_once(':').unwrap_or((&fault, "1"));
        if point == name && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == time.parse().unwrap_or(1) {
            std::process::abort();
        }
    }
}
