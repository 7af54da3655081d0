//! The files of an OCI image layout that lies unpacked in a directory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::archive::store_stream;
use super::{Files, LoadError};
use crate::Digest;
use crate::manifest::MAX_DOCUMENT;
use crate::store::Ingest;

/// A layout's directory. It is asked for paths that a layout defines, never for one that a document names.
pub(super) struct Directory<'a> {
    root: &'a Path,
    ingest: &'a Ingest,
}

impl<'a> Directory<'a> {
    /// The layout at `root`.
    pub(super) fn new(root: &'a Path, ingest: &'a Ingest) -> Self {
        Self { root, ingest }
    }

    /// Opens regular files only: anything else might never end.
    fn open(&self, path: &str) -> Result<Option<File>, LoadError> {
        let path = self.root.join(path);
        let failed = |source| LoadError::Open { path: path.clone(), source };
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => File::open(&path).map(Some).map_err(failed),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

impl Files for Directory<'_> {
    fn document(&self, path: &str) -> Result<Option<Vec<u8>>, LoadError> {
        let Some(file) = self.open(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).map_err(LoadError::Read)?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(LoadError::TooLarge { what: "a document".into(), limit: MAX_DOCUMENT });
        }
        Ok(Some(bytes))
    }

    fn blob(&self, path: &str) -> Result<Option<(Digest, u64)>, LoadError> {
        let Some(mut file) = self.open(path)? else { return Ok(None) };
        store_stream(self.ingest, &mut file).map(Some)
    }
}
