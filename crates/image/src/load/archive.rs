//! The files of an image archive after one pass over its entries, as a reader tells them.
//!
//! Nothing that it says is believed: lengths are those that come, digests are made here, and all is bounded here.
//! Small files are kept in memory, since most of them are never needed; all others are blobs of the store. A link
//! (old `docker save` has them for layers that images share) is followed inside the archive.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;

use reader::Items;

use super::foreign::Told;
use super::tar_entries::{Entry, MAX_PATH, damaged};
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

/// A file that an archive is in, and who hears how far it is read.
pub(super) struct Progressing<'p> {
    pub(super) file: &'p File,
    pub(super) so_far: &'p mut dyn FnMut(u64),
}

/// The file from some place on. A reader says where: it is bytes of the archive anyway, and nothing beyond its end.
struct Place<'f, 'p> {
    file: &'f mut Progressing<'p>,
    at: u64,
}

/// Content that a reader sends; how far it is in the file, the file's position tells.
struct Noticed<'f, 'p> {
    content: &'f mut Items,
    file: &'f mut Progressing<'p>,
}

impl Read for Place<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.file.read_at(buffer, self.at)?;
        self.at = self.at.saturating_add(read as u64);
        (self.file.so_far)(self.at);
        Ok(read)
    }
}

impl Read for Noticed<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        let mut file = self.file.file;
        (self.file.so_far)(file.stream_position()?);
        Ok(read)
    }
}

enum Held {
    Small(Vec<u8>),
    Blob { digest: Digest, size: u64 },
    Link(String),
}

impl<'a> Archive<'a> {
    /// Reads all entries; their files may have `limit` bytes in all.
    pub(super) fn read(
        entries: &mut Items,
        file: Option<&mut Progressing<'_>>,
        store: &'a Store,
        ingest: &'a Ingest,
        limit: u64,
    ) -> Result<Self, LoadError> {
        let mut archive = Self { store, ingest, files: HashMap::new(), in_memory: 0 };
        let mut file = file;
        let (mut came, mut bytes) = (0, 0_u64);
        while let Some(Told { entry, at }) = entries.next_item().map_err(LoadError::Read)? {
            came += 1;
            if let Entry::File { size, .. } = &entry {
                bytes = bytes.saturating_add(*size);
            }
            if came > MAX_ENTRIES {
                return Err(LoadError::TooLarge { what: "the number of files".into(), limit: MAX_ENTRIES });
            }
            if bytes > limit {
                return Err(LoadError::Unpacked { limit });
            }
            if entry.longest_path() > MAX_PATH {
                return Err(LoadError::TooLarge { what: "a path".into(), limit: MAX_PATH as u64 });
            }
            match (at, &mut file) {
                (Some(at), Some(file)) => {
                    let content = &mut Place { file, at }.take(entry.size());
                    archive.take(entry, content)?;
                }
                (_, Some(file)) => archive.take(entry, &mut Noticed { content: entries, file })?,
                (_, None) => archive.take(entry, entries)?,
            }
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

    fn hold(&mut self, content: &mut dyn Read, said: u64) -> Result<Held, LoadError> {
        let mut content = content.take(said.saturating_add(1));
        let held = self.hold_all(&mut content, said)?;
        let size = match &held {
            Held::Small(bytes) => bytes.len() as u64,
            Held::Blob { size, .. } => *size,
            Held::Link(_) => said,
        };
        if size == said { Ok(held) } else { Err(damaged("a file is not as long as it says")) }
    }

    fn hold_all(&mut self, content: &mut dyn Read, size: u64) -> Result<Held, LoadError> {
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
                Err(LoadError::TooLarge { what: "a document".into(), limit: MAX_DOCUMENT })
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
