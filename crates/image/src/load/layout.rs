//! Images in an OCI image layout: `index.json` leads to everything, by digest.
//!
//! A name is `io.containerd.image.name`, or `org.opencontainers.image.ref.name` if that has a `:` or `/`. A bare word
//! there may be a tag as well as a name (umoci and skopeo write both), so it is not guessed at.

use super::{Files, Found, LoadError, LoadOptions, checked_platform};
use crate::manifest::{self, Descriptor, Document, DocumentError, Manifest};
use crate::store::{FULL_NAME, Ingest, REF_NAME};
use crate::{Digest, Platform, Reference};

const INDEX: &str = "index.json";
/// How many indexes may stand between `index.json` and a manifest.
const MAX_DEPTH: u32 = 2;

/// Brings every image of the layout into the store that is for the wanted platform.
pub(super) fn images(
    files: &dyn Files,
    ingest: &Ingest,
    options: &LoadOptions,
) -> Result<Vec<Found>, LoadError> {
    let bytes = files.document(INDEX)?.ok_or(LoadError::NotAnImage)?;
    let Document::Index(entries) = parse(INDEX, &bytes)? else {
        return Err(LoadError::Document { path: INDEX.to_owned(), source: DocumentError::Ambiguous });
    };
    let layout = Layout { files, ingest, platform: &options.platform };
    let mut found: Vec<Found> = Vec::new();
    let mut unfit = Vec::new();
    for (name, group) in by_name(&entries)? {
        let outcome = layout.chosen(&group, MAX_DEPTH);
        match (outcome, name) {
            (Ok(manifest), name) => add(&mut found, manifest, name),
            (Err(LoadError::Platform { available, .. }), None) => unfit.extend(available),
            (Err(error), _) => return Err(error),
        }
    }
    if found.is_empty() {
        return Err(LoadError::Platform { wanted: options.platform.clone(), available: unfit });
    }
    Ok(found)
}

/// The entries of one name belong together; each without a name is for itself.
type Group<'a> = (Option<Reference>, Vec<&'a Descriptor>);

fn by_name(entries: &[Descriptor]) -> Result<Vec<Group<'_>>, LoadError> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for entry in entries {
        let name = name_of(entry)?;
        match groups.iter_mut().find(|(known, _)| name.is_some() && *known == name) {
            Some((_, group)) => group.push(entry),
            None => groups.push((name, vec![entry])),
        }
    }
    Ok(groups)
}

fn name_of(entry: &Descriptor) -> Result<Option<Reference>, LoadError> {
    let full = entry.annotations.get(FULL_NAME);
    let name = full.or_else(|| entry.annotations.get(REF_NAME).filter(|name| name.contains([':', '/'])));
    Ok(name.map(|name| name.parse()).transpose()?)
}

fn add(found: &mut Vec<Found>, manifest: Descriptor, name: Option<Reference>) {
    match found.iter_mut().find(|image| image.manifest.digest == manifest.digest) {
        Some(known) => known.names.extend(name),
        None => found.push(Found { manifest, names: name.into_iter().collect() }),
    }
}

struct Layout<'a> {
    files: &'a dyn Files,
    ingest: &'a Ingest,
    platform: &'a Platform,
}

impl Layout<'_> {
    /// The manifest among `entries` that is for the wanted platform, its blobs in the store.
    fn chosen(&self, entries: &[&Descriptor], depth: u32) -> Result<Descriptor, LoadError> {
        let entry = manifest::choose(entries, self.platform).ok_or_else(|| LoadError::Platform {
            wanted: self.platform.clone(),
            available: manifest::platforms(entries),
        })?;
        let path = path_of(&entry.digest);
        let bytes = self.document(&path, &entry.digest)?;
        match parse(&path, &bytes)? {
            Document::Manifest(manifest) => self.manifest(&path, &bytes, &manifest),
            Document::Index(next) if depth > 0 => self.chosen(&next.iter().collect::<Vec<_>>(), depth - 1),
            Document::Index(_) => Err(LoadError::Document { path, source: DocumentError::Indexes }),
        }
    }

    fn manifest(&self, path: &str, bytes: &[u8], manifest: &Manifest) -> Result<Descriptor, LoadError> {
        let failed = |source| LoadError::Document { path: path.to_owned(), source };
        manifest.check().map_err(failed)?;
        let config_path = path_of(&manifest.config.digest);
        let config = self.document(&config_path, &manifest.config.digest)?;
        let parsed = manifest::parse_config(&config)
            .map_err(|source| LoadError::Document { path: config_path, source })?;
        manifest::diff_ids(&parsed, manifest.layers.len()).map_err(failed)?;
        let platform = checked_platform(&parsed, self.platform)?;
        self.ingest.put(&config)?;
        manifest.layers.iter().try_for_each(|layer| self.layer(layer))?;
        let digest = self.ingest.put(bytes)?;
        let plain = Descriptor::new(&manifest.media_type, digest, bytes.len() as u64);
        Ok(Descriptor { platform: Some(platform), ..plain })
    }

    fn layer(&self, layer: &Descriptor) -> Result<(), LoadError> {
        let path = path_of(&layer.digest);
        let found = self.files.blob(&path)?;
        match found {
            Some(real) if real == (layer.digest, layer.size) => Ok(()),
            Some(_) => Err(LoadError::WrongContent { path, expected: layer.digest }),
            None => Err(LoadError::Missing { path }),
        }
    }

    fn document(&self, path: &str, digest: &Digest) -> Result<Vec<u8>, LoadError> {
        let bytes = self.files.document(path)?.ok_or_else(|| LoadError::Missing { path: path.to_owned() })?;
        if Digest::of(&bytes) == *digest {
            return Ok(bytes);
        }
        Err(LoadError::WrongContent { path: path.to_owned(), expected: *digest })
    }
}

fn parse(path: &str, bytes: &[u8]) -> Result<Document, LoadError> {
    Document::parse(bytes).map_err(|source| LoadError::Document { path: path.to_owned(), source })
}

fn path_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
