//! Which names there are: `index.json`, an OCI image index with one entry per name and platform.
//!
//! An entry's name stands in two annotations, in full: `io.containerd.image.name`, which says that it is a full
//! name, and `org.opencontainers.image.ref.name`, by which skopeo and umoci select. An entry without a name is
//! an image that was loaded without one. The file is replaced as a whole, under a lock.

use std::collections::BTreeMap;

use home::Exclusive;

use super::{Store, StoreError, accessing};
use crate::manifest::{Descriptor, Document, index_to_bytes};
use crate::{Digest, DocumentError, Platform, Reference};

pub(crate) const FULL_NAME: &str = "io.containerd.image.name";
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name, if it has one. An image of several names is listed once for each.
    pub reference: Option<Reference>,
    /// What identifies it.
    pub manifest_digest: Digest,
    /// The platform it is for.
    pub platform: Option<Platform>,
}

/// What became of a name that was taken away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Untagged {
    /// The names; none if there was no such image.
    pub names: Vec<Reference>,
    /// The images that went with them.
    pub gone: Vec<Digest>,
    /// The images that stay without a name.
    pub kept: Vec<Digest>,
}

/// The entries, as they are being changed.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Vec<Descriptor>,
}

impl Store {
    /// All images, by name.
    pub fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let mut all: Vec<Listed> = self.read_index()?.entries.iter().map(listed).collect();
        all.sort_by(|one, other| (&one.reference, &one.platform).cmp(&(&other.reference, &other.platform)));
        Ok(all)
    }

    /// The images of this name, one for each platform.
    pub fn called(&self, name: &Reference) -> Result<Vec<Listed>, StoreError> {
        Ok(self.list()?.into_iter().filter(|listed| listed.is_called(name)).collect())
    }

    /// The manifests of the images that have this name and no other.
    pub fn only_called(&self, name: &Reference) -> Result<Vec<Digest>, StoreError> {
        let (called, others): (Vec<_>, Vec<_>) =
            self.list()?.into_iter().partition(|listed| listed.is_called(name));
        let others: Vec<Digest> = others.into_iter().map(|listed| listed.manifest_digest).collect();
        let only = called.into_iter().map(|listed| listed.manifest_digest);
        Ok(only.filter(|digest| !others.contains(digest)).collect())
    }

    /// Gives the image named `source` another name, and tells whether there is such an image.
    pub fn tag(&self, source: &Reference, name: &Reference) -> Result<bool, StoreError> {
        self.change_index(|index| {
            let found: Vec<_> =
                index.entries.iter().filter(|entry| is_called(entry, source)).cloned().collect();
            let is_there = !found.is_empty();
            for entry in found {
                index.name(name, entry);
            }
            is_there
        })
    }

    /// Gives the image with this manifest a name, and tells whether there is such an image.
    pub fn tag_digest(&self, manifest: &Digest, name: &Reference) -> Result<bool, StoreError> {
        self.change_index(|index| {
            let found = index.entries.iter().find(|entry| entry.digest == *manifest).cloned();
            let unnamed = |entry: &Descriptor| entry.digest == *manifest && name_of(entry).is_none();
            index.entries.retain(|entry| !unnamed(entry));
            found.map(|entry| index.name(name, entry)).is_some()
        })
    }

    /// Takes the name away on all platforms, and tells whether there was such an image. What nothing refers
    /// to afterwards stays until [`Store::collect`].
    pub fn remove(&self, name: &Reference) -> Result<bool, StoreError> {
        self.change_index(|index| index.drop_where(|entry| name_of(entry).as_ref() == Some(name)))
    }

    /// Takes the name away on all platforms. An image that has no other name goes, unless `kept` says that somebody
    /// needs it: that one stays without a name. What nothing refers to afterwards stays until [`Store::collect`].
    pub fn untag(&self, name: &Reference, kept: &dyn Fn(&Digest) -> bool) -> Result<Untagged, StoreError> {
        self.change_index(|index| {
            let (named, rest): (Vec<_>, Vec<_>) =
                std::mem::take(&mut index.entries).into_iter().partition(|entry| is_called(entry, name));
            index.entries = rest;
            let mut untagged = Untagged::default();
            for entry in named {
                untagged.names.extend(name_of(&entry));
                if index.entries.iter().any(|other| other.digest == entry.digest) {
                    continue;
                }
                if kept(&entry.digest) {
                    untagged.kept.push(entry.digest);
                    index.keep(Descriptor { annotations: BTreeMap::new(), ..entry });
                } else {
                    untagged.gone.push(entry.digest);
                }
            }
            untagged
        })
    }

    /// Takes all names of the image with this manifest away, and keeps the image.
    pub fn remove_names(&self, manifest: &Digest) -> Result<(), StoreError> {
        self.change_index(|index| {
            let found = index.entries.iter().find(|entry| entry.digest == *manifest).cloned();
            index.drop_where(|entry| entry.digest == *manifest);
            if let Some(entry) = found {
                index.keep(Descriptor { annotations: BTreeMap::new(), ..entry });
            }
        })
    }

    /// Takes the image with this manifest away with all its names, and tells whether there was such an image.
    pub fn remove_digest(&self, manifest: &Digest) -> Result<bool, StoreError> {
        self.change_index(|index| index.drop_where(|entry| entry.digest == *manifest))
    }

    /// The entry of `name` for `platform`.
    pub(crate) fn entry(
        &self,
        name: &Reference,
        platform: &Platform,
    ) -> Result<Option<Descriptor>, StoreError> {
        let fits = |entry: &Descriptor| entry.platform.as_ref().is_none_or(|found| found.matches(platform));
        Ok(self.read_index()?.entries.into_iter().find(|entry| is_called(entry, name) && fits(entry)))
    }

    /// Every manifest that a name or nothing but the index keeps.
    pub(super) fn roots(&self) -> Result<Vec<Descriptor>, StoreError> {
        Ok(self.read_index()?.entries)
    }

    /// Replaces the index by what `change` makes of it.
    pub(super) fn change_index<T>(&self, change: impl FnOnce(&mut Index) -> T) -> Result<T, StoreError> {
        let _lock = Exclusive::wait(&self.root.join("index.lock"))?;
        let mut index = self.read_index()?;
        let outcome = change(&mut index);
        let path = self.root.join("index.json");
        home::replace_file(&path, &index_to_bytes(&index.entries)).map_err(accessing(&path))?;
        Ok(outcome)
    }

    fn read_index(&self) -> Result<Index, StoreError> {
        let path = self.root.join("index.json");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Index::default()),
            Err(error) => return Err(accessing(&path)(error)),
        };
        match Document::parse(&bytes) {
            Ok(Document::Index(entries)) => Ok(Index { entries }),
            Ok(Document::Manifest(_)) => Err(StoreError::Index { path, source: DocumentError::Ambiguous }),
            Err(source) => Err(StoreError::Index { path, source }),
        }
    }
}

impl Index {
    /// Points `name` at `entry` for the entry's platform.
    pub(super) fn name(&mut self, name: &Reference, mut entry: Descriptor) {
        self.entries.retain(|old| !(name_of(old).as_ref() == Some(name) && old.platform == entry.platform));
        for annotation in [FULL_NAME, REF_NAME] {
            entry.annotations.insert(annotation.to_owned(), name.full());
        }
        self.entries.push(entry);
    }

    /// Keeps `entry` without a name, unless some name keeps it already.
    pub(super) fn keep(&mut self, entry: Descriptor) {
        if !self.entries.iter().any(|old| old.digest == entry.digest) {
            self.entries.push(entry);
        }
    }

    /// An entry of this manifest, if there is one, without its name.
    pub(super) fn bare(&self, manifest: &Digest) -> Option<Descriptor> {
        let found = self.entries.iter().find(|entry| entry.digest == *manifest)?;
        Some(Descriptor { annotations: std::collections::BTreeMap::new(), ..found.clone() })
    }

    fn drop_where(&mut self, dropped: impl Fn(&Descriptor) -> bool) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| !dropped(entry));
        self.entries.len() < before
    }
}

fn listed(entry: &Descriptor) -> Listed {
    Listed { reference: name_of(entry), manifest_digest: entry.digest, platform: entry.platform.clone() }
}

fn name_of(entry: &Descriptor) -> Option<Reference> {
    entry.annotations.get(FULL_NAME).and_then(|name| name.parse().ok())
}

fn is_called(entry: &Descriptor, name: &Reference) -> bool {
    listed(entry).is_called(name)
}

impl Listed {
    /// A name with a digest also fits any image of the same repository that has this digest.
    pub(super) fn is_called(&self, name: &Reference) -> bool {
        let Some(own) = &self.reference else { return false };
        let same_repository = own.registry() == name.registry() && own.repository() == name.repository();
        own == name || (same_repository && name.digest() == Some(self.manifest_digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::OCI_MANIFEST;

    fn entry(content: &[u8], platform: &str) -> Descriptor {
        let plain = Descriptor::new(OCI_MANIFEST, Digest::of(content), content.len() as u64);
        Descriptor { platform: Some(platform.parse().unwrap()), ..plain }
    }

    fn reference(text: &str) -> Reference {
        text.parse().unwrap()
    }

    fn names(store: &Store) -> Vec<String> {
        let name = |listed: Listed| listed.reference.map_or("-".to_owned(), |name| name.to_string());
        store.list().unwrap().into_iter().map(name).collect()
    }

    #[test]
    fn a_name_is_of_one_image_per_platform_and_moves() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let ingest = store.add().unwrap();
        let name = reference("busybox");
        for (content, platform) in [(b"a", "linux/amd64"), (b"b", "linux/arm64"), (b"c", "linux/amd64")] {
            ingest.name(&entry(content, platform), std::slice::from_ref(&name)).unwrap();
        }
        let found = |platform: &str| store.entry(&name, &platform.parse().unwrap()).unwrap();
        assert_eq!(found("linux/amd64").unwrap().digest, Digest::of(b"c"));
        assert_eq!(found("linux/arm64/v8").unwrap().digest, Digest::of(b"b"));
        assert!(found("linux/riscv64").is_none());
        assert!(store.tag(&name, &reference("box:1")).unwrap());
        assert!(store.remove(&name).unwrap());
        assert!(!store.remove(&name).unwrap());
        assert_eq!(names(&store), ["box:1", "box:1"]);
    }

    #[test]
    fn an_image_is_found_by_its_repository_and_digest() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let image = entry(b"a", "linux/amd64");
        store.add().unwrap().name(&image, &[reference("busybox:1")]).unwrap();
        let platform = Platform::of_host();
        let pinned = reference(&format!("busybox@{}", image.digest));
        assert!(store.entry(&pinned, &platform).unwrap().is_some());
        let other = reference(&format!("other@{}", image.digest));
        assert!(store.entry(&other, &platform).unwrap().is_none());
        assert!(!store.remove(&pinned).unwrap());
    }

    #[test]
    fn an_image_without_a_name_is_kept_until_it_gets_one() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let image = entry(b"a", "linux/amd64");
        let ingest = store.add().unwrap();
        ingest.name(&image, &[]).unwrap();
        ingest.name(&image, &[]).unwrap();
        assert_eq!(names(&store), ["-"]);
        assert!(store.tag_digest(&image.digest, &reference("named")).unwrap());
        assert_eq!(names(&store), ["named:latest"]);
        assert!(store.remove_digest(&image.digest).unwrap());
        assert!(names(&store).is_empty());
    }

    #[test]
    fn an_image_goes_with_its_last_name_unless_somebody_needs_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let image = entry(b"a", "linux/amd64");
        store.add().unwrap().name(&image, &[reference("one"), reference("two")]).unwrap();
        let untagged = |name: &str, kept| store.untag(&reference(name), &|_| kept).unwrap();
        assert_eq!(untagged("none", false), Untagged::default());
        assert_eq!(untagged("one", false), Untagged { names: vec![reference("one")], ..Untagged::default() });
        assert_eq!(untagged("two", true).kept, [image.digest]);
        assert_eq!(names(&store), ["-"]);
        store.tag_digest(&image.digest, &reference("two")).unwrap();
        assert_eq!(untagged("two", false).gone, [image.digest]);
        assert!(names(&store).is_empty());
    }

    #[test]
    fn names_given_at_once_are_all_kept() {
        let directory = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let path = directory.path();
                scope.spawn(move || {
                    let store = Store::open(path).unwrap();
                    for number in 0..5 {
                        let name = reference(&format!("image-{thread}:{number}"));
                        store.add().unwrap().name(&entry(b"a", "linux/amd64"), &[name]).unwrap();
                    }
                });
            }
        });
        assert_eq!(names(&Store::open(directory.path()).unwrap()).len(), 40);
    }

    #[test]
    fn a_damaged_index_is_an_error_and_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let path = directory.path().join("index.json");
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(store.list(), Err(StoreError::Index { .. })));
        assert!(matches!(store.remove(&reference("a")), Err(StoreError::Index { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"{");
    }
}
