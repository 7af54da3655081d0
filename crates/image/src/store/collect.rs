//! Removing what nothing refers to.
//!
//! Reachable is what the index names, and the manifests, configurations and layers behind that. Names go first and
//! blobs afterwards, so a collection that is killed half-way leaves garbage and never a gap.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use home::Exclusive;

use super::{Store, StoreError, accessing};
use crate::Digest;
use crate::manifest::{Descriptor, Document};

/// What a collection removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// How many blobs.
    pub blobs: u64,
    /// How many bytes they had.
    pub bytes: u64,
}

impl Store {
    /// Removes every blob that nothing refers to. `None` if content is being added right now: then nothing is
    /// removed, and whoever comes next can try again.
    pub fn collect(&self) -> Result<Option<Collected>, StoreError> {
        let Some(_content) = Exclusive::try_now(&self.content_lock())? else { return Ok(None) };
        let mut reachable = HashSet::new();
        for root in self.roots()? {
            self.mark(&root, &mut reachable)?;
        }
        self.sweep(&reachable).map(Some)
    }

    /// What a collection would remove if the images with these manifests were gone.
    pub fn collectable(&self, gone: &HashSet<Digest>) -> Result<Collected, StoreError> {
        let mut reachable = HashSet::new();
        for root in self.roots()?.iter().filter(|root| !gone.contains(&root.digest)) {
            self.mark(root, &mut reachable)?;
        }
        let mut collected = Collected::default();
        for (_, size) in self.unreachable(&reachable)? {
            collected.blobs += 1;
            collected.bytes += size;
        }
        Ok(collected)
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

    fn sweep(&self, reachable: &HashSet<Digest>) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        for (path, size) in self.unreachable(reachable)? {
            std::fs::remove_file(&path).map_err(accessing(&path))?;
            tracing::debug!(path = %path.display(), size, "removed a blob");
            collected.blobs += 1;
            collected.bytes += size;
        }
        Ok(collected)
    }

    /// The blobs that are not among these, with their sizes.
    fn unreachable(&self, reachable: &HashSet<Digest>) -> Result<Vec<(PathBuf, u64)>, StoreError> {
        let directory = self.blobs();
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(accessing(&directory))? {
            let path = entry.map_err(accessing(&directory))?.path();
            if digest_of(&path).is_some_and(|digest| reachable.contains(&digest)) {
                continue;
            }
            let size = std::fs::symlink_metadata(&path).map_err(accessing(&path))?.len();
            found.push((path, size));
        }
        Ok(found)
    }
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
        put(&store, OCI_CONFIG, b"garbage");
        store.add().unwrap().name(&manifest, &["kept".parse().unwrap()]).unwrap();
        assert_eq!(store.collectable(&[manifest.digest].into()).unwrap().blobs, 4);
        assert_eq!(store.collectable(&HashSet::new()).unwrap(), Collected { blobs: 1, bytes: 7 });
        assert_eq!(store.collect().unwrap(), Some(Collected { blobs: 1, bytes: 7 }));
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
}
