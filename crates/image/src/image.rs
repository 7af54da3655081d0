//! An image of the store, with all that is needed to run it.

use std::path::PathBuf;

use oci_spec::image::ImageConfiguration;

use crate::manifest::{self, Compression, Descriptor, Document, DocumentError};
use crate::{Digest, Platform, Reference, Store, StoreError};

/// An image in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// The name by which it was found, if by a name.
    pub reference: Option<Reference>,
    /// What identifies it.
    pub manifest_digest: Digest,
    /// What Docker shows as the image's ID.
    pub config_digest: Digest,
    /// How it wants to be run.
    pub config: ImageConfiguration,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
}

/// A layer in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Of the blob as it is stored.
    pub digest: Digest,
    /// Of the tar inside, as the configuration claims; verified by whoever unpacks it.
    pub diff_id: Digest,
    /// Of the blob, in bytes.
    pub size: u64,
    /// How the tar is packed.
    pub compression: Compression,
    /// The blob's file.
    pub path: PathBuf,
}

impl Image {
    /// The platform it is for.
    pub fn platform(&self) -> Platform {
        manifest::platform_of(&self.config)
    }

    /// The size of its layers as stored, in bytes.
    pub fn size(&self) -> u64 {
        self.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.size))
    }
}

impl Store {
    /// The image of this name for `platform`, if it is in the store.
    pub fn find(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>, StoreError> {
        let Some(entry) = self.entry(reference, platform)? else { return Ok(None) };
        let image = self.read(&entry.digest)?;
        Ok(Some(Image { reference: Some(reference.clone()), ..image }))
    }

    /// The image with this manifest.
    pub fn read(&self, manifest_digest: &Digest) -> Result<Image, StoreError> {
        let damaged = |source| StoreError::Document { digest: *manifest_digest, source };
        let document = Document::parse(&self.read_document(manifest_digest)?).map_err(damaged)?;
        let Document::Manifest(manifest) = document else { return Err(damaged(DocumentError::Ambiguous)) };
        let config = manifest::parse_config(&self.read_document(&manifest.config.digest)?)
            .map_err(|source| StoreError::Document { digest: manifest.config.digest, source })?;
        let diff_ids = manifest::diff_ids(&config, manifest.layers.len()).map_err(damaged)?;
        let layers = manifest.layers.iter().zip(diff_ids);
        Ok(Image {
            reference: None,
            manifest_digest: *manifest_digest,
            config_digest: manifest.config.digest,
            layers: layers
                .map(|(layer, diff_id)| self.layer(layer, diff_id, manifest_digest))
                .collect::<Result<_, _>>()?,
            config,
        })
    }

    fn layer(&self, layer: &Descriptor, diff_id: Digest, manifest: &Digest) -> Result<Layer, StoreError> {
        if !self.has(&layer.digest, layer.size) {
            return Err(StoreError::Missing { digest: layer.digest });
        }
        Ok(Layer {
            digest: layer.digest,
            diff_id,
            size: layer.size,
            compression: manifest::compression(layer)
                .map_err(|source| StoreError::Document { digest: *manifest, source })?,
            path: self.blob_path(&layer.digest),
        })
    }
}
