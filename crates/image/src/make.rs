//! Images that are made here: of layers that come as tars, and a configuration.
//!
//! ```text
//! tar ──▶ Ingest::layer ──▶ NewLayer: descriptor and diff ID ──┐
//! base image's layers ─────────────────────────────────────────┼──▶ Ingest::image ──▶ Image, named
//! Configuration: a line of history for each layer ─────────────┘
//! ```
//!
//! The [`Ingest`] is held from the first blob to the name, so that no collection comes in between. The same parts
//! give the same manifest. Layers are not unpacked here: that a tar is one is found out when it is converted.

mod extend;
mod gzip;

use std::io::{self, Read, Write};

use reader::{Items, ReadError, ask};
use sha2::{Digest as _, Sha256};

use crate::load::{UNPACK, checksum};
use crate::manifest::{Compression, Descriptor, DocumentError, Manifest, OCI_CONFIG, OCI_MANIFEST};
use crate::store::{BlobWriter, Ingest, IngestError};
use crate::{Configuration, Digest, Image, Reference, StoreError};
use gzip::GzipWriter;

const ZSTD_LEVEL: i32 = 3;
const BUFFER: usize = 256 << 10;
/// Of a tar.
const BLOCK: usize = 512;

/// A layer that is in the store and in no image yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLayer {
    /// The blob, as manifests refer to it.
    pub descriptor: Descriptor,
    /// Of the tar inside.
    pub diff_id: Digest,
}

/// Why an image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// What was to become a layer could not be taken in.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// What was to become a layer is no tar, or is cut off.
    #[error("the content is not a whole tar archive")]
    NotATar {
        /// The program that unpacks it, if it is packed in a way that is not known here.
        packer: Option<&'static str>,
    },
    /// What was to become a layer unpacks to more than any honest one.
    #[error("the layer unpacks to more than {limit} bytes")]
    TooLarge {
        /// How much is acceptable.
        limit: u64,
    },
    /// The configuration and the layers do not fit.
    #[error("cannot make an image of this configuration")]
    Configuration(#[source] DocumentError),
    /// The image could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MakeError {
    /// What the user can do about it, if anything is known to help.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotATar { packer: Some(packer) } => {
                Some(format!("unpack it on the way: {packer} -dc FILE | microagent import - NAME"))
            }
            Self::TooLarge { .. } => Some(home::Limit::UnpackedSize.hint()),
            Self::Store(error) | Self::Ingest(IngestError::Store(error)) => error.hint(),
            _ => None,
        }
    }
}

impl Ingest {
    /// Makes a layer of a tar, packed as told on its way into the store.
    pub fn layer(&self, tar: &mut dyn Read, packing: Compression) -> Result<NewLayer, MakeError> {
        let mut tar = Hashed::new(tar);
        let writer = self.writer()?;
        let path = writer.path();
        let storing = |source| StoreError::Access { path: path.clone(), source };
        let writer = match packing {
            Compression::None => fill(&mut tar, writer, &path)?,
            Compression::Gzip => {
                let gzip = GzipWriter::new(writer).map_err(storing)?;
                fill(&mut tar, gzip, &path)?.finish().map_err(storing)?
            }
            Compression::Zstd => {
                let zstd = zstd::stream::write::Encoder::new(writer, ZSTD_LEVEL).map_err(storing)?;
                fill(&mut tar, zstd, &path)?.finish().map_err(storing)?
            }
        };
        let diff_id = tar.digest()?;
        let size = writer.size();
        let descriptor = Descriptor::new(packing.media_type(), writer.finish()?, size);
        Ok(NewLayer { descriptor, diff_id })
    }

    /// Makes a layer of a tar that is packed already, or not at all, as its first bytes tell; the blob is what came.
    /// It may unpack to `limit` bytes, which a process does that may do nothing else.
    pub fn packed_layer(
        &self,
        mut packed: impl Read + Send + 'static,
        limit: u64,
    ) -> Result<NewLayer, MakeError> {
        let mut first = Vec::new();
        packed.by_ref().take(4).read_to_end(&mut first).map_err(IngestError::Read)?;
        let packing = Compression::of_magic(&first);
        let mut whole = io::Cursor::new(first).chain(packed);
        if packing == Compression::None {
            return self.layer(&mut whole, packing);
        }
        let copied = Copied { input: whole, writer: self.writer()? };
        let asked = ask(&UNPACK, &(), copied, |items| diff_id(items, limit))?;
        let writer = asked.fed.all().map_err(ReadError::Input)?.writer;
        let size = writer.size();
        let descriptor = Descriptor::new(packing.media_type(), writer.finish()?, size);
        Ok(NewLayer { descriptor, diff_id: asked.taken })
    }

    /// Makes an image of `layers`, lowest first, which are all in the store, and gives it the `names`; or keeps it
    /// without one.
    pub fn image(
        &self,
        config: &Configuration,
        layers: Vec<Descriptor>,
        names: &[Reference],
    ) -> Result<Image, MakeError> {
        let (image, descriptor) = self.unnamed((OCI_MANIFEST, OCI_CONFIG), config, layers)?;
        self.name(&descriptor, names)?;
        Ok(Image { reference: names.first().cloned(), ..image })
    }

    /// Puts an image into the store and gives it no name yet. Its manifest and its configuration are of these types.
    fn unnamed(
        &self,
        (manifest_type, config_type): (&str, &str),
        config: &Configuration,
        layers: Vec<Descriptor>,
    ) -> Result<(Image, Descriptor), MakeError> {
        let (bytes, platform) = config.checked().map_err(MakeError::Configuration)?;
        let config = Descriptor::new(config_type, self.put(&bytes)?, bytes.len() as u64);
        let manifest = Manifest { media_type: manifest_type.to_owned(), config, layers };
        manifest.check().map_err(MakeError::Configuration)?;
        let bytes = manifest.to_bytes();
        let digest = self.put(&bytes)?;
        // Reading finds what does not fit before a name makes it public.
        let image = self.store().read(&digest)?;
        let plain = Descriptor::new(manifest_type, digest, bytes.len() as u64);
        Ok((image, Descriptor { platform: Some(platform), ..plain }))
    }
}

impl crate::Layer {
    /// The blob as a new manifest refers to it, in OCI's words.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.compression.media_type(), self.digest, self.size)
    }
}

/// Copies all of `tar` through `packer`.
fn fill<W: Write>(tar: &mut dyn Read, mut packer: W, path: &std::path::Path) -> Result<W, MakeError> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match tar.read(&mut buffer) {
            Ok(0) => return Ok(packer),
            Ok(read) => packer
                .write_all(&buffer[..read])
                .map_err(|source| StoreError::Access { path: path.to_owned(), source })?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(IngestError::Read(error).into()),
        }
    }
}

/// The digest of the one thing that was unpacked.
fn diff_id(unpacked: &mut Items, limit: u64) -> Result<Digest, MakeError> {
    unpacked.next_item::<()>().map_err(IngestError::Read)?;
    let mut hashed = Hashed::new(unpacked.by_ref().take(limit.saturating_add(1)));
    let mut buffer = vec![0; BUFFER];
    while hashed.read(&mut buffer).map_err(IngestError::Read)? > 0 {}
    if hashed.size > limit {
        return Err(MakeError::TooLarge { limit });
    }
    // Whether it is a tar counts once all has come.
    let digest = hashed.digest();
    unpacked.next_item::<()>().map_err(IngestError::Read)?;
    digest
}

/// Knows the digest of the tar that was read through it, and whether it looks like a whole one.
struct Hashed<R> {
    input: R,
    hasher: Sha256,
    size: u64,
    first: Vec<u8>,
    last: Vec<u8>,
}

impl<R: Read> Hashed<R> {
    fn new(input: R) -> Self {
        Self { input, hasher: Sha256::new(), size: 0, first: Vec::new(), last: Vec::new() }
    }

    /// A tar has a header whose checksum is right at its beginning, and a block of zeros at its end.
    fn digest(self) -> Result<Digest, MakeError> {
        let is_zero = |block: &[u8]| block.iter().all(|byte| *byte == 0);
        let mut header = tar::Header::new_old();
        let is_whole =
            self.first.len() == BLOCK && self.size.is_multiple_of(BLOCK as u64) && is_zero(&self.last);
        if is_whole {
            header.as_mut_bytes().copy_from_slice(&self.first);
        }
        if is_whole && (is_zero(&self.first) || header.cksum().ok() == Some(checksum(&self.first))) {
            return Ok(Digest::from(<[u8; 32]>::from(self.hasher.finalize())));
        }
        Err(MakeError::NotATar { packer: packer_of(&self.first) })
    }
}

fn packer_of(first: &[u8]) -> Option<&'static str> {
    match first {
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Some("xz"),
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        _ => None,
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        let bytes = &buffer[..read];
        self.hasher.update(bytes);
        self.size += read as u64;
        self.first.extend_from_slice(&bytes[..read.min(BLOCK - self.first.len())]);
        self.last.extend_from_slice(&bytes[read.saturating_sub(BLOCK)..]);
        let older = self.last.len().saturating_sub(BLOCK);
        self.last.drain(..older);
        Ok(read)
    }
}

/// Writes a blob of what is read through it. An error of the writing is inside that of the reading.
struct Copied<R> {
    input: R,
    writer: BlobWriter,
}

impl<R: Read> Read for Copied<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        if let Err(source) = self.writer.write_all(&buffer[..read]) {
            return Err(io::Error::other(StoreError::Access { path: self.writer.path(), source }));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{History, Platform, Store};

    fn tar(name: &str) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        builder.append_data(&mut header, name, &b"abc"[..]).unwrap();
        builder.into_inner().unwrap()
    }

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        (directory, store)
    }

    fn config(layers: &[&NewLayer]) -> Configuration {
        let mut config = Configuration::empty(&Platform::of_host());
        for layer in layers {
            config.add_layer(
                &layer.diff_id,
                &History { created: "2026-01-01T00:00:00Z".into(), ..History::default() },
            );
        }
        config
    }

    #[test]
    fn a_layer_is_packed_as_told_and_the_same_each_time() {
        let (_directory, store) = store();
        let ingest = store.add().unwrap();
        let tar = tar("file");
        for packing in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let layer = ingest.layer(&mut tar.as_slice(), packing).unwrap();
            assert_eq!(layer.diff_id, Digest::of(&tar));
            assert_eq!(ingest.layer(&mut tar.as_slice(), packing).unwrap(), layer);
            let blob = std::fs::read(store.blob_path(&layer.descriptor.digest)).unwrap();
            assert_eq!(
                (Digest::of(&blob), blob.len() as u64),
                (layer.descriptor.digest, layer.descriptor.size)
            );
            assert_eq!(Compression::of_magic(&blob), packing);
            assert_eq!(ingest.packed_layer(io::Cursor::new(blob), 1 << 20).unwrap(), layer);
        }
    }

    #[test]
    fn a_packed_layer_that_is_cut_off_leaves_nothing() {
        let (directory, store) = store();
        let ingest = store.add().unwrap();
        let layer = ingest.layer(&mut tar("lower").as_slice(), Compression::Gzip).unwrap();
        let path = store.blob_path(&layer.descriptor.digest);
        let blob = std::fs::read(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        let error =
            ingest.packed_layer(io::Cursor::new(blob[..blob.len() - 3].to_vec()), 1 << 20).unwrap_err();
        assert!(matches!(error, MakeError::Ingest(IngestError::Read(_))), "{error}");
        for part in ["ingest", "blobs/sha256"] {
            assert_eq!(std::fs::read_dir(directory.path().join(part)).unwrap().count(), 0, "{part}");
        }
    }

    #[test]
    fn what_is_no_whole_tar_is_refused() {
        let (_directory, store) = store();
        let ingest = store.add().unwrap();
        let tar = tar("file");
        for bad in [&b""[..], b"text", &tar[..tar.len() / 2], &tar[1..], &tar[..512], b"\xfd7zXZ\0 and so on"]
        {
            for packing in [Compression::None, Compression::Gzip] {
                let error = ingest.layer(&mut &*bad, packing).unwrap_err();
                assert!(matches!(error, MakeError::NotATar { .. }), "{error}");
                assert_eq!(error.hint().is_some(), bad.starts_with(b"\xfd"));
            }
            let packed = zstd::encode_all(bad, 1).unwrap();
            assert!(matches!(
                ingest.packed_layer(io::Cursor::new(packed), 1 << 20),
                Err(MakeError::NotATar { .. })
            ));
        }
        let empty = vec![0; 1024];
        assert!(ingest.layer(&mut empty.as_slice(), Compression::None).is_ok());
        assert_eq!(
            std::fs::read_dir(store.blob_path(&Digest::of(b"")).parent().unwrap()).unwrap().count(),
            1
        );
    }

    #[test]
    fn an_image_is_made_of_layers_and_found_by_its_name() {
        let (_directory, store) = store();
        let ingest = store.add().unwrap();
        let lower = ingest.layer(&mut tar("lower").as_slice(), Compression::None).unwrap();
        let upper = ingest.layer(&mut tar("upper").as_slice(), Compression::Zstd).unwrap();
        let layers = vec![lower.descriptor.clone(), upper.descriptor.clone()];
        let name: Reference = "made:1".parse().unwrap();
        let made =
            ingest.image(&config(&[&lower, &upper]), layers.clone(), std::slice::from_ref(&name)).unwrap();
        assert_eq!(store.find(&name, &Platform::of_host()).unwrap(), Some(made.clone()));
        assert_eq!(made.layers[1].descriptor(), upper.descriptor);
        let again = ingest.image(&config(&[&lower, &upper]), layers, &[]).unwrap();
        assert_eq!(again.manifest_digest, made.manifest_digest);
    }

    #[test]
    fn an_image_that_does_not_fit_gets_no_name() {
        let (_directory, store) = store();
        let ingest = store.add().unwrap();
        let layer = ingest.layer(&mut tar("lower").as_slice(), Compression::None).unwrap();
        let names = ["made:1".parse().unwrap()];
        let absent = Descriptor { digest: Digest::of(b"absent"), ..layer.descriptor.clone() };
        for layers in [vec![], vec![absent]] {
            assert!(ingest.image(&config(&[&layer]), layers, &names).is_err());
        }
        assert!(store.list().unwrap().is_empty());
    }
}
