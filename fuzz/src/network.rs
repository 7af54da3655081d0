//! Bytes taken for what a guest sends over its cable.

/// Takes the frames in `bytes` apart, each after its length.
pub fn take_frames(bytes: &[u8]) {
    network::inspect(bytes);
}
