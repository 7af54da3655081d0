//! Images made here: one layer and a configuration, as an OCI image layout in a directory.
//!
//! ```text
//! <directory>/
//! ├── oci-layout
//! ├── index.json            one manifest, tagged `latest`
//! └── blobs/sha256/<hex>    layer, configuration, manifest
//! ```

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An image layout on disk.
#[derive(Debug)]
pub struct Layout {
    directory: PathBuf,
}

impl Layout {
    /// Writes an image whose one layer is the tar `layer` and whose run configuration is `config`.
    pub fn write(directory: &Path, layer: &[u8], config: &Value) -> Self {
        let layout = Self { directory: directory.to_owned() };
        fs_err::create_dir_all(directory.join("blobs/sha256")).expect("the directory can be made");
        let layer = layout.blob("application/vnd.oci.image.layer.v1.tar", layer);
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": config,
            "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        });
        let config = layout.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer] });
        let mut manifest = layout.blob(kind, manifest.to_string().as_bytes());
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
        layout.file("index.json", &json!({ "schemaVersion": 2, "manifests": [manifest] }));
        layout.file("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }));
        layout
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The image as skopeo names it.
    pub fn for_skopeo(&self) -> String {
        format!("oci:{}:latest", self.directory.display())
    }

    /// Writes a blob and returns its descriptor.
    fn blob(&self, media_type: &str, content: &[u8]) -> Value {
        let hex =
            Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        fs_err::write(self.directory.join("blobs/sha256").join(&hex), content)
            .expect("a blob can be written");
        json!({ "mediaType": media_type, "digest": format!("sha256:{hex}"), "size": content.len() })
    }

    fn file(&self, name: &str, content: &Value) {
        fs_err::write(self.directory.join(name), content.to_string()).expect("a file can be written");
    }
}
