//! The JSON documents of an image, parsed from bytes that nobody vouches for.
//!
//! ```text
//! index ──platform──▶ manifest ──▶ config        application/vnd.oci.image.*   or
//!                        └───────▶ layers        application/vnd.docker.distribution.*, schema 2
//! ```
//!
//! Both families of media types mean the same and are told apart only where something is written. A document
//! that could be read as manifest and as index is refused, as is every media type not named here. Nothing here
//! reads files; sizes are bounded by [`MAX_DOCUMENT`] before these functions are called.

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use crate::{Digest, Platform};

/// The largest manifest, index or configuration that is read, in bytes.
pub const MAX_DOCUMENT: u64 = 8 << 20;

/// The most layers of an image; container engines stop at some 130.
pub const MAX_LAYERS: usize = 1000;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Why a document does not describe an image that can be run.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is not JSON of the needed form.
    #[error("the document is damaged")]
    Damaged(#[source] serde_json::Error),
    /// It has the marks of a manifest and of an index at once, or of neither.
    #[error("the document is neither clearly a manifest nor clearly an index")]
    Ambiguous,
    /// It is in Docker's first manifest format, which registries gave up years ago.
    #[error("the image is in Docker's schema 1, which is not supported")]
    SchemaOne,
    /// Indexes lead to indexes, and not to a manifest.
    #[error("indexes lead to indexes again and again")]
    Indexes,
    /// There are more platforms than any honest image has.
    #[error("the index names more platforms than are supported")]
    Platforms,
    /// There are more layers than any honest image has.
    #[error("the image has {0} layers, and {MAX_LAYERS} are the most that are supported")]
    Layers(usize),
    /// It is of a kind that is not an image's.
    #[error("media type `{0}` is not supported")]
    MediaType(String),
    /// A layer is to be fetched from elsewhere, under terms of its own.
    #[error("layer `{0}` is a foreign layer, which is not in the image")]
    Foreign(Digest),
    /// The configuration does not fit the manifest.
    #[error("the configuration names {diff_ids} layers, and the manifest {layers}")]
    LayerCount {
        /// How many layers the configuration's `rootfs` names.
        diff_ids: usize,
        /// How many the manifest names.
        layers: usize,
    },
    /// A layer's digest in the configuration cannot be read.
    #[error("the configuration names a layer that it does not identify")]
    DiffId(#[from] crate::InvalidDigest),
}

/// How a layer's tar is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// As one or more gzip members.
    Gzip,
    /// As one or more Zstandard frames.
    Zstd,
}

/// A blob, as other documents refer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The platform it is for, if it is a manifest in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What else is said of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// What one image consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Which family it is of.
    pub media_type: String,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// A manifest, or an index of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// The same image for several platforms.
    Index(Vec<Descriptor>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    schema_version: u32,
    media_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'a Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<&'a [Descriptor]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifests: Option<&'a [Descriptor]>,
}

impl Descriptor {
    /// A blob of which nothing else is to be said.
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.to_owned(), digest, size, platform: None, annotations: BTreeMap::new() }
    }

    /// Whether it is for Linux, as far as it says. Attestations are for `unknown`.
    pub(crate) fn is_for_linux(&self) -> bool {
        self.platform.as_ref().is_none_or(|platform| platform.os == "linux")
    }
}

impl Document {
    /// Reads a manifest or an index of either family.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|error| unreadable(bytes, error))?;
        if raw.schema_version == 1 {
            return Err(DocumentError::SchemaOne);
        }
        match (raw.media_type.as_deref(), raw.config, raw.layers, raw.manifests) {
            (kind @ (None | Some(OCI_MANIFEST | DOCKER_MANIFEST)), Some(config), Some(layers), None) => {
                let media_type = kind.unwrap_or(OCI_MANIFEST).to_owned();
                Ok(Self::Manifest(Manifest { media_type, config, layers }))
            }
            (None | Some(OCI_INDEX | DOCKER_LIST), None, None, Some(manifests)) => Ok(Self::Index(manifests)),
            (None | Some(OCI_MANIFEST | DOCKER_MANIFEST | OCI_INDEX | DOCKER_LIST), ..) => {
                Err(DocumentError::Ambiguous)
            }
            (Some(other), ..) => Err(DocumentError::MediaType(other.to_owned())),
        }
    }
}

impl DocumentError {
    /// What the user can do about it, if anything is known to help.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::SchemaOne => Some("push the image again with a tool of this decade".to_owned()),
            Self::Foreign(_) => Some(
                "such layers are of Windows images, or under terms of their own; they come from elsewhere, and are \
                 not fetched"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// A schema 1 manifest has members of other types, which say less than its version does.
fn unreadable(bytes: &[u8], error: serde_json::Error) -> DocumentError {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        schema_version: u32,
    }
    match serde_json::from_slice(bytes) {
        Ok(Version { schema_version: 1 }) => DocumentError::SchemaOne,
        _ => DocumentError::Damaged(error),
    }
}

/// Some writers put `null` where nothing is to be said.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Manifest {
    /// Checks that every part is of a kind that can be run.
    pub fn check(&self) -> Result<(), DocumentError> {
        if ![OCI_CONFIG, DOCKER_CONFIG].contains(&self.config.media_type.as_str()) {
            return Err(DocumentError::MediaType(self.config.media_type.clone()));
        }
        if self.layers.len() > MAX_LAYERS {
            return Err(DocumentError::Layers(self.layers.len()));
        }
        self.layers.iter().try_for_each(|layer| compression(layer).map(drop))
    }

    /// The manifest in JSON; the same parts give the same bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        written(&Written {
            schema_version: 2,
            media_type: &self.media_type,
            config: Some(&self.config),
            layers: Some(&self.layers),
            manifests: None,
        })
    }
}

/// An index of the same image for several platforms, with its media type: Docker's, if all manifests are Docker's. The same
/// manifests give the same bytes.
pub(crate) fn index_of(mut manifests: Vec<Descriptor>) -> (&'static str, Vec<u8>) {
    manifests.sort_by(|one, other| (&one.platform, one.digest).cmp(&(&other.platform, other.digest)));
    let is_docker = manifests.iter().all(|manifest| manifest.media_type == DOCKER_MANIFEST);
    let media_type = if is_docker { DOCKER_LIST } else { OCI_INDEX };
    (media_type, index_bytes(media_type, &manifests))
}

/// An index in OCI's form.
pub(crate) fn index_to_bytes(manifests: &[Descriptor]) -> Vec<u8> {
    index_bytes(OCI_INDEX, manifests)
}

fn index_bytes(media_type: &str, manifests: &[Descriptor]) -> Vec<u8> {
    written(&Written {
        schema_version: 2,
        media_type,
        config: None,
        layers: None,
        manifests: Some(manifests),
    })
}

fn written(document: &Written<'_>) -> Vec<u8> {
    serde_json::to_vec(document).expect("documents are plain data")
}

/// How the layer behind `descriptor` is packed, which its media type says.
pub(crate) fn compression(descriptor: &Descriptor) -> Result<Compression, DocumentError> {
    match descriptor.media_type.as_str() {
        "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => {
            Ok(Compression::None)
        }
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Ok(Compression::Gzip),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(Compression::Zstd),
        foreign if foreign.contains(".nondistributable.") || foreign.contains(".foreign.") => {
            Err(DocumentError::Foreign(descriptor.digest))
        }
        other => Err(DocumentError::MediaType(other.to_owned())),
    }
}

impl Compression {
    /// OCI's media type of a layer that is packed so.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// What the first bytes of a stream say; anything unknown counts as not compressed.
    pub(crate) fn of_magic(first: &[u8]) -> Self {
        match first {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// Reads an image's configuration.
pub fn parse_config(bytes: &[u8]) -> Result<ImageConfiguration, DocumentError> {
    serde_json::from_slice(bytes).map_err(DocumentError::Damaged)
}

/// The digests of the uncompressed layers, of which there must be `layers`.
pub fn diff_ids(config: &ImageConfiguration, layers: usize) -> Result<Vec<Digest>, DocumentError> {
    let texts = config.rootfs().diff_ids();
    if texts.len() != layers {
        return Err(DocumentError::LayerCount { diff_ids: texts.len(), layers });
    }
    Ok(texts.iter().map(|text| text.parse()).collect::<Result<_, _>>()?)
}

/// The platform that a configuration says its image is for.
pub(crate) fn platform_of(config: &ImageConfiguration) -> Platform {
    Platform {
        os: config.os().to_string(),
        architecture: config.architecture().to_string(),
        variant: config.variant().clone(),
    }
}

/// The entry for `platform`, else the last that does not say what it is for.
pub(crate) fn choose<'a>(entries: &[&'a Descriptor], platform: &Platform) -> Option<&'a Descriptor> {
    let fits = |entry: &&&Descriptor| entry.platform.as_ref().is_some_and(|found| found.matches(platform));
    let chosen = entries.iter().find(fits).or_else(|| entries.iter().rfind(|entry| entry.platform.is_none()));
    chosen.copied()
}

/// What the entries are for, leaving out attestations, which are for `unknown/unknown`.
pub(crate) fn platforms(entries: &[&Descriptor]) -> Vec<Platform> {
    let known = |platform: &Platform| platform.os != "unknown";
    entries.iter().filter_map(|entry| entry.platform.clone()).filter(known).collect()
}

/// Platforms, for a message.
pub(crate) fn listed(platforms: &[Platform]) -> String {
    let quoted: Vec<String> = platforms.iter().map(|platform| format!("`{platform}`")).collect();
    if quoted.is_empty() { "unnamed platforms".to_owned() } else { quoted.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn descriptor(media_type: &str, content: &[u8]) -> Descriptor {
        Descriptor::new(media_type, Digest::of(content), content.len() as u64)
    }

    fn manifest() -> Manifest {
        let layer = descriptor(Compression::Gzip.media_type(), b"layer");
        let config = descriptor(OCI_CONFIG, b"config");
        Manifest { media_type: OCI_MANIFEST.into(), config, layers: vec![layer] }
    }

    #[test]
    fn a_manifest_and_an_index_are_read_as_they_are_written() {
        let manifest = manifest();
        assert_eq!(Document::parse(&manifest.to_bytes()).unwrap(), Document::Manifest(manifest.clone()));
        let index = vec![Descriptor { platform: Some(Platform::of_host()), ..manifest.config }];
        assert_eq!(Document::parse(&index_to_bytes(&index)).unwrap(), Document::Index(index));
    }

    #[test]
    fn a_document_that_could_be_both_is_refused() {
        let both = br#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
        assert!(matches!(Document::parse(both), Err(DocumentError::Ambiguous)));
        let neither = br#"{"schemaVersion":2}"#;
        assert!(matches!(Document::parse(neither), Err(DocumentError::Ambiguous)));
        let disguised = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","manifests":[]}}"#);
        assert!(matches!(Document::parse(disguised.as_bytes()), Err(DocumentError::Ambiguous)));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let one = br#"{"schemaVersion":1,"fsLayers":[],"config":7}"#;
        assert!(matches!(Document::parse(one), Err(DocumentError::SchemaOne)));
        let other = br#"{"schemaVersion":2,"mediaType":"text/x"}"#;
        assert!(matches!(Document::parse(other), Err(DocumentError::MediaType(name)) if name == "text/x"));
        let mut chart = manifest();
        chart.config.media_type = "application/vnd.cncf.helm.config.v1+json".into();
        assert!(matches!(chart.check(), Err(DocumentError::MediaType(_))));
        for foreign in [
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        ] {
            let mut manifest = manifest();
            manifest.layers[0].media_type = foreign.into();
            assert!(matches!(manifest.check(), Err(DocumentError::Foreign(_))), "{foreign}");
        }
    }

    #[test]
    fn a_configuration_must_name_as_many_layers_as_the_manifest() {
        let text = br#"{"os":"linux","architecture":"amd64","config":{"Volumes":null,"ExposedPorts":null},
            "rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config = parse_config(text).unwrap();
        assert!(diff_ids(&config, 0).unwrap().is_empty());
        assert!(matches!(diff_ids(&config, 1), Err(DocumentError::LayerCount { diff_ids: 0, layers: 1 })));
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_stack_overflow() {
        let deep = "[".repeat(1_000_000);
        assert!(matches!(Document::parse(deep.as_bytes()), Err(DocumentError::Damaged(_))));
        assert!(matches!(parse_config(deep.as_bytes()), Err(DocumentError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn damaged_documents_are_errors(at in 0_usize..200, byte: u8) {
            let mut bytes = manifest().to_bytes();
            bytes[at] = byte;
            let _ = Document::parse(&bytes).map(|document| match document {
                Document::Manifest(manifest) => manifest.check().is_ok(),
                Document::Index(_) => false,
            });
            let _ = parse_config(&bytes);
        }
    }
}
