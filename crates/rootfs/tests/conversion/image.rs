//! Layers in files, converted, or laid out for other tools.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use microagent_rootfs::{ConvertError, LayerBlob, Limits, convert};
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempDir};

use crate::archive::Archive;
use crate::listing::{Listing, of_image};

/// Blobs in a directory, lowest layer first.
pub(crate) struct Layers {
    directory: TempDir,
    pub(crate) blobs: Vec<LayerBlob>,
}

impl Layers {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), blobs: vec![] }
    }

    pub(crate) fn of(archives: impl IntoIterator<Item = Archive>) -> Self {
        archives.into_iter().fold(Self::new(), |layers, archive| layers.gzip(&archive.finish()))
    }

    pub(crate) fn gzip(self, archive: &[u8]) -> Self {
        self.blob(&gzip(archive), archive)
    }

    /// Adds a blob that is said to have this archive in it.
    pub(crate) fn blob(mut self, blob: &[u8], archive: &[u8]) -> Self {
        let path = self.directory.path().join(self.blobs.len().to_string());
        std::fs::write(&path, blob).unwrap();
        let (digest, diff_id) = (Sha256::digest(blob).into(), Sha256::digest(archive).into());
        self.blobs.push(LayerBlob { path, digest, diff_id, size: blob.len() as u64 });
        self
    }

    pub(crate) fn convert(&self) -> Result<NamedTempFile, ConvertError> {
        self.convert_within(&Limits::default())
    }

    pub(crate) fn convert_within(&self, limits: &Limits) -> Result<NamedTempFile, ConvertError> {
        let image = NamedTempFile::new().unwrap();
        convert(&self.blobs, image.as_file(), limits, &mut |_| {}).map(|_| image)
    }

    pub(crate) fn listing(&self) -> Listing {
        of_image(self.convert().unwrap().as_file())
    }

    /// Makes an OCI layout of the layers, tagged `latest`.
    pub(crate) fn write_layout(&self, layout: &Path) {
        let blobs = layout.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        for layer in &self.blobs {
            std::fs::copy(&layer.path, blobs.join(hex(&layer.digest))).unwrap();
        }
        let put = |value: &serde_json::Value| {
            let text = value.to_string();
            let digest = hex(&Sha256::digest(&text));
            std::fs::write(blobs.join(&digest), &text).unwrap();
            (format!("sha256:{digest}"), text.len())
        };
        let oci = |kind: &str| format!("application/vnd.oci.image.{kind}");
        let diff_ids: Vec<_> =
            self.blobs.iter().map(|layer| format!("sha256:{}", hex(&layer.diff_id))).collect();
        let (config, config_size) = put(&serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        }));
        let descriptors: Vec<_> = self.blobs.iter().map(|layer| serde_json::json!({
            "mediaType": oci("layer.v1.tar+gzip"), "digest": format!("sha256:{}", hex(&layer.digest)), "size": layer.size,
        })).collect();
        let (manifest, manifest_size) = put(&serde_json::json!({
            "schemaVersion": 2, "mediaType": oci("manifest.v1+json"), "layers": descriptors,
            "config": { "mediaType": oci("config.v1+json"), "digest": config, "size": config_size },
        }));
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [{
            "mediaType": oci("manifest.v1+json"), "digest": manifest, "size": manifest_size,
            "annotations": { "org.opencontainers.image.ref.name": "latest" },
        }] });
        std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
        std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

pub(crate) fn summary(image: &File) -> erofs::Summary {
    erofs::Reader::open(image).unwrap().check().unwrap()
}
