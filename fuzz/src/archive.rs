//! Bytes taken for an archive of images, of Docker's or OCI's kind.

use image::{LoadOptions, Platform, Store, load};

use crate::sealed::sealed;

/// Loads what `bytes` hold, with the checksums of their headers made good; the first byte says whether they are
/// taken as they are.
///
/// # Panics
///
/// If an image that was loaded is not whole: that is the failure that is looked for.
pub fn load_archive(bytes: &[u8]) {
    crate::ignore_broken_pipes();
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let archive = if kind % 4 == 0 { bytes.to_vec() } else { sealed(bytes) };
    let directory = tempfile::tempdir().expect("a directory can be made");
    let store = Store::open(directory.path()).expect("a store can be made");
    let options = LoadOptions { platform: Platform::of_host(), name: None, archive_size: 64 << 20 };
    for loaded in load(&store, std::io::Cursor::new(archive), &options).unwrap_or_default() {
        assert!(
            store.check(&loaded.manifest_digest).expect("the store can be read"),
            "a manifest is not whole"
        );
    }
}
