//! Layers as they arrive: a blob is hashed and decompressed on one thread, its archive is hashed and read on
//! another, and what both hashes come to is held against what the image says.
//!
//! ```text
//! blob file ─▶ sha256 = digest ─▶ gzip, zstd or none ─▶ sha256 = diff ID ─▶ tar entries
//! └───────────────── inflate ─────────────────────┘     └─── stream ───┘     └ archive ┘
//! ```

pub(crate) mod archive;
pub(crate) mod inflate;
mod number;
mod pax;
pub(crate) mod sparse;
pub(crate) mod stream;

use std::fs::File;
use std::io;
use std::path::PathBuf;

use erofs::WriteError;
use home::Limit;

use crate::locked::Told;
use crate::merge::EntryError;

/// A layer in a file, compressed with gzip, zstd or not at all, which its first bytes tell.
#[derive(Debug, Clone)]
pub struct LayerBlob {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub digest: [u8; 32],
    /// SHA-256 of the archive in it.
    pub diff_id: [u8; 32],
    /// Bytes of the file.
    pub size: u64,
}

impl LayerBlob {
    pub(crate) fn unreadable(&self, source: io::Error) -> LayerError {
        LayerError::Read { path: self.path.clone(), source }
    }
}

/// Opens a layer's file, if it is as long as it should be.
pub(crate) fn open_blob(layer: &LayerBlob) -> Result<File, LayerError> {
    let failed = |source| layer.unreadable(source);
    let file = File::open(&layer.path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?.len();
    if found != layer.size {
        return Err(LayerError::Size { expected: layer.size, found });
    }
    Ok(file)
}

/// Why a layer could not be converted.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The blob could not be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The blob's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The blob is longer or shorter than the image says.
    #[error("the blob has {found} bytes, not {expected}")]
    Size {
        /// Bytes according to the image.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// The blob does not hash to its digest.
    #[error("the blob's digest is `sha256:{found}`")]
    Digest {
        /// What it hashes to, in hexadecimal.
        found: String,
    },
    /// The archive does not hash to its diff ID.
    #[error("the archive's digest is `sha256:{found}`, not `sha256:{expected}`")]
    DiffId {
        /// What the image says, in hexadecimal.
        expected: String,
        /// What it hashes to, in hexadecimal.
        found: String,
    },
    /// The compressed data is damaged or ends too early.
    #[error("failed to decompress")]
    Decompress(#[source] io::Error),
    /// What it was converted to could not be written.
    #[error("failed to write the file system")]
    Write(#[source] WriteError),
    /// What the process said that read it.
    #[error(transparent)]
    Told(#[from] Told),
    /// The archive ends inside an entry.
    #[error("the archive is cut off")]
    Truncated,
    /// A header of the archive breaks the format, or is of a kind not known.
    #[error("the archive is damaged: {0}")]
    Header(&'static str),
    /// The archives of the image are larger than the limit.
    #[error("the layers unpack to more than {limit} bytes")]
    TooLarge {
        /// The limit, of all layers together.
        limit: u64,
    },
    /// An entry of the archive cannot be part of an image.
    #[error("cannot unpack `{path}`")]
    Entry {
        /// The entry's name, unprintable characters escaped.
        path: String,
        /// What is wrong with it.
        source: EntryError,
    },
}

impl LayerError {
    /// The limit that was passed, if that is why.
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::TooLarge { .. } | Self::Write(WriteError::TooLarge { .. }) => Some(Limit::UnpackedSize),
            Self::Entry { source, .. } => match source {
                EntryError::TooManyEntries { .. } => Some(Limit::Files),
                EntryError::TooMuchMetadata { .. } => Some(Limit::NamesSize),
                EntryError::Write(WriteError::TooLarge { .. }) => Some(Limit::UnpackedSize),
                _ => None,
            },
            Self::Told(told) => told.limit(),
            _ => None,
        }
    }
}
