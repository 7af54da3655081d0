//! Bytes taken for a layer.

use rootfs::{LayerBlob, Limits, convert};
use sha2::{Digest, Sha256};

/// Converts `bytes` as the archive of a layer; the image of one that converts must pass its check.
///
/// # Panics
///
/// If the image is damaged: that is the failure that is looked for.
pub fn convert_layer(bytes: &[u8]) {
    let blob = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    std::fs::write(blob.path(), bytes).expect("a temporary file can be written");
    let digest = Sha256::digest(bytes).into();
    let layer = LayerBlob { path: blob.path().to_owned(), digest, diff_id: digest, size: bytes.len() as u64 };
    let limits = Limits { max_image_bytes: 16 << 20, max_entries: 10_000, ..Limits::default() };
    let image = tempfile::tempfile().expect("a temporary file can be made");
    if convert(&[layer.clone(), layer], &image, &limits, &mut |_| {}).is_ok() {
        erofs::Reader::open(&image)
            .expect("what was written is an image")
            .check()
            .expect("the image is sound");
    }
}
