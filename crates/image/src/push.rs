//! From the store to a registry.
//!
//! ```text
//! manifest in the store ─▶ every blob: is it there? take it from your own? else send it ─▶ manifest, by its tag ─▶ is it there?
//! ```
//!
//! Only what the registry lacks is sent, three blobs at a time. Blobs are read again before they are sent, so that a damaged
//! one is told here and not by the registry. The tag comes last: a push that breaks off changes nothing that can be pulled,
//! and the next one goes on where whole blobs end. For several platforms, the images come first, each under its digest alone,
//! and then an index of them under the tag.

use std::ops::AddAssign;
use std::sync::{Mutex, PoisonError};

use crate::manifest::{Descriptor, Document, DocumentError, Manifest, index_of};
use crate::registries::Registries;
use crate::registry::{Access, Delivered, RegistryError, Repository, blocking};
use crate::store::Ingest;
use crate::{Digest, Image, LayerProgress, Reference, Store, StoreError};

/// What a push did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pushed {
    /// How many blobs were sent.
    pub sent: usize,
    /// How many the registry took from other repositories of its own.
    pub mounted: usize,
    /// How many were there.
    pub present: usize,
    /// How many bytes were sent.
    pub bytes: u64,
}

/// Why an image could not be pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// A digest is what comes out of a push.
    #[error("cannot push to `{reference}`: it has no tag")]
    NoTag {
        /// The target.
        reference: Box<Reference>,
    },
    /// The registry does not let us.
    #[error("registry `{}` denied pushing to `{reference}`", reference.registry())]
    Unauthorized {
        /// The target.
        reference: Box<Reference>,
        /// What the registry said.
        source: RegistryError,
    },
    /// The registry did not do what was asked of it.
    #[error(transparent)]
    Registry(RegistryError),
    /// The image could not be read.
    #[error("failed to read the image from the store")]
    Store(#[from] StoreError),
}

impl PushError {
    /// What the user can do about it, if anything is known to help.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoTag { reference } => Some(format!(
                "name it with a tag: microagent tag IMAGE {}/{}:TAG",
                reference.registry(),
                reference.repository()
            )),
            Self::Unauthorized { source, .. } | Self::Registry(source) => source.hint(),
            Self::Store(source) => source.hint(),
        }
    }
}

/// Pushes `image` of the store to `reference`.
pub async fn push(
    store: &Store,
    image: &Image,
    reference: &Reference,
    registries: &Registries,
    progress: &dyn LayerProgress,
) -> Result<Pushed, PushError> {
    let tag = tag(reference)?;
    let _kept = keep(store).await?;
    let push = Push::new(store, reference, registries, progress)?;
    push.image(&image.manifest_digest, Some(tag)).await.map(|(_, pushed)| pushed)
}

/// Pushes `images`, which are the same for several platforms, to `reference`, with an index of them that has the tag. Tells
/// the index's digest. The same images always give the same index.
pub async fn push_index(
    store: &Store,
    images: &[Image],
    reference: &Reference,
    registries: &Registries,
    progress: &dyn LayerProgress,
) -> Result<(Digest, Pushed), PushError> {
    let tag = tag(reference)?;
    let _kept = keep(store).await?;
    let push = Push::new(store, reference, registries, progress)?;
    let (mut entries, mut all) = (Vec::new(), Pushed::default());
    for image in images {
        let (manifest, pushed) = push.image(&image.manifest_digest, None).await?;
        entries.push(Descriptor { platform: Some(image.platform()), ..manifest });
        all += pushed;
    }
    let (media_type, bytes) = index_of(entries);
    push.repository.put_manifest(tag, media_type, &bytes).await.map_err(failed(reference))?;
    Ok((Digest::of(&bytes), all))
}

fn tag(reference: &Reference) -> Result<&str, PushError> {
    reference.tag().ok_or_else(|| PushError::NoTag { reference: Box::new(reference.clone()) })
}

/// Nothing is removed from the store meanwhile.
async fn keep(store: &Store) -> Result<Ingest, StoreError> {
    let store = store.clone();
    blocking(move || store.add()).await
}

fn failed(reference: &Reference) -> impl Fn(RegistryError) -> PushError + use<> {
    let reference = reference.clone();
    move |error| match error {
        RegistryError::Unauthorized { .. } => {
            PushError::Unauthorized { reference: Box::new(reference.clone()), source: error }
        }
        RegistryError::Store(source) => PushError::Store(source),
        error => PushError::Registry(error),
    }
}

impl AddAssign for Pushed {
    fn add_assign(&mut self, more: Self) {
        self.sent += more.sent;
        self.mounted += more.mounted;
        self.present += more.present;
        self.bytes += more.bytes;
    }
}

fn read(store: &Store, digest: &Digest) -> Result<(Vec<u8>, Manifest), StoreError> {
    let bytes = store.read_document(digest)?;
    match Document::parse(&bytes) {
        Ok(Document::Manifest(manifest)) => Ok((bytes, manifest)),
        Ok(Document::Index(_)) => {
            Err(StoreError::Document { digest: *digest, source: DocumentError::Ambiguous })
        }
        Err(source) => Err(StoreError::Document { digest: *digest, source }),
    }
}

/// Another repository of the same registry, and what it is known to have.
struct Neighbour {
    repository: String,
    blobs: Vec<Digest>,
}

/// The most neighbours that are asked about, since each lengthens the token.
const MAX_NEIGHBOURS: usize = 8;

/// Other repositories of the registry from which images in the store came, or to which they went.
fn neighbours(store: &Store, target: &Reference) -> Result<Vec<Neighbour>, StoreError> {
    let mut found: Vec<Neighbour> = Vec::new();
    for listed in store.list()? {
        let Some(name) = listed.reference else { continue };
        if name.registry() != target.registry() || name.repository() == target.repository() {
            continue;
        }
        // An image that is damaged is of no use here.
        let Ok((_, manifest)) = read(store, &listed.manifest_digest) else { continue };
        let blobs = manifest.layers.iter().map(|layer| layer.digest);
        match found.iter().position(|known| known.repository == name.repository()) {
            Some(at) => found[at].blobs.extend(blobs),
            None if found.len() < MAX_NEIGHBOURS => {
                found.push(Neighbour { repository: name.repository().to_owned(), blobs: blobs.collect() });
            }
            None => {}
        }
    }
    Ok(found)
}

struct Push<'a> {
    store: &'a Store,
    reference: &'a Reference,
    repository: Repository<'a>,
    sources: Vec<Neighbour>,
    progress: &'a dyn LayerProgress,
}

impl<'a> Push<'a> {
    /// Prepares a push; nothing is sent yet.
    fn new(
        store: &'a Store,
        reference: &'a Reference,
        registries: &'a Registries,
        progress: &'a dyn LayerProgress,
    ) -> Result<Self, PushError> {
        let sources = neighbours(store, reference)?;
        let names: Vec<String> = sources.iter().map(|source| source.repository.clone()).collect();
        let endpoint = registries.endpoint(reference.registry());
        let repository = Repository::new(registries, endpoint, reference.repository(), Access::Push);
        let repository = repository.map_err(failed(reference))?.reading(names);
        Ok(Self { store, reference, repository, sources, progress })
    }

    /// Pushes the image with this manifest, under `tag` or under its digest alone.
    async fn image(&self, digest: &Digest, tag: Option<&str>) -> Result<(Descriptor, Pushed), PushError> {
        let (bytes, manifest) = read(self.store, digest)?;
        let failed = failed(self.reference);
        let pushed = self.blobs(&manifest).await.map_err(&failed)?;
        let name = tag.map_or_else(|| digest.to_string(), str::to_owned);
        self.repository.put_manifest(&name, &manifest.media_type, &bytes).await.map_err(&failed)?;
        Ok((Descriptor::new(&manifest.media_type, *digest, bytes.len() as u64), pushed))
    }

    async fn blobs(&self, manifest: &Manifest) -> Result<Pushed, RegistryError> {
        let mut distinct: Vec<&Descriptor> = Vec::new();
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            if !distinct.iter().any(|known| known.digest == blob.digest) {
                distinct.push(blob);
            }
        }
        for blob in &distinct {
            self.progress.layer(&blob.digest, 0, blob.size);
        }
        // The first one proves who we are, and the others use that.
        let queue = Mutex::new(distinct.into_iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let pushed = Mutex::new(Pushed::default());
        let count = |blob: &Descriptor, delivered: &Delivered| {
            let mut pushed = pushed.lock().unwrap_or_else(PoisonError::into_inner);
            match delivered {
                Delivered::Present => pushed.present += 1,
                Delivered::Mounted(_) => pushed.mounted += 1,
                Delivered::Sent => {
                    pushed.sent += 1;
                    pushed.bytes += blob.size;
                }
            }
        };
        if let Some(blob) = next() {
            count(blob, &self.blob(blob).await?);
        }
        let worker = || async {
            while let Some(blob) = next() {
                count(blob, &self.blob(blob).await?);
            }
            Ok::<(), RegistryError>(())
        };
        tokio::try_join!(worker(), worker(), worker())?;
        Ok(pushed.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    async fn blob(&self, blob: &Descriptor) -> Result<Delivered, RegistryError> {
        let (store, digest) = (self.store.clone(), blob.digest);
        if self.repository.has_blob(blob).await? {
            self.progress.layer(&digest, blob.size, blob.size);
            return Ok(Delivered::Present);
        }
        if !blocking(move || store.check(&digest)).await? {
            return Err(StoreError::Damaged { digest }.into());
        }
        let has = self.sources.iter().filter(|source| source.blobs.contains(&digest));
        let sources: Vec<String> = has.map(|source| source.repository.clone()).collect();
        let so_far = |so_far| self.progress.layer(&blob.digest, so_far, blob.size);
        let path = self.store.blob_path(&digest);
        let delivered = self.repository.upload(blob, &path, &sources, &so_far).await?;
        tracing::debug!(%digest, ?delivered, "pushed a blob");
        Ok(delivered)
    }
}
