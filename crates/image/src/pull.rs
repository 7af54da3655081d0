//! From a registry into the store.
//!
//! ```text
//! reference ─▶ index or manifest ─▶ manifest for the platform ─▶ configuration ─▶ layers, three at a time ─▶ name
//! ```
//!
//! What the store has already is not fetched again, so a pull that was broken off goes on where whole blobs end.
//! The name is given last: an image that cannot be pulled in full changes nothing that can be seen.

mod login;
mod registry;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use oci_spec::image::ImageConfiguration;

use crate::manifest::{self, Descriptor, Document, DocumentError, MAX_DOCUMENT, Manifest};
use crate::store::Ingest;
use crate::{Digest, Image, Platform, Reference, Store, StoreError};
use registry::Registry;

pub use login::LoginError;

/// How to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// The directory of Docker's `config.json`, which has the logins. Without one, pulls are anonymous.
    pub docker_config: Option<PathBuf>,
}

/// Who is told how far a pull is.
pub trait PullProgress: Sync {
    /// `so_far` of the `total` bytes of `layer` are in the store. Said once of every layer when the image is
    /// known, lowest first, and then whenever bytes arrive.
    fn layer(&self, layer: &Digest, so_far: u64, total: u64);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

/// Why an image could not be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry has no such repository, tag or digest, or does not let on.
    #[error("image `{reference}` was not found in registry `{}`", reference.registry())]
    NotFound {
        /// What was asked for.
        reference: Box<Reference>,
    },
    /// The registry wants a login, or another one.
    #[error("registry `{}` denied access to `{reference}`", reference.registry())]
    Unauthorized {
        /// What was asked for.
        reference: Box<Reference>,
        /// Whether a login was tried.
        login: bool,
        /// Why no login could be tried, if one is configured.
        source: Option<LoginError>,
    },
    /// The registry cannot be talked to.
    #[error("failed to reach registry `{registry}`")]
    Unreachable {
        /// The registry.
        registry: String,
        /// What failed.
        source: reqwest::Error,
    },
    /// The registry answered with an error.
    #[error("registry `{registry}` answered with status {status}{}", colon(message))]
    Answer {
        /// The registry.
        registry: String,
        /// The HTTP status.
        status: u16,
        /// What the registry said, if it said something.
        message: String,
    },
    /// The registry sent other bytes than were asked for. They were not kept.
    #[error("registry `{registry}` sent wrong content for `{expected}`")]
    WrongContent {
        /// The registry.
        registry: String,
        /// The digest of what was asked for.
        expected: Digest,
    },
    /// The registry sent, or announced, more than an honest one would.
    #[error("registry `{registry}` sent more than {limit} bytes for {what}")]
    TooLarge {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// How much was acceptable.
        limit: u64,
    },
    /// The image exists for other platforms only.
    #[error("image `{reference}` is not available for `{wanted}`, only for {}", manifest::listed(available))]
    Platform {
        /// What was asked for.
        reference: Box<Reference>,
        /// For which platform.
        wanted: Platform,
        /// What there is.
        available: Vec<Platform>,
    },
    /// What the reference names is not an image that can be run.
    #[error("`{reference}` is not an image that can be run")]
    Unsupported {
        /// What was asked for.
        reference: Box<Reference>,
        /// Why not.
        source: DocumentError,
    },
    /// The image could not be stored.
    #[error("failed to store image `{reference}`")]
    Store {
        /// What was pulled.
        reference: Box<Reference>,
        /// What failed.
        source: StoreError,
    },
}

impl Default for PullOptions {
    /// As Docker does: `$DOCKER_CONFIG`, else `~/.docker`.
    fn default() -> Self {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
        Self { docker_config: std::env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(home) }
    }
}

impl PullProgress for Silent {
    fn layer(&self, _: &Digest, _: u64, _: u64) {}
}

/// Pulls the image `reference` for `platform` into `store`.
pub async fn pull(
    store: &Store,
    reference: &Reference,
    platform: &Platform,
    options: &PullOptions,
    progress: &dyn PullProgress,
) -> Result<Image, PullError> {
    let registry = Registry::new(reference, options)?;
    let (bytes, manifest) = resolve(&registry, platform).await?;
    let ingest = blocking({
        let store = store.clone();
        move || store.add()
    });
    let pull =
        Pull { reference, store, registry, ingest: ingest.await.map_err(storing(reference))?, progress };
    let config = pull.config(&manifest, platform).await?;
    pull.layers(&manifest).await?;
    pull.name(&bytes, &manifest, &config)
}

/// The manifest for `platform`, as sent and as read.
async fn resolve(registry: &Registry<'_>, platform: &Platform) -> Result<(Vec<u8>, Manifest), PullError> {
    let reference = registry.reference;
    let unsupported = |source| PullError::Unsupported { reference: Box::new(reference.clone()), source };
    let mut bytes = match reference.digest() {
        Some(digest) => registry.manifest_by_digest(&digest, MAX_DOCUMENT).await?,
        None => registry.manifest_by_tag(reference.tag().unwrap_or("latest")).await?,
    };
    let mut document = Document::parse(&bytes).map_err(unsupported)?;
    if let Document::Index(manifests) = &document {
        let manifests: Vec<&Descriptor> = manifests.iter().collect();
        let chosen = manifest::choose(&manifests, platform).ok_or_else(|| PullError::Platform {
            reference: Box::new(reference.clone()),
            wanted: platform.clone(),
            available: manifest::platforms(&manifests),
        })?;
        bytes = registry.manifest_by_digest(&chosen.digest, chosen.size).await?;
        document = Document::parse(&bytes).map_err(unsupported)?;
    }
    let Document::Manifest(manifest) = document else { return Err(unsupported(DocumentError::Ambiguous)) };
    manifest.check().map_err(unsupported)?;
    Ok((bytes, manifest))
}

/// A pull whose manifest is known.
struct Pull<'a> {
    reference: &'a Reference,
    store: &'a Store,
    registry: Registry<'a>,
    ingest: Ingest,
    progress: &'a dyn PullProgress,
}

impl Pull<'_> {
    /// The configuration, which must fit the manifest and the platform.
    async fn config(
        &self,
        manifest: &Manifest,
        platform: &Platform,
    ) -> Result<ImageConfiguration, PullError> {
        let config = &manifest.config;
        if config.size > MAX_DOCUMENT {
            return Err(self.registry.too_large("a configuration", MAX_DOCUMENT));
        }
        self.store.check(&config.digest).map_err(storing(self.reference))?;
        self.blob(config, &|_| ()).await?;
        let bytes = self.store.read_document(&config.digest).map_err(storing(self.reference))?;
        let unsupported =
            |source| PullError::Unsupported { reference: Box::new(self.reference.clone()), source };
        let config = manifest::parse_config(&bytes).map_err(unsupported)?;
        manifest::diff_ids(&config, manifest.layers.len()).map_err(unsupported)?;
        let found = manifest::platform_of(&config);
        if found.matches(platform) {
            return Ok(config);
        }
        Err(PullError::Platform {
            reference: Box::new(self.reference.clone()),
            wanted: platform.clone(),
            available: vec![found],
        })
    }

    async fn layers(&self, manifest: &Manifest) -> Result<(), PullError> {
        let mut distinct: Vec<&Descriptor> = Vec::new();
        for layer in &manifest.layers {
            if !distinct.iter().any(|known| known.digest == layer.digest) {
                distinct.push(layer);
            }
        }
        for layer in &distinct {
            let so_far = if self.store.has(&layer.digest, layer.size) { layer.size } else { 0 };
            self.progress.layer(&layer.digest, so_far, layer.size);
        }
        let queue = Mutex::new(distinct.into_iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let worker = || async {
            while let Some(layer) = next() {
                self.blob(layer, &|so_far| self.progress.layer(&layer.digest, so_far, layer.size)).await?;
            }
            Ok(())
        };
        tokio::try_join!(worker(), worker(), worker()).map(drop)
    }

    /// Fetches a blob that the store does not have.
    async fn blob(&self, blob: &Descriptor, so_far: &(dyn Fn(u64) + Sync)) -> Result<(), PullError> {
        if self.store.has(&blob.digest, blob.size) {
            return Ok(());
        }
        let mut writer = self.ingest.writer().map_err(storing(self.reference))?;
        self.registry.blob(blob, &mut writer, so_far).await?;
        if writer.digest() != blob.digest {
            return Err(self.registry.wrong_content(&blob.digest));
        }
        blocking(move || writer.finish()).await.map(drop).map_err(storing(self.reference))
    }

    fn name(
        &self,
        bytes: &[u8],
        manifest: &Manifest,
        config: &ImageConfiguration,
    ) -> Result<Image, PullError> {
        let named = self.ingest.put(bytes).and_then(|digest| {
            let descriptor = Descriptor {
                platform: Some(manifest::platform_of(config)),
                ..Descriptor::new(&manifest.media_type, digest, bytes.len() as u64)
            };
            self.ingest.name(&descriptor, std::slice::from_ref(self.reference))?;
            self.store.read(&digest)
        });
        let image = named.map_err(storing(self.reference))?;
        Ok(Image { reference: Some(self.reference.clone()), ..image })
    }
}

/// Runs what may wait for locks or disks outside the threads that serve the network.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("the work does not panic and is not cancelled")
}

fn storing(reference: &Reference) -> impl FnOnce(StoreError) -> PullError + use<> {
    let reference = Box::new(reference.clone());
    move |source| PullError::Store { reference, source }
}

fn colon(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl PullError {
    /// What the user can do about it, if anything is known to help.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { reference } if reference.tag() == Some("latest") => {
                Some("check the name; the repository may have no tag `latest`".to_owned())
            }
            Self::NotFound { .. } => Some("check the name and the tag".to_owned()),
            Self::Unauthorized { reference, login: true, .. } => Some(format!(
                "check the name; the login for `{}` may be wrong or lack access",
                reference.registry()
            )),
            Self::Unauthorized { reference, source: None, .. } => Some(format!(
                "check the name; if the image is private, log in first: docker login {}",
                reference.registry()
            )),
            Self::Unauthorized { .. } => {
                Some("the configured login could not be read; log in again".to_owned())
            }
            Self::Unreachable { .. } => {
                Some("check the registry's name and the network; pulled images work offline".to_owned())
            }
            Self::Answer { status: 429, .. } => {
                Some("the registry limits how often it is asked; wait, or log in".to_owned())
            }
            Self::Platform { available, .. } => {
                available.first().map(|platform| format!("ask for another platform, such as `{platform}`"))
            }
            Self::Store { source, .. } => source.hint(),
            Self::Answer { .. }
            | Self::WrongContent { .. }
            | Self::TooLarge { .. }
            | Self::Unsupported { .. } => None,
        }
    }
}
