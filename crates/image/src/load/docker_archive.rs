//! Images in Docker's own archive format, which `docker save` has written since 1.10.
//!
//! ```text
//! manifest.json     [{"Config": "<path>", "RepoTags": ["name:tag"], "Layers": ["<path>", …]}]
//! <path>            the image's configuration, or a layer as a tar
//! ```
//!
//! There are no manifests in it, so one is made: the same configuration and layers always give the same.

use std::io::Read;

use serde::Deserialize;

use super::{Files, Found, LoadError, LoadOptions, checked_platform};
use crate::manifest::{self, Compression, Descriptor, DocumentError, Manifest, OCI_CONFIG, OCI_MANIFEST};
use crate::store::Ingest;
use crate::{Digest, Reference, Store, StoreError};

const LIST: &str = "manifest.json";

/// One image of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ArchivedImage {
    /// The path of its configuration.
    pub config: String,
    /// Its names, if it has any.
    pub repo_tags: Option<Vec<String>>,
    /// The paths of its layers, lowest first.
    pub layers: Option<Vec<String>>,
}

/// Reads `manifest.json`.
pub fn parse_archived_images(bytes: &[u8]) -> Result<Vec<ArchivedImage>, DocumentError> {
    serde_json::from_slice(bytes).map_err(DocumentError::Damaged)
}

/// Brings every image of the archive into the store.
pub(super) fn images(
    files: &dyn Files,
    store: &Store,
    ingest: &Ingest,
    options: &LoadOptions,
) -> Result<Vec<Found>, LoadError> {
    let bytes = files.document(LIST)?.ok_or(LoadError::NotAnImage)?;
    let images = parse_archived_images(&bytes).map_err(|source| in_file(LIST, source))?;
    let found = images.iter().map(|image| self::image(image, files, store, ingest, options));
    found.collect()
}

fn image(
    image: &ArchivedImage,
    files: &dyn Files,
    store: &Store,
    ingest: &Ingest,
    options: &LoadOptions,
) -> Result<Found, LoadError> {
    let missing = || LoadError::Missing { path: image.config.clone() };
    let bytes = files.document(&image.config)?.ok_or_else(missing)?;
    let config = manifest::parse_config(&bytes).map_err(|source| in_file(&image.config, source))?;
    let platform = checked_platform(&config, &options.platform)?;
    let paths = image.layers.as_deref().unwrap_or_default();
    let diff_ids =
        manifest::diff_ids(&config, paths.len()).map_err(|source| in_file(&image.config, source))?;
    let layers = paths.iter().zip(diff_ids).map(|(path, diff_id)| layer(path, diff_id, files, store));
    let made = Manifest {
        media_type: OCI_MANIFEST.to_owned(),
        config: Descriptor::new(OCI_CONFIG, ingest.put(&bytes)?, bytes.len() as u64),
        layers: layers.collect::<Result<_, _>>()?,
    };
    let made = made.to_bytes();
    let plain = Descriptor::new(OCI_MANIFEST, ingest.put(&made)?, made.len() as u64);
    Ok(Found { manifest: Descriptor { platform: Some(platform), ..plain }, names: names(image)? })
}

fn names(image: &ArchivedImage) -> Result<Vec<Reference>, LoadError> {
    let tags = image.repo_tags.as_deref().unwrap_or_default();
    Ok(tags.iter().map(|tag| tag.parse()).collect::<Result<_, _>>()?)
}

/// A layer that is not compressed is verified here; others are when they are unpacked.
fn layer(path: &str, diff_id: Digest, files: &dyn Files, store: &Store) -> Result<Descriptor, LoadError> {
    let found = files.blob(path)?;
    let (digest, size) = found.ok_or_else(|| LoadError::Missing { path: path.to_owned() })?;
    let compression = compression_of(store, &digest)?;
    if compression == Compression::None && digest != diff_id {
        return Err(LoadError::WrongContent { path: path.to_owned(), expected: diff_id });
    }
    Ok(Descriptor::new(compression.media_type(), digest, size))
}

fn compression_of(store: &Store, digest: &Digest) -> Result<Compression, StoreError> {
    let path = store.blob_path(digest);
    let mut first = Vec::new();
    let read = std::fs::File::open(&path).and_then(|file| file.take(4).read_to_end(&mut first));
    read.map_err(|source| StoreError::Access { path, source })?;
    Ok(Compression::of_magic(&first))
}

fn in_file(path: &str, source: DocumentError) -> LoadError {
    LoadError::Document { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_layers_may_be_left_out() {
        let text = br#"[{"Config":"c.json","RepoTags":null,"Layers":null},{"Config":"d","Layers":["l"]}]"#;
        let images = parse_archived_images(text).unwrap();
        assert_eq!(images[0].repo_tags, None);
        assert_eq!(images[1].layers.as_deref(), Some(&["l".to_owned()][..]));
        assert!(parse_archived_images(b"{}").is_err());
    }
}
