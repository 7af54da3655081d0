//! From an archive or a directory into the store.
//!
//! ```text
//! tar, tar.gz, tar.zst, stdin ──▶ Archive ──┐  oci-layout, index.json ──▶ layout
//!                                           ├──▶                                  ──▶ blobs, manifest, names
//! directory ─────────────────▶ Directory ───┘  manifest.json ───────────▶ docker archive
//! ```
//!
//! An archive is taken apart by a [`reader`], a process that may do nothing else, and comes from there as files of names
//! and lengths. It is read once, front to back, so that it may come through a pipe: what is large becomes a blob of the
//! store as it passes by, under the digest that it really has. Its paths are only ever looked up, never opened.
//! What turns out to belong to no image is collected at the end.

mod archive;
mod directory;
mod docker_archive;
mod foreign;
mod layout;
mod tar_entries;

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use reader::{Items, ask, ask_of_file};

use crate::manifest::{self, Descriptor, DocumentError};
use crate::store::Ingest;
use crate::{Digest, InvalidReference, Platform, Reference, Store, StoreError};
use archive::{Archive, Progressing};
use directory::Directory;
pub use docker_archive::{ArchivedImage, parse_archived_images};
pub use foreign::{READ_ARCHIVE, UNPACK, Unreadable, Whence};
pub(crate) use tar_entries::checksum;

/// What to load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The platform to take from an archive that has several.
    pub platform: Platform,
    /// The name to give to the image, in place of those in the archive. It must then have one image.
    pub name: Option<Reference>,
    /// What an archive's content may take, unpacked: a bound for decompression bombs.
    pub archive_size: u64,
}

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its names; none if the archive has none and none was given.
    pub names: Vec<Reference>,
    /// What identifies it.
    pub manifest_digest: Digest,
}

/// Why nothing was loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file or directory could not be read.
    #[error("failed to read `{}`", path.display())]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The archive could not be read to its end, or not be decompressed.
    #[error("failed to read the image archive")]
    Read(#[source] io::Error),
    /// The archive breaks the rules of its format.
    #[error("the image archive is damaged: {0}")]
    Damaged(Cow<'static, str>),
    /// It has neither `index.json` nor `manifest.json`.
    #[error("this is neither an image archive nor an image layout")]
    NotAnImage,
    /// Something in it is larger than in any honest archive.
    #[error("{what} of the image archive exceeds the limit of {limit}")]
    TooLarge {
        /// What.
        what: Cow<'static, str>,
        /// How much is acceptable.
        limit: u64,
    },
    /// It unpacks to more than it may.
    #[error("the image archive unpacks to more than {limit} bytes")]
    Unpacked {
        /// How much is acceptable.
        limit: u64,
    },
    /// A file that others refer to is not there.
    #[error("the image archive has no file `{path}`")]
    Missing {
        /// Its path in the archive.
        path: String,
    },
    /// A file does not have the digest that others refer to it by.
    #[error("file `{path}` of the image archive is not `{expected}`")]
    WrongContent {
        /// Its path in the archive.
        path: String,
        /// What it should have been.
        expected: Digest,
    },
    /// A document in it makes no sense.
    #[error("file `{path}` of the image archive does not describe an image")]
    Document {
        /// Its path in the archive.
        path: String,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// An image in it has a name that is none.
    #[error("the image archive has an image whose name cannot be used")]
    Name(#[from] InvalidReference),
    /// An image is for other platforms only.
    #[error("the image is not available for `{wanted}`, only for {}", manifest::listed(available))]
    Platform {
        /// For which platform.
        wanted: Platform,
        /// What there is.
        available: Vec<Platform>,
    },
    /// Several images cannot have one name.
    #[error("cannot name {count} images `{name}`")]
    OneName {
        /// The name that was asked for.
        name: Reference,
        /// How many images there are.
        count: usize,
    },
    /// An image could not be stored.
    #[error("failed to store the image")]
    Store(#[from] StoreError),
}

impl LoadError {
    /// What the user can do about it, if anything is known to help.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotAnImage => {
                Some("what can be loaded are archives of `docker save` and OCI image layouts".to_owned())
            }
            Self::Platform { available, .. } => {
                available.first().map(|platform| format!("ask for another platform, such as `{platform}`"))
            }
            Self::Unpacked { .. } => Some(home::Limit::ArchiveSize.hint()),
            Self::OneName { .. } => Some("load the images under their own names".to_owned()),
            Self::Store(error) => error.hint(),
            _ => None,
        }
    }
}

/// Where the files of an archive are, however it came.
trait Files {
    /// A document, of at most [`manifest::MAX_DOCUMENT`] bytes; `None` if there is no such file.
    fn document(&self, path: &str) -> Result<Option<Vec<u8>>, LoadError>;

    /// Makes the file a blob of the store and tells its real digest and size; `None` if there is no such file.
    fn blob(&self, path: &str) -> Result<Option<(Digest, u64)>, LoadError>;
}

/// An image whose blobs are all in the store, and the names that the archive has for it.
struct Found {
    manifest: Descriptor,
    names: Vec<Reference>,
}

/// Loads the images at `path`: an archive or a directory with an OCI image layout.
pub fn load_path(store: &Store, path: &Path, options: &LoadOptions) -> Result<Vec<Loaded>, LoadError> {
    let failed = |source| LoadError::Open { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let kind = file.metadata().map_err(failed)?.file_type();
    if kind.is_file() {
        return load_file(store, &file, options, &mut |_| ());
    }
    if !kind.is_dir() {
        return load(store, file, options);
    }
    adding(store, |ingest| {
        let files = Directory::new(path, ingest);
        finish(ingest, layout::images(&files, ingest, options)?, options)
    })
}

/// Loads the images of an archive: from `docker save`, or an OCI image layout as a tar, compressed or not.
pub fn load(
    store: &Store,
    archive: impl Read + Send + 'static,
    options: &LoadOptions,
) -> Result<Vec<Loaded>, LoadError> {
    adding(store, |ingest| {
        let take = |entries: &mut Items| Archive::read(entries, None, store, ingest, options.archive_size);
        let files = ask(&READ_ARCHIVE, &Whence::Stream, archive, take)?.taken;
        finish(ingest, images(&files, store, ingest, options)?, options)
    })
}

/// The same for an archive in a regular file that is open for reading alone, from its beginning; `progress` is told how far
/// it is read.
pub fn load_file(
    store: &Store,
    file: &File,
    options: &LoadOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Loaded>, LoadError> {
    adding(store, |ingest| {
        let mut told = Progressing { file, so_far: progress };
        let take = |entries: &mut Items| {
            Archive::read(entries, Some(&mut told), store, ingest, options.archive_size)
        };
        let files = ask_of_file(&READ_ARCHIVE, &Whence::File, file, take)?;
        finish(ingest, images(&files, store, ingest, options)?, options)
    })
}

/// Brings the images that are described in these files into the store.
fn images(
    files: &Archive<'_>,
    store: &Store,
    ingest: &Ingest,
    options: &LoadOptions,
) -> Result<Vec<Found>, LoadError> {
    if files.has("index.json") {
        layout::images(files, ingest, options)
    } else if files.has("manifest.json") {
        docker_archive::images(files, store, ingest, options)
    } else {
        Err(LoadError::NotAnImage)
    }
}

/// Adds content, and afterwards removes what of it nobody refers to.
fn adding<T>(store: &Store, load: impl FnOnce(&Ingest) -> Result<T, LoadError>) -> Result<T, LoadError> {
    let ingest = store.add()?;
    let outcome = load(&ingest);
    drop(ingest);
    if let Err(error) = store.collect() {
        tracing::debug!(%error, "left unused blobs in the store");
    }
    outcome
}

/// All images are whole by now; they get their names together.
fn finish(ingest: &Ingest, images: Vec<Found>, options: &LoadOptions) -> Result<Vec<Loaded>, LoadError> {
    if let Some(name) = options.name.as_ref().filter(|_| images.len() != 1) {
        return Err(LoadError::OneName { name: name.clone(), count: images.len() });
    }
    let mut loaded = Vec::new();
    for image in images {
        let names = options.name.clone().map_or(image.names, |name| vec![name]);
        ingest.name(&image.manifest, &names)?;
        loaded.push(Loaded { names, manifest_digest: image.manifest.digest });
    }
    Ok(loaded)
}

/// Checks that the image of `config` is for the wanted platform, and tells for which exactly.
fn checked_platform(config: &crate::ImageConfiguration, wanted: &Platform) -> Result<Platform, LoadError> {
    let found = manifest::platform_of(config);
    if found.matches(wanted) {
        return Ok(found);
    }
    Err(LoadError::Platform { wanted: wanted.clone(), available: vec![found] })
}
