//! From the store into an archive or a directory.
//!
//! ```text
//! docker-archive   oci-layout, index.json, blobs/sha256/…, manifest.json      read as either format, as Docker's own
//! oci-archive      oci-layout, index.json, blobs/sha256/…
//! oci-dir          the same, unpacked
//! ```
//!
//! Blobs are written as they are, and hashed on the way: a damaged one fails the archive. The same images always give the
//! same bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::manifest::{Descriptor, Document, DocumentError, Manifest, index_of, index_to_bytes};
use crate::store::{FULL_NAME, REF_NAME};
use crate::{Digest, Image, Platform, Reference, Store, StoreError};

const BUFFER: usize = 256 << 10;

/// The form of an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// What `docker load` takes, of any age, and also an OCI image layout.
    #[default]
    Docker,
    /// An OCI image layout.
    Oci,
}

/// What is saved under a name.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// An image.
    Image(Box<Image>),
    /// The same image for several platforms, with an index of them. Of a Docker archive's own part it is the one for this
    /// host, else the first.
    Index(Vec<Image>),
}

/// An image to save.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageToSave {
    /// The image.
    pub content: Content,
    /// The names that it gets in the archive.
    pub names: Vec<Reference>,
}

/// Why images could not be saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The archive could not be written.
    #[error("failed to write the archive")]
    Write(#[source] io::Error),
    /// A file of the layout could not be written.
    #[error("failed to write `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is something else already.
    #[error("cannot save to `{}`: it is not empty", path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// The images could not be read.
    #[error("failed to read an image from the store")]
    Store(#[from] StoreError),
}

impl SaveError {
    /// What the user can do about it, if anything is known to help.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Occupied { .. } => Some("name a directory that does not exist yet".to_owned()),
            _ => None,
        }
    }
}

/// Writes an archive of `images` to `output`. `progress` hears how many of all bytes of blobs are written.
pub fn save(
    store: &Store,
    images: &[ImageToSave],
    format: ArchiveFormat,
    output: impl Write,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), SaveError> {
    let mut target = Archive { tar: tar::Builder::new(output) };
    write(store, images, format, &mut target, progress)?;
    target.tar.into_inner().and_then(|mut output| output.flush()).map_err(SaveError::Write)
}

/// Writes an OCI image layout of `images` to the directory at `path`, which must be empty or not be there.
pub fn save_directory(
    store: &Store,
    images: &[ImageToSave],
    path: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), SaveError> {
    let failed = |source| SaveError::File { path: path.to_owned(), source };
    std::fs::create_dir_all(path.join("blobs/sha256")).map_err(failed)?;
    if std::fs::read_dir(path).map_err(failed)?.count() > 1 {
        return Err(SaveError::Occupied { path: path.to_owned() });
    }
    write(store, images, ArchiveFormat::Oci, &mut Directory { root: path }, progress)
}

/// Where files go.
trait Target {
    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<(), SaveError>;
}

/// An image of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ArchivedImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

fn write(
    store: &Store,
    images: &[ImageToSave],
    format: ArchiveFormat,
    target: &mut dyn Target,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), SaveError> {
    // Nothing is removed from the store meanwhile.
    let _adding = store.add()?;
    let mut blobs: BTreeMap<Digest, u64> = BTreeMap::new();
    let mut indexes: BTreeMap<Digest, Vec<u8>> = BTreeMap::new();
    let (mut entries, mut archived) = (Vec::new(), Vec::new());
    for ImageToSave { content, names } in images {
        let entry = match content {
            Content::Image(image) => add(store, image, &mut blobs)?,
            Content::Index(images) => {
                let parts = images.iter().map(|image| add(store, image, &mut blobs));
                let (media_type, bytes) = index_of(parts.collect::<Result<_, _>>()?);
                let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
                indexes.insert(digest, bytes);
                Descriptor::new(media_type, digest, size)
            }
        };
        entries.extend(named(&entry, names));
        if let Some(image) = content.for_docker() {
            archived.push(ArchivedImage::new(store, image, names)?);
        }
    }
    let total: u64 = blobs.values().sum();
    let mut done = 0;
    for (digest, size) in blobs {
        let mut blob = Verified::open(store, digest, size)?;
        let before = done;
        let mut told =
            Told { blob: &mut blob, read: 0, progress: &mut |read| progress(before + read, total) };
        target.file(&place(&digest), size, &mut told)?;
        blob.end()?;
        done += size;
    }
    for (digest, bytes) in indexes {
        target.file(&place(&digest), bytes.len() as u64, &mut bytes.as_slice())?;
    }
    let mut small = |name: &str, content: &[u8]| target.file(name, content.len() as u64, &mut &*content);
    small("index.json", &index_to_bytes(&entries))?;
    if format == ArchiveFormat::Docker {
        small("manifest.json", &serde_json::to_vec(&archived).expect("names and paths are plain data"))?;
    }
    small("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
}

/// Adds the blobs of an image, and describes its manifest.
fn add(store: &Store, image: &Image, blobs: &mut BTreeMap<Digest, u64>) -> Result<Descriptor, StoreError> {
    let (manifest, size) = read(store, &image.manifest_digest)?;
    let all = manifest.layers.iter().chain([&manifest.config]).map(|blob| (blob.digest, blob.size));
    blobs.extend(all.chain([(image.manifest_digest, size)]));
    Ok(Descriptor {
        platform: Some(image.platform()),
        ..Descriptor::new(&manifest.media_type, image.manifest_digest, size)
    })
}

impl Content {
    /// The image that Docker's own part of an archive has.
    fn for_docker(&self) -> Option<&Image> {
        match self {
            Self::Image(image) => Some(image),
            Self::Index(images) => {
                let host = Platform::of_host();
                images.iter().find(|image| image.platform().matches(&host)).or(images.first())
            }
        }
    }
}

impl ArchivedImage {
    fn new(store: &Store, image: &Image, names: &[Reference]) -> Result<Self, StoreError> {
        let (manifest, _) = read(store, &image.manifest_digest)?;
        Ok(Self {
            config: place(&manifest.config.digest),
            repo_tags: names.iter().filter(|name| name.tag().is_some()).map(tagged).collect(),
            layers: manifest.layers.iter().map(|layer| place(&layer.digest)).collect(),
        })
    }
}

fn read(store: &Store, digest: &Digest) -> Result<(Manifest, u64), StoreError> {
    let bytes = store.read_document(digest)?;
    let damaged = |source| StoreError::Document { digest: *digest, source };
    match Document::parse(&bytes).map_err(damaged)? {
        Document::Manifest(manifest) => Ok((manifest, bytes.len() as u64)),
        Document::Index(_) => Err(damaged(DocumentError::Ambiguous)),
    }
}

/// An entry for each name, or one without.
fn named(entry: &Descriptor, names: &[Reference]) -> Vec<Descriptor> {
    if names.is_empty() {
        return vec![entry.clone()];
    }
    let with = |name: &Reference| {
        let annotations = [FULL_NAME, REF_NAME].map(|key| (key.to_owned(), name.full())).into();
        Descriptor { annotations, ..entry.clone() }
    };
    names.iter().map(with).collect()
}

/// The name as `docker load` wants it: with a tag, and without a digest.
fn tagged(name: &Reference) -> String {
    let shown = name.to_string();
    shown.split_once('@').map_or(shown.clone(), |(tagged, _)| tagged.to_owned())
}

fn place(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

struct Archive<W: Write> {
    tar: tar::Builder<W>,
}

impl<W: Write> Target for Archive<W> {
    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<(), SaveError> {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        let content = io::BufReader::with_capacity(BUFFER, content);
        self.tar.append_data(&mut header, name, content).map_err(failure)
    }
}

struct Directory<'a> {
    root: &'a Path,
}

impl Target for Directory<'_> {
    fn file(&mut self, name: &str, _: u64, content: &mut dyn Read) -> Result<(), SaveError> {
        let path = self.root.join(name);
        let mut content = io::BufReader::with_capacity(BUFFER, content);
        let written = File::create_new(&path).and_then(|mut file| io::copy(&mut content, &mut file));
        written.map(drop).map_err(|source| match source.downcast() {
            Ok(error) => SaveError::Store(error),
            Err(source) => SaveError::File { path, source },
        })
    }
}

fn failure(source: io::Error) -> SaveError {
    source.downcast().map_or_else(SaveError::Write, SaveError::Store)
}

/// A blob that is hashed while it is read.
struct Verified {
    file: File,
    digest: Digest,
    left: u64,
    hasher: Sha256,
}

impl Verified {
    fn open(store: &Store, digest: Digest, size: u64) -> Result<Self, StoreError> {
        let path = store.blob_path(&digest);
        match File::open(&path) {
            Ok(file) => Ok(Self { file, digest, left: size, hasher: Sha256::new() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Missing { digest }),
            Err(source) => Err(StoreError::Access { path, source }),
        }
    }

    fn end(mut self) -> Result<(), StoreError> {
        let at_end = self.left == 0 && matches!(self.file.read(&mut [0]), Ok(0));
        let digest = Digest::from(<[u8; 32]>::from(self.hasher.finalize()));
        if at_end && digest == self.digest {
            Ok(())
        } else {
            Err(StoreError::Damaged { digest: self.digest })
        }
    }
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = self.left.min(buffer.len() as u64) as usize;
        let read = self.file.read(&mut buffer[..wanted])?;
        if read == 0 && wanted > 0 {
            return Err(io::Error::other(StoreError::Damaged { digest: self.digest }));
        }
        self.hasher.update(&buffer[..read]);
        self.left -= read as u64;
        Ok(read)
    }
}

/// Tells how much was read.
struct Told<'a> {
    blob: &'a mut Verified,
    read: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.blob.read(buffer)?;
        self.read += read as u64;
        (self.progress)(self.read);
        Ok(read)
    }
}
