//! How content gets into the store: written to `ingest/`, hashed on the way, named by its digest at the end.
//!
//! A half-written blob is locked by its writer. Whoever adds content first removes those whose writers are gone.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;

use home::{Exclusive, Shared};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::{Store, StoreError, accessing};
use crate::manifest::Descriptor;
use crate::{Digest, Reference};

/// The right to add content. While it is held, nothing is removed from the store, named or not.
#[derive(Debug)]
pub struct Ingest {
    store: Store,
    _content: Shared,
}

/// A blob on its way in; dropping it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct BlobWriter {
    store: Store,
    file: NamedTempFile<Exclusive>,
    hasher: Sha256,
    size: u64,
}

/// The right to fetch a blob, which others wait for.
#[derive(Debug)]
pub(crate) struct Claim(Option<Exclusive>);

impl Drop for Claim {
    fn drop(&mut self) {
        // Who waits makes the file again; one that cannot be removed goes with what killed writers left.
        let _ = self.0.take().map(Exclusive::delete);
    }
}

impl Store {
    /// Waits for a removal that is under way, and clears up after writers that were killed.
    pub fn add(&self) -> Result<Ingest, StoreError> {
        let content = Shared::wait(&self.content_lock())?;
        self.remove_abandoned();
        Ok(Ingest { store: self.clone(), _content: content })
    }

    /// Best effort: what cannot be removed now is tried again next time.
    fn remove_abandoned(&self) {
        let Ok(entries) = std::fs::read_dir(self.ingest()) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if let Ok(Some(abandoned)) = Exclusive::try_now(&path) {
                let _ = abandoned.delete();
            }
        }
    }
}

/// Why content could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// It could not be read, or not be unpacked.
    #[error("failed to read the content")]
    Read(#[source] io::Error),
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Ingest {
    /// The store that is added to.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Makes a blob of all that `content` gives, and tells its digest and size.
    pub fn blob(&self, content: &mut dyn Read) -> Result<(Digest, u64), IngestError> {
        let mut writer = self.writer()?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => writer
                    .write_all(&buffer[..read])
                    .map_err(|source| StoreError::Access { path: writer.path(), source })?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(IngestError::Read(error)),
            }
        }
        let size = writer.size();
        Ok((writer.finish()?, size))
    }

    /// Starts a blob.
    pub(crate) fn writer(&self) -> Result<BlobWriter, StoreError> {
        let directory = self.store.ingest();
        let file = tempfile::Builder::new()
            .prefix("blob-")
            .rand_bytes(16)
            .make_in(&directory, |path| Exclusive::wait(path).map_err(io::Error::other))
            .map_err(accessing(&directory))?;
        Ok(BlobWriter { store: self.store.clone(), file, hasher: Sha256::new(), size: 0 })
    }

    /// The right to fetch a blob; `None` while somebody else has it.
    pub(crate) fn try_claim(&self, digest: &Digest) -> Result<Option<Claim>, StoreError> {
        let path = self.store.ingest().join(format!("claim-{}", digest.hex()));
        Ok(Exclusive::try_now(&path)?.map(|lock| Claim(Some(lock))))
    }

    /// Adds a small blob, also in place of one that was damaged.
    pub fn put(&self, content: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(content);
        if self.store.read_document(&digest).is_err() {
            let mut writer = self.writer()?;
            writer.write_all(content).map_err(accessing(writer.file.path()))?;
            writer.finish()?;
        }
        Ok(digest)
    }

    /// Gives `manifest`, whose blobs are all there, the `names`; or keeps it without one.
    pub fn name(&self, manifest: &Descriptor, names: &[Reference]) -> Result<(), StoreError> {
        let blobs = self.store.blobs();
        home::sync_directory(&blobs).map_err(accessing(&blobs))?;
        self.store.change_index(|index| {
            let bare = Descriptor { annotations: BTreeMap::new(), ..manifest.clone() };
            match names {
                [] => index.keep(bare),
                names => names.iter().for_each(|name| index.name(name, bare.clone())),
            }
        })
    }
}

impl Ingest {
    /// Gives `manifest` the `name`. If the image with the manifest `base` loses its last name so, it is kept without
    /// one.
    pub(crate) fn name_over(
        &self,
        manifest: &Descriptor,
        name: &Reference,
        base: &Digest,
    ) -> Result<(), StoreError> {
        let blobs = self.store.blobs();
        home::sync_directory(&blobs).map_err(accessing(&blobs))?;
        self.store.change_index(|index| {
            let kept = index.bare(base);
            index.name(name, Descriptor { annotations: BTreeMap::new(), ..manifest.clone() });
            if let Some(kept) = kept {
                index.keep(kept);
            }
        })
    }
}

impl BlobWriter {
    /// How many bytes were written.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Forgets what was written.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        let mut file = self.file.as_file().file();
        file.set_len(0)?;
        file.rewind()?;
        self.hasher = Sha256::new();
        self.size = 0;
        Ok(())
    }

    /// The digest of what was written.
    pub(crate) fn digest(&self) -> Digest {
        Digest::from(<[u8; 32]>::from(self.hasher.clone().finalize()))
    }

    /// Where the blob is being written, for messages.
    pub(crate) fn path(&self) -> PathBuf {
        self.file.path().to_owned()
    }

    /// Flushes the blob and puts it into the store under its digest.
    pub(crate) fn finish(self) -> Result<Digest, StoreError> {
        let digest = self.digest();
        let place = self.store.blob_path(&digest);
        self.file.as_file().file().sync_data().map_err(accessing(self.file.path()))?;
        self.file.persist(&place).map_err(|error| accessing(&place)(error.error))?;
        Ok(digest)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.as_file().file().write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(store: &Store) -> usize {
        std::fs::read_dir(store.ingest()).unwrap().count()
    }

    #[test]
    fn a_blob_appears_under_its_digest_when_it_is_finished() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut writer = store.add().unwrap().writer().unwrap();
        writer.write_all(b"wrong").unwrap();
        writer.restart().unwrap();
        writer.write_all(b"content").unwrap();
        assert!(!store.has(&Digest::of(b"content"), 7));
        assert_eq!(writer.finish().unwrap(), Digest::of(b"content"));
        assert_eq!(store.read_document(&Digest::of(b"content")).unwrap(), b"content");
        assert_eq!(entries(&store), 0);
    }

    #[test]
    fn what_a_killed_writer_left_is_removed_by_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        std::fs::write(store.ingest().join("blob-left"), "half").unwrap();
        let ingest = store.add().unwrap();
        assert_eq!(entries(&store), 0);
        let live = ingest.writer().unwrap();
        let second = store.add().unwrap();
        assert_eq!(entries(&store), 1);
        drop((live, second));
        assert_eq!(entries(&store), 0);
    }

    #[test]
    fn a_damaged_document_is_not_returned() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let digest = store.add().unwrap().put(b"content").unwrap();
        std::fs::write(store.blob_path(&digest), "tampered").unwrap();
        assert!(matches!(store.read_document(&digest), Err(StoreError::Damaged { .. })));
        std::fs::remove_file(store.blob_path(&digest)).unwrap();
        assert!(matches!(store.read_document(&digest), Err(StoreError::Missing { .. })));
    }
}
