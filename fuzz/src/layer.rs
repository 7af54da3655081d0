//! Bytes taken for a layer.

use rootfs::{ArchiveFile, LayerBlob, Limits, convert, convert_archive};
use sha2::{Digest, Sha256};

use crate::sealed::sealed;

/// Converts `bytes` as the archive of a layer, as they are and with the checksums of their headers made good; the
/// image of one that converts must pass its check.
///
/// # Panics
///
/// If the image is damaged: that is the failure that is looked for.
pub fn convert_layer(bytes: &[u8]) {
    crate::ignore_broken_pipes();
    convert_as_layer(bytes);
    convert_as_layer(&sealed(bytes));
}

/// The same for a bundle, in which every name is just a name; the first byte says whether it is packed.
///
/// # Panics
///
/// If the image is damaged: that is the failure that is looked for.
pub fn convert_bundle(bytes: &[u8]) {
    crate::ignore_broken_pipes();
    let Some((kind, bytes)) = bytes.split_first() else { return };
    if kind % 2 == 0 {
        return convert_as_bundle(bytes);
    }
    convert_as_bundle(&sealed(bytes));
}

fn limits() -> Limits {
    Limits { max_image_bytes: 16 << 20, max_entries: 10_000, ..Limits::default() }
}

fn convert_as_layer(bytes: &[u8]) {
    let blob = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    std::fs::write(blob.path(), bytes).expect("a temporary file can be written");
    let digest = Sha256::digest(bytes).into();
    let layer = LayerBlob { path: blob.path().to_owned(), digest, diff_id: digest, size: bytes.len() as u64 };
    let image = tempfile::tempfile().expect("a temporary file can be made");
    if convert(&[layer.clone(), layer], &image, &limits(), &mut |_| {}).is_ok() {
        is_sound(&image);
    }
}

fn convert_as_bundle(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    std::fs::write(file.path(), bytes).expect("a temporary file can be written");
    let digest = Sha256::digest(bytes).into();
    let archive = ArchiveFile { path: file.path().to_owned(), digest, size: bytes.len() as u64 };
    let image = tempfile::tempfile().expect("a temporary file can be made");
    if convert_archive(&archive, &image, &limits(), &mut |_| {}).is_ok() {
        is_sound(&image);
    }
}

fn is_sound(image: &std::fs::File) {
    erofs::Reader::open(image).expect("what was written is an image").check().expect("the image is sound");
}
