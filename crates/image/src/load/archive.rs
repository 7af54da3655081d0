//! The files of an image archive after one pass over its tar.
//!
//! Small files are kept in memory, since most of them are never needed; all others are blobs of the store. A link
//! (old `docker save` has them for layers that images share) is followed inside the archive.

use std::collections::HashMap;
use std::io::Read;

use super::tar_entries::{Entry, TarEntries};
use super::{Files, LoadError};
use crate::manifest::MAX_DOCUMENT;
use crate::store::{Ingest, IngestError};
use crate::{Digest, Store};

const MAX_ENTRIES: u64 = 20_000;
/// Of a file that is kept in memory.
const SMALL: u64 = 64 << 10;
/// Of all files that are kept in memory.
const MAX_SMALL: u64 = 16 << 20;
const MAX_LINKS: usize = 16;

/// The files of one archive, by their paths in it.
pub(super) struct Archive<'a> {
    store: &'a Store,
    ingest: &'a Ingest,
    files: HashMap<String, Held>,
    in_memory: u64,
}

enum Held {
    Small(Vec<u8>),
    Blob { digest: Digest, size: u64 },
    Link(String),
}

impl<'a> Archive<'a> {
    /// Reads a tar to its end; its files may have `limit` bytes in all.
    pub(super) fn read(
        input: &mut dyn Read,
        store: &'a Store,
        ingest: &'a Ingest,
        limit: u64,
    ) -> Result<Self, LoadError> {
        let mut archive = Self { store, ingest, files: HashMap::new(), in_memory: 0 };
        let mut tar = TarEntries::new(input);
        let (mut entries, mut bytes) = (0, 0_u64);
        while let Some(entry) = tar.next()? {
            entries += 1;
            if let Entry::File { size, .. } = &entry {
                bytes = bytes.saturating_add(*size);
            }
            if entries > MAX_ENTRIES {
                return Err(LoadError::TooLarge { what: "the number of files", limit: MAX_ENTRIES });
            }
            if bytes > limit {
                return Err(LoadError::Unpacked { limit });
            }
            archive.take(entry, &mut tar)?;
        }
        Ok(archive)
    }

    /// Whether there is such a file.
    pub(super) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    fn take(&mut self, entry: Entry, content: &mut dyn Read) -> Result<(), LoadError> {
        let (path, held) = match entry {
            Entry::File { path, size } => (inside("", &path), Some(self.hold(content, size)?)),
            Entry::Symlink { path, target } => {
                let path = inside("", &path);
                let directory =
                    path.as_deref().and_then(|path| path.rsplit_once('/')).map_or("", |(parent, _)| parent);
                let target = inside(directory, &target);
                (path, target.map(Held::Link))
            }
            Entry::HardLink { path, target } => (inside("", &path), inside("", &target).map(Held::Link)),
            Entry::Other => (None, None),
        };
        if let (Some(path), Some(held)) = (path, held) {
            self.files.insert(path, held);
        }
        Ok(())
    }

    fn hold(&mut self, content: &mut dyn Read, size: u64) -> Result<Held, LoadError> {
        if size <= SMALL && self.in_memory + size <= MAX_SMALL {
            self.in_memory += size;
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).map_err(LoadError::Read)?;
            return Ok(Held::Small(bytes));
        }
        let (digest, size) = store_stream(self.ingest, content)?;
        Ok(Held::Blob { digest, size })
    }

    fn find(&self, path: &str) -> Option<&Held> {
        let mut found = self.files.get(path)?;
        for _ in 0..MAX_LINKS {
            let Held::Link(target) = found else { return Some(found) };
            found = self.files.get(target)?;
        }
        None
    }
}

impl Files for Archive<'_> {
    fn document(&self, path: &str) -> Result<Option<Vec<u8>>, LoadError> {
        match self.find(path) {
            Some(Held::Small(bytes)) => Ok(Some(bytes.clone())),
            Some(Held::Blob { size, .. }) if *size > MAX_DOCUMENT => {
                Err(LoadError::TooLarge { what: "a document", limit: MAX_DOCUMENT })
            }
            Some(Held::Blob { digest, .. }) => Ok(Some(self.store.read_document(digest)?)),
            Some(Held::Link(_)) | None => Ok(None),
        }
    }

    fn blob(&self, path: &str) -> Result<Option<(Digest, u64)>, LoadError> {
        match self.find(path) {
            Some(Held::Small(bytes)) => Ok(Some((self.ingest.put(bytes)?, bytes.len() as u64))),
            Some(Held::Blob { digest, size }) => Ok(Some((*digest, *size))),
            Some(Held::Link(_)) | None => Ok(None),
        }
    }
}

/// Makes a stream a blob of the store. What fails to read is the source's fault, what fails to write ours.
pub(super) fn store_stream(ingest: &Ingest, content: &mut dyn Read) -> Result<(Digest, u64), LoadError> {
    ingest.blob(content).map_err(|error| match error {
        IngestError::Read(source) => LoadError::Read(source),
        IngestError::Store(source) => LoadError::Store(source),
    })
}

/// The plain form of `path` seen from `directory`; `None` if it leads out of the archive.
fn inside(directory: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> =
        if path.starts_with('/') { Vec::new() } else { directory.split('/').collect() };
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().filter(|part| !part.is_empty())?),
            part => parts.push(part),
        }
    }
    parts.retain(|part| !part.is_empty());
    Some(parts.join("/")).filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside_the_archive() {
        for (directory, path, expected) in [
            ("", "./a//b", Some("a/b")),
            ("x", "../y/layer.tar", Some("y/layer.tar")),
            ("x/z", "a", Some("x/z/a")),
            ("x", "/a", Some("a")),
            ("x", "../../etc/passwd", None),
            ("", "..", None),
            ("", ".", None),
        ] {
            assert_eq!(inside(directory, path).as_deref(), expected, "{directory} {path}");
        }
    }
}
