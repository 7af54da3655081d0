//! From a registry into the store.
//!
//! ```text
//! reference ─▶ index or manifest ─▶ manifest for the platform ─▶ configuration ─▶ layers, three at a time ─▶ name
//!                                            ▲
//!                                            └── the place for a policy on signatures; see docs/design/images.md
//! ```
//!
//! What the store has already is not fetched again, so a pull that was broken off goes on where whole blobs end; what
//! another pull is fetching right now is waited for. Mirrors are asked before the registry, and each request that one of
//! them fails goes to the next. The name is given last: an image that cannot be pulled in full changes nothing that can
//! be seen.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use oci_spec::image::ImageConfiguration;

use crate::manifest::{self, Descriptor, Document, DocumentError, MAX_DOCUMENT, Manifest};
use crate::registries::Registries;
use crate::registry::{Access, RegistryError, Repository, blocking};
use crate::store::{BlobWriter, Claim, Ingest};
use crate::{Digest, Image, Layer, LoginError, Platform, Reference, Store, StoreError};

/// How many platforms one image may be for; those with the most have some ten.
const MAX_PLATFORMS: usize = 64;
/// How many indexes may lead to a manifest: some tools put one into another.
const MAX_INDEXES: u32 = 3;
/// How often it is looked whether somebody else has fetched a blob.
const LOOK: Duration = Duration::from_millis(100);

/// Who is told how far each layer is.
///
/// The last two are said by pulls only; who makes something of layers can begin before all of them are there.
pub trait LayerProgress: Sync {
    /// `so_far` of the `total` bytes of `layer` are done. Said once of every layer when the image is
    /// known, lowest first, and then whenever bytes move.
    fn layer(&self, layer: &Digest, so_far: u64, total: u64);

    /// The image has these layers, lowest first, of which some may not be there yet.
    fn known(&self, layers: &[Layer]) {
        let _ = layers;
    }

    /// The blob of `layer` is in the store, verified.
    fn arrived(&self, layer: &Digest) {
        let _ = layer;
    }
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
    /// The registry did not do what was asked of it.
    #[error(transparent)]
    Registry(RegistryError),
    /// Only what is named by its digest is to be pulled.
    #[error("cannot pull `{reference}`: it is not named by a digest, which is required")]
    NoDigest {
        /// What was asked for.
        reference: Box<Reference>,
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

impl LayerProgress for Silent {
    fn layer(&self, _: &Digest, _: u64, _: u64) {}
}

/// Pulls the image `reference` for `platform` into `store`.
pub async fn pull(
    store: &Store,
    reference: &Reference,
    platform: &Platform,
    registries: &Registries,
    progress: &dyn LayerProgress,
) -> Result<Image, PullError> {
    let pull = Pull::begin(store, reference, registries, progress).await?;
    let (bytes, manifest) = pull.resolve(platform).await?;
    let config = pull.config(&manifest, Some(platform)).await?;
    pull.layers(&manifest).await?;
    pull.name(&bytes, &manifest, &config)
}

/// Pulls the image `reference` for every Linux platform that there is. They get their name together, when all are there.
pub async fn pull_all(
    store: &Store,
    reference: &Reference,
    registries: &Registries,
    progress: &dyn LayerProgress,
) -> Result<Vec<Image>, PullError> {
    let pull = Pull::begin(store, reference, registries, progress).await?;
    let mut whole = Vec::new();
    for (bytes, manifest, platform) in pull.resolve_all().await? {
        let config = pull.config(&manifest, platform.as_ref()).await?;
        pull.layers(&manifest).await?;
        whole.push((bytes, manifest, config));
    }
    whole.iter().map(|(bytes, manifest, config)| pull.name(bytes, manifest, config)).collect()
}

/// Where to ask: mirrors, and then the registry itself.
fn places<'a>(
    registries: &'a Registries,
    reference: &Reference,
) -> Result<Vec<Repository<'a>>, RegistryError> {
    let name = reference.registry();
    let endpoints = registries.mirrors(name).into_iter().chain([registries.endpoint(name)]);
    let place = |endpoint| Repository::new(registries, endpoint, reference.repository(), Access::Pull);
    endpoints.map(place).collect()
}

/// A pull on its way.
struct Pull<'a> {
    reference: &'a Reference,
    store: &'a Store,
    /// Never empty; the last one is the registry itself.
    places: Vec<Repository<'a>>,
    ingest: Ingest,
    progress: &'a dyn LayerProgress,
}

/// A manifest as sent and as read, and the platform that an index says it is for.
type Resolved = (Vec<u8>, Manifest, Option<Platform>);

impl<'a> Pull<'a> {
    async fn begin(
        store: &'a Store,
        reference: &'a Reference,
        registries: &'a Registries,
        progress: &'a dyn LayerProgress,
    ) -> Result<Self, PullError> {
        if registries.require_digest && reference.digest().is_none() {
            return Err(PullError::NoDigest { reference: Box::new(reference.clone()) });
        }
        let ingest = blocking({
            let store = store.clone();
            move || store.add()
        });
        let ingest = ingest.await.map_err(storing(reference))?;
        let places = places(registries, reference).map_err(failing(reference))?;
        Ok(Self { reference, store, places, ingest, progress })
    }

    /// The manifests for all platforms.
    async fn resolve_all(&self) -> Result<Vec<Resolved>, PullError> {
        let first = self.document(self.reference.digest().as_ref(), MAX_DOCUMENT).await?;
        let mut pending = vec![(first, None, 0)];
        let mut found: Vec<Resolved> = Vec::new();
        while let Some((bytes, platform, depth)) = pending.pop() {
            match Document::parse(&bytes).map_err(self.unsupported())? {
                Document::Manifest(manifest) => {
                    manifest.check().map_err(self.unsupported())?;
                    found.push((bytes, manifest, platform));
                }
                Document::Index(_) if depth == MAX_INDEXES => {
                    return Err(self.unsupported()(DocumentError::Indexes));
                }
                Document::Index(entries) => {
                    let entries = entries.into_iter().filter(Descriptor::is_for_linux);
                    for entry in entries.take(MAX_PLATFORMS) {
                        let bytes = self.document(Some(&entry.digest), entry.size).await?;
                        pending.push((bytes, entry.platform, depth + 1));
                    }
                }
            }
            if found.len() + pending.len() > MAX_PLATFORMS {
                return Err(self.unsupported()(DocumentError::Platforms));
            }
        }
        Ok(found)
    }

    /// The manifest for `platform`, as sent and as read.
    async fn resolve(&self, platform: &Platform) -> Result<(Vec<u8>, Manifest), PullError> {
        let mut bytes = self.document(self.reference.digest().as_ref(), MAX_DOCUMENT).await?;
        for _ in 0..=MAX_INDEXES {
            match Document::parse(&bytes).map_err(self.unsupported())? {
                Document::Manifest(manifest) => {
                    manifest.check().map_err(self.unsupported())?;
                    return Ok((bytes, manifest));
                }
                Document::Index(manifests) => {
                    let manifests: Vec<&Descriptor> = manifests.iter().collect();
                    let chosen =
                        manifest::choose(&manifests, platform).ok_or_else(|| PullError::Platform {
                            reference: Box::new(self.reference.clone()),
                            wanted: platform.clone(),
                            available: manifest::platforms(&manifests),
                        })?;
                    bytes = self.document(Some(&chosen.digest), chosen.size).await?;
                }
            }
        }
        Err(self.unsupported()(DocumentError::Indexes))
    }

    /// A manifest or index by its digest, or by the tag of the reference.
    async fn document(&self, digest: Option<&Digest>, limit: u64) -> Result<Vec<u8>, PullError> {
        let tag = self.reference.tag().unwrap_or("latest");
        let (registry, mirrors) = self.places.split_last().expect("there is the registry itself");
        for mirror in mirrors {
            match mirror.manifest(tag, digest, limit).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => tracing::info!(%error, mirror = mirror.name(), "going on without a mirror"),
            }
        }
        registry.manifest(tag, digest, limit).await.map_err(|error| match error {
            RegistryError::Answer { status: 404, .. } => {
                PullError::NotFound { reference: Box::new(self.reference.clone()) }
            }
            error => failing(self.reference)(error),
        })
    }

    /// The configuration, which must fit the manifest and the platform.
    async fn config(
        &self,
        manifest: &Manifest,
        platform: Option<&Platform>,
    ) -> Result<ImageConfiguration, PullError> {
        let config = &manifest.config;
        self.places[0].check_document_size(config.size).map_err(failing(self.reference))?;
        self.store.check(&config.digest).map_err(storing(self.reference))?;
        self.blob(config, &|_| ()).await?;
        let bytes = self.store.read_document(&config.digest).map_err(storing(self.reference))?;
        let config = manifest::parse_config(&bytes).map_err(self.unsupported())?;
        let diff_ids = manifest::diff_ids(&config, manifest.layers.len()).map_err(self.unsupported())?;
        let found = manifest::platform_of(&config);
        let Some(platform) = platform.filter(|platform| !found.matches(platform)) else {
            self.progress.known(&self.known(manifest, &diff_ids)?);
            return Ok(config);
        };
        Err(PullError::Platform {
            reference: Box::new(self.reference.clone()),
            wanted: platform.clone(),
            available: vec![found],
        })
    }

    fn known(&self, manifest: &Manifest, diff_ids: &[Digest]) -> Result<Vec<Layer>, PullError> {
        let layers = manifest.layers.iter().zip(diff_ids);
        let layer = |(layer, diff_id): (&Descriptor, &Digest)| {
            Ok(Layer {
                digest: layer.digest,
                diff_id: *diff_id,
                size: layer.size,
                compression: manifest::compression(layer).map_err(self.unsupported())?,
                path: self.store.blob_path(&layer.digest),
            })
        };
        layers.map(layer).collect()
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
                self.progress.arrived(&layer.digest);
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
        let _claim = self.turn(blob).await?;
        // Whoever had it may have fetched it.
        if !self.store.has(&blob.digest, blob.size) {
            self.fetch(blob, so_far).await?;
        }
        so_far(blob.size);
        Ok(())
    }

    /// Waits until nobody else fetches the blob, and keeps others from it.
    async fn turn(&self, blob: &Descriptor) -> Result<Claim, PullError> {
        loop {
            match self.ingest.try_claim(&blob.digest).map_err(storing(self.reference))? {
                Some(claim) => return Ok(claim),
                // Not waiting in the kernel: this pull can be given up meanwhile.
                None => tokio::time::sleep(LOOK).await,
            }
        }
    }

    async fn fetch(&self, blob: &Descriptor, so_far: &(dyn Fn(u64) + Sync)) -> Result<(), PullError> {
        let (registry, mirrors) = self.places.split_last().expect("there is the registry itself");
        let mut writer = self.ingest.writer().map_err(storing(self.reference))?;
        for mirror in mirrors {
            match mirror.download(blob, &mut writer, so_far).await {
                Ok(()) => return self.finish(writer).await,
                Err(error) => {
                    tracing::info!(%error, mirror = mirror.name(), "going on without a mirror");
                    writer = self.ingest.writer().map_err(storing(self.reference))?;
                }
            }
        }
        registry.download(blob, &mut writer, so_far).await.map_err(failing(self.reference))?;
        self.finish(writer).await
    }

    async fn finish(&self, writer: BlobWriter) -> Result<(), PullError> {
        blocking(move || writer.finish()).await.map(drop).map_err(storing(self.reference))
    }

    fn unsupported(&self) -> impl FnOnce(DocumentError) -> PullError + use<> {
        let reference = Box::new(self.reference.clone());
        move |source| PullError::Unsupported { reference, source }
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

/// What a registry's failure means for a pull.
fn failing(reference: &Reference) -> impl FnOnce(RegistryError) -> PullError + use<> {
    let reference = Box::new(reference.clone());
    move |error| match error {
        RegistryError::Unauthorized { login, source, .. } => {
            PullError::Unauthorized { reference, login, source }
        }
        RegistryError::Store(source) => PullError::Store { reference, source },
        error => PullError::Registry(error),
    }
}

fn storing(reference: &Reference) -> impl FnOnce(StoreError) -> PullError + use<> {
    let reference = Box::new(reference.clone());
    move |source| PullError::Store { reference, source }
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
                "check the name; if the image is private, log in first: microagent registry login {}",
                reference.registry()
            )),
            Self::Unauthorized { .. } => {
                Some("the configured login could not be read; log in again".to_owned())
            }
            Self::NoDigest { reference } => Some(format!("write it {}@sha256:…", reference.familiar_name())),
            Self::Registry(error) => error.hint(),
            Self::Unsupported { source, .. } => source.hint(),
            Self::Platform { available, .. } => {
                available.first().map(|platform| format!("ask for another platform, such as `{platform}`"))
            }
            Self::Store { source, .. } => source.hint(),
        }
    }
}
