//! Reading everything again: whether the blobs of the store's images are there and what their names say.

use std::collections::{BTreeMap, BTreeSet};

use super::{Store, StoreError};
use crate::manifest::{Document, DocumentError};
use crate::{Digest, Reference};

/// What a look through the store found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many images were looked at.
    pub images: usize,
    /// How many blobs.
    pub blobs: usize,
    /// How many bytes they have.
    pub bytes: u64,
    /// What is wrong, by digest.
    pub problems: Vec<Problem>,
}

/// A blob that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The blob.
    pub digest: Digest,
    /// What is wrong with it.
    pub fault: Fault,
    /// The images that need it.
    pub names: Vec<Reference>,
}

/// What is wrong with a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not there.
    Missing,
    /// It was something else than its name says, and was removed.
    Damaged,
    /// It is what its name says, and describes no image.
    NoImage,
}

/// A blob that is needed, and by whom.
#[derive(Default)]
struct Needed {
    size: u64,
    names: BTreeSet<Reference>,
}

impl Store {
    /// Reads all blobs of the images with these manifests, or of all images. What is damaged is removed, so that the
    /// next pull or load brings it again. `progress` hears how many of all bytes are read.
    pub fn verify(
        &self,
        only: Option<&[Digest]>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Verified, StoreError> {
        // Nothing is removed by others meanwhile.
        let _adding = self.add()?;
        let mut verified = Verified::default();
        let needed = self.needed(only, &mut verified)?;
        let total = needed.values().map(|needed| needed.size).sum();
        for (digest, needed) in needed {
            let was_there = self.blob_path(&digest).exists();
            let fault = if was_there { Fault::Damaged } else { Fault::Missing };
            if self.check(&digest)? {
                verified.blobs += 1;
            } else {
                verified.problems.push(problem(digest, fault, needed.names));
            }
            verified.bytes += needed.size;
            progress(verified.bytes, total);
        }
        verified.problems.sort_by_key(|problem| problem.digest);
        Ok(verified)
    }

    /// The blobs of the images; manifests are read here.
    fn needed(
        &self,
        only: Option<&[Digest]>,
        verified: &mut Verified,
    ) -> Result<BTreeMap<Digest, Needed>, StoreError> {
        let mut images: BTreeMap<Digest, BTreeSet<Reference>> = BTreeMap::new();
        for listed in self.list()? {
            if only.is_none_or(|only| only.contains(&listed.manifest_digest)) {
                images.entry(listed.manifest_digest).or_default().extend(listed.reference);
            }
        }
        verified.images = images.len();
        let mut needed: BTreeMap<Digest, Needed> = BTreeMap::new();
        for (digest, names) in images {
            match self.blobs_of(&digest) {
                Ok(blobs) => {
                    for (blob, size) in blobs {
                        let needed = needed.entry(blob).or_default();
                        needed.size = size;
                        needed.names.extend(names.iter().cloned());
                    }
                }
                Err(Ok(fault)) => verified.problems.push(problem(digest, fault, names)),
                Err(Err(error)) => return Err(error),
            }
        }
        Ok(needed)
    }

    /// The blobs of one image with their sizes, its manifest first; or what is wrong with that, or with the store.
    fn blobs_of(&self, manifest: &Digest) -> Result<Vec<(Digest, u64)>, Result<Fault, StoreError>> {
        let bytes = match self.read_document(manifest) {
            Ok(bytes) => bytes,
            Err(StoreError::Missing { .. }) => return Err(Ok(Fault::Missing)),
            Err(StoreError::Damaged { .. } | StoreError::TooLarge { .. }) => {
                return Err(self.check(manifest).map(|_| Fault::Damaged));
            }
            Err(error) => return Err(Err(error)),
        };
        let parts = match Document::parse(&bytes) {
            Ok(Document::Manifest(parts)) => Ok(parts),
            Ok(Document::Index(_)) => Err(DocumentError::Ambiguous),
            Err(error) => Err(error),
        };
        let parts = parts.map_err(|_| Ok(Fault::NoImage))?;
        let blobs = parts.layers.iter().chain([&parts.config]).map(|blob| (blob.digest, blob.size));
        Ok(std::iter::once((*manifest, bytes.len() as u64)).chain(blobs).collect())
    }
}

fn problem(digest: Digest, fault: Fault, names: BTreeSet<Reference>) -> Problem {
    Problem { digest, fault, names: names.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Compression, Configuration, History, Platform};

    #[test]
    fn what_is_missing_or_damaged_is_found_with_the_images_that_need_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let ingest = store.add().unwrap();
        let tar = vec![0; 1024];
        let layer = ingest.layer(&mut tar.as_slice(), Compression::None).unwrap();
        let mut config = Configuration::empty(&Platform::of_host());
        config.add_layer(&layer.diff_id, &History::default());
        let names = ["one".parse().unwrap(), "two".parse().unwrap()];
        let image = ingest.image(&config, vec![layer.descriptor.clone()], &names).unwrap();
        drop(ingest);
        let mut seen = (0, 0);
        let good = store.verify(None, &mut |done, total| seen = (done, total)).unwrap();
        assert_eq!((good.images, good.blobs, good.problems.len()), (1, 3, 0));
        assert_eq!(seen, (good.bytes, good.bytes));

        std::fs::write(&image.layers[0].path, vec![1; 1024]).unwrap();
        let bad = store.verify(Some(&[image.manifest_digest]), &mut |_, _| ()).unwrap();
        assert_eq!(
            bad.problems,
            [Problem { digest: layer.descriptor.digest, fault: Fault::Damaged, names: names.to_vec() }]
        );
        let again = store.verify(None, &mut |_, _| ()).unwrap();
        assert_eq!(again.problems[0].fault, Fault::Missing);
        std::fs::write(store.blob_path(&image.manifest_digest), "x").unwrap();
        assert_eq!(store.verify(None, &mut |_, _| ()).unwrap().problems[0].fault, Fault::Damaged);
        assert_eq!(store.verify(Some(&[]), &mut |_, _| ()).unwrap(), Verified::default());
    }
}
