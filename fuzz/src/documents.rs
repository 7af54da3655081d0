//! Bytes taken for the JSON documents of images.

use image::{Document, Manifest, diff_ids, parse_archived_images, parse_config};

/// Reads `bytes` as a manifest, an index, an image's configuration and the list in an archive of Docker's.
pub fn read_documents(bytes: &[u8]) {
    if let Ok(document) = Document::parse(bytes) {
        match &document {
            Document::Manifest(manifest) => drop(Manifest::check(manifest)),
            Document::Index(_) => {}
        }
    }
    if let Ok(config) = parse_config(bytes) {
        for layers in [0, 1, 2] {
            let _ = diff_ids(&config, layers);
        }
        let again = serde_json::to_vec(&config).expect("what was read can be written");
        parse_config(&again).expect("what was written can be read");
    }
    let _ = parse_archived_images(bytes);
    image::inspect(bytes);
}
