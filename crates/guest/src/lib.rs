//! The guest's first process, built for the guest and carried inside the host's binary.

/// The static executable of `guest/init`.
pub static INIT: &[u8] = include_bytes!(env!("MICROAGENT_INIT"));

/// The SHA-256 of [`INIT`] in hexadecimal, computed when it was built.
pub const INIT_DIGEST: &str = env!("MICROAGENT_INIT_DIGEST");

#[cfg(test)]
mod tests {
    #[test]
    fn init_is_an_executable_that_needs_no_loader() {
        assert_eq!(&super::INIT[..4], b"\x7fELF");
        // e_type at offset 16: ET_EXEC, so nothing is relocated before it runs; elf(5).
        assert_eq!(super::INIT[16..18], [2, 0]);
    }
}
