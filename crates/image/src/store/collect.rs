//! Removing what nothing refers to.
//!
//! Reachable is what the index names, and the manifests, configurations and layers behind that. Names go first and
//! blobs afterwards, so a collection that is killed half-way leaves garbage and never a gap.

use std::collections::HashSet;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use home::Exclusive;
use rustix::fs::{FlockOperation, flock};

use super::{Store, StoreError, accessing};
use crate::Digest;
use crate::manifest::{Descriptor, Document};

/// What a collection removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// How many files: blobs, and what is left of some.
    pub blobs: u64,
    /// How many bytes they took of the disk.
    pub bytes: u64,
}

/// A file of the store that nothing needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbage {
    /// The blob that it is; none if it is what somebody left who wanted to add one.
    pub digest: Option<Digest>,
    /// The file.
    pub path: PathBuf,
    /// What it takes of the disk, in bytes.
    pub allocated: u64,
    /// When it was written.
    pub modified: SystemTime,
}

impl Store {
    /// Removes every blob that nothing refers to, and what those left who wanted to add some and are gone. `None` if
    /// content is being added right now: then nothing is removed, and whoever comes next can try again.
    pub fn collect(&self) -> Result<Option<Collected>, StoreError> {
        let removed = self.collect_where(|_| true)?;
        Ok(removed.map(|removed| total(&removed)))
    }

    /// Removes what nothing refers to and `chosen` picks, and tells what that was; `None` like [`Store::collect`].
    pub fn collect_where(
        &self,
        chosen: impl Fn(&Garbage) -> bool,
    ) -> Result<Option<Vec<Garbage>>, StoreError> {
        let Some(_content) = Exclusive::try_now(&self.content_lock())? else { return Ok(None) };
        let mut removed = self.garbage(&HashSet::new())?;
        removed.retain(chosen);
        for garbage in &removed {
            let Garbage { path, allocated, .. } = garbage;
            std::fs::remove_file(path).map_err(accessing(path))?;
            tracing::debug!(path = %path.display(), allocated, "removed a blob");
        }
        Ok(Some(removed))
    }

    /// What a collection would remove if the images with these manifests were gone.
    pub fn collectable(&self, gone: &HashSet<Digest>) -> Result<Collected, StoreError> {
        Ok(total(&self.garbage(gone)?))
    }

    /// What nothing needs if the images with these manifests are gone. What is being added right now may be among it;
    /// nobody removes that.
    pub fn garbage(&self, gone: &HashSet<Digest>) -> Result<Vec<Garbage>, StoreError> {
        let mut reachable = HashSet::new();
        for root in self.roots()?.iter().filter(|root| !gone.contains(&root.digest)) {
            self.mark(root, &mut reachable)?;
        }
        let mut found = self.unreachable(&reachable)?;
        found.extend(self.abandoned()?);
        Ok(found)
    }

    /// A document that is missing leads nowhere; one that cannot be read stops the collection, since what it
    /// leads to is unknown.
    fn mark(&self, root: &Descriptor, reachable: &mut HashSet<Digest>) -> Result<(), StoreError> {
        if !reachable.insert(root.digest) {
            return Ok(());
        }
        let bytes = match self.read_document(&root.digest) {
            Ok(bytes) => bytes,
            Err(StoreError::Missing { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        match Document::parse(&bytes) {
            Ok(Document::Manifest(manifest)) => {
                reachable.insert(manifest.config.digest);
                reachable.extend(manifest.layers.iter().map(|layer| layer.digest));
                Ok(())
            }
            Ok(Document::Index(_)) => Ok(()),
            Err(source) => Err(StoreError::Document { digest: root.digest, source }),
        }
    }

    /// The blobs that are not among these.
    fn unreachable(&self, reachable: &HashSet<Digest>) -> Result<Vec<Garbage>, StoreError> {
        let mut found = Vec::new();
        for (path, metadata) in files(&self.blobs())? {
            let digest = digest_of(&path);
            if !digest.is_some_and(|digest| reachable.contains(&digest)) {
                found.extend(garbage(digest, path, &metadata));
            }
        }
        Ok(found)
    }

    /// What writers left that were killed, and who takes no room.
    fn abandoned(&self) -> Result<Vec<Garbage>, StoreError> {
        let mut found = Vec::new();
        for (path, metadata) in files(&self.ingest())? {
            let free = |file: std::fs::File| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
            if metadata.blocks() > 0 && std::fs::File::open(&path).is_ok_and(free) {
                found.extend(garbage(None, path, &metadata));
            }
        }
        Ok(found)
    }
}

fn total(garbage: &[Garbage]) -> Collected {
    let bytes = garbage.iter().map(|garbage| garbage.allocated).sum();
    Collected { blobs: garbage.len() as u64, bytes }
}

fn garbage(digest: Option<Digest>, path: PathBuf, metadata: &Metadata) -> Option<Garbage> {
    let modified = metadata.modified().ok()?;
    Some(Garbage { digest, path, allocated: metadata.blocks() * 512, modified })
}

/// What is in a directory; what goes meanwhile is left out.
fn files(directory: &Path) -> Result<Vec<(PathBuf, Metadata)>, StoreError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(accessing(directory))? {
        let path = entry.map_err(accessing(directory))?.path();
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) => found.push((path, metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(accessing(&path)(error)),
        }
    }
    Ok(found)
}

fn digest_of(path: &Path) -> Option<Digest> {
    format!("sha256:{}", path.file_name()?.to_str()?).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Compression, Manifest, OCI_CONFIG, OCI_MANIFEST};

    fn put(store: &Store, media_type: &str, content: &[u8]) -> Descriptor {
        let digest = store.add().unwrap().put(content).unwrap();
        Descriptor::new(media_type, digest, content.len() as u64)
    }

    #[test]
    fn what_the_index_leads_to_stays_and_the_rest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let layers = vec![put(&store, Compression::None.media_type(), b"layer")];
        let config = put(&store, OCI_CONFIG, b"config");
        let manifest = Manifest { media_type: OCI_MANIFEST.into(), config, layers };
        let manifest = put(&store, OCI_MANIFEST, &manifest.to_bytes());
        let garbage = put(&store, OCI_CONFIG, b"garbage");
        let bytes = std::fs::metadata(store.blob_path(&garbage.digest)).unwrap().blocks() * 512;
        store.add().unwrap().name(&manifest, &["kept".parse().unwrap()]).unwrap();
        assert_eq!(store.collectable(&[manifest.digest].into()).unwrap().blobs, 4);
        assert_eq!(store.collectable(&HashSet::new()).unwrap(), Collected { blobs: 1, bytes });
        assert_eq!(store.collect_where(|garbage| garbage.digest.is_none()).unwrap(), Some(Vec::new()));
        assert_eq!(store.collect().unwrap(), Some(Collected { blobs: 1, bytes }));
        assert_eq!(store.collect().unwrap(), Some(Collected::default()));
        store.remove(&"kept".parse().unwrap()).unwrap();
        assert_eq!(store.collect().unwrap().unwrap().blobs, 3);
    }

    #[test]
    fn nothing_is_removed_while_content_is_added() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let adding = store.add().unwrap();
        let digest = adding.put(b"not yet named").unwrap();
        assert_eq!(store.collect().unwrap(), None);
        assert!(store.has(&digest, 13));
        drop(adding);
        assert_eq!(store.collect().unwrap().unwrap().blobs, 1);
    }

    #[test]
    fn what_a_killed_writer_left_is_garbage_and_what_a_live_one_writes_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let left = store.ingest().join("blob-left");
        std::fs::write(&left, vec![1; 8192]).unwrap();
        let held = store.ingest().join("blob-held");
        let live = Exclusive::wait(&held).unwrap();
        std::fs::write(&held, vec![1; 8192]).unwrap();
        let garbage = store.garbage(&HashSet::new()).unwrap();
        assert_eq!(garbage.iter().map(|garbage| &garbage.path).collect::<Vec<_>>(), [&left]);
        assert_eq!(store.collect().unwrap().unwrap().blobs, 1);
        assert!(!left.exists() && held.exists());
        drop(live);
    }
}
