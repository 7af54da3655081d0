//! Bytes taken for what QEMU says over its control channel, and for what processes of ours tell each other.

/// Listens to `bytes` as to QEMU.
///
/// # Panics
///
/// If it makes somebody wait for more.
pub fn hear_monitor(bytes: &[u8]) {
    crate::wait(engine::inspect(bytes));
}

/// Reads `bytes` as a line between our processes.
pub fn read_line(bytes: &[u8]) {
    workspace::inspect(bytes);
}
