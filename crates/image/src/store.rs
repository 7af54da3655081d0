//! The images on this host: one OCI image layout, shared by any number of processes.
//!
//! ```text
//! images/
//! ├── oci-layout       the layout's version
//! ├── index.json       which names there are, and the manifest of each per platform
//! ├── blobs/sha256/    manifests, configurations and layers by digest; complete, verified, never changed
//! ├── ingest/          blobs on their way in, each locked by its writer
//! ├── index.lock       held while the index is replaced
//! └── content.lock     shared by those who add content, exclusive to the one who removes it
//! ```
//!
//! Other tools can read the layout too (`skopeo inspect oci:images:docker.io/library/busybox:latest`). A blob gets
//! its name only after its bytes are verified and flushed, and the index names an image only after all its
//! blobs are there: whatever is killed whenever, what the index names is whole. A name that moves on leaves
//! blobs behind that nothing refers to; [`Store::collect`] removes them.

mod collect;
mod index;
mod ingest;
mod lookup;
mod verify;

pub use collect::{Collected, Garbage};
pub(crate) use index::{FULL_NAME, REF_NAME};
pub use index::{Listed, Untagged};
pub(crate) use ingest::{BlobWriter, Claim};
pub use ingest::{Ingest, IngestError};
pub use lookup::{FoundImage, LookupError};
pub use verify::{Fault, Problem, Verified};

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use home::LockError;

use crate::manifest::MAX_DOCUMENT;
use crate::{Digest, DocumentError};

/// The image layout in one directory.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// Why the store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A lock could not be taken.
    #[error("failed to lock the image store")]
    Lock(#[from] LockError),
    /// A file could not be read or written.
    #[error("failed to access `{}` in the image store", path.display())]
    Access {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The index is not what this program writes.
    #[error("the image index `{}` is damaged", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// A manifest or configuration is larger than any honest one.
    #[error("document `{digest}` is larger than {MAX_DOCUMENT} bytes")]
    TooLarge {
        /// The blob.
        digest: Digest,
    },
    /// A blob that the index leads to is not there.
    #[error("blob `{digest}` is missing")]
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// A blob is not what its name says.
    #[error("blob `{digest}` is damaged")]
    Damaged {
        /// The blob.
        digest: Digest,
    },
    /// A manifest or configuration makes no sense.
    #[error("document `{digest}` does not describe an image")]
    Document {
        /// The blob.
        digest: Digest,
        /// What is wrong with it.
        source: DocumentError,
    },
}

impl Store {
    /// Opens the layout at `directory`, making it if needed.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let store = Self { root: directory.to_owned() };
        for part in ["blobs/sha256", "ingest"] {
            let path = directory.join(part);
            std::fs::create_dir_all(&path).map_err(accessing(&path))?;
        }
        store.write_marks()?;
        Ok(store)
    }

    /// A layout has its version and an index from the start.
    fn write_marks(&self) -> Result<(), StoreError> {
        let mark = self.root.join("oci-layout");
        if mark.exists() {
            return Ok(());
        }
        self.change_index(|_| ())?;
        home::replace_file(&mark, br#"{"imageLayoutVersion":"1.0.0"}"#).map_err(accessing(&mark))
    }

    /// The file of a blob, whether it is there or not.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Whether the blob is there in full.
    pub(crate) fn has(&self, digest: &Digest, size: u64) -> bool {
        std::fs::metadata(self.blob_path(digest)).is_ok_and(|metadata| metadata.len() == size)
    }

    /// Reads a blob in full and tells whether it is what its name says. One that is not is removed, so that the
    /// next pull or load brings it again.
    pub fn check(&self, digest: &Digest) -> Result<bool, StoreError> {
        let path = self.blob_path(digest);
        match std::fs::File::open(&path).and_then(Digest::of_stream) {
            Ok(found) if found == *digest => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(accessing(&path)(error)),
        }
        tracing::warn!(%digest, "removing a damaged blob");
        std::fs::remove_file(&path).map_err(accessing(&path))?;
        Ok(false)
    }

    /// A manifest or configuration: bounded, and verified once more.
    pub(crate) fn read_document(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(digest);
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Missing { digest: *digest });
            }
            Err(error) => return Err(accessing(&path)(error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).map_err(accessing(&path))?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(StoreError::TooLarge { digest: *digest });
        }
        if Digest::of(&bytes) != *digest {
            return Err(StoreError::Damaged { digest: *digest });
        }
        Ok(bytes)
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }

    fn content_lock(&self) -> PathBuf {
        self.root.join("content.lock")
    }
}

impl StoreError {
    /// What the user can do about it, if anything is known to help.
    pub fn hint(&self) -> Option<String> {
        let is_incomplete = matches!(self, Self::Missing { .. } | Self::Damaged { .. });
        is_incomplete.then(|| "pull or load the image again; what is damaged is replaced".to_owned())
    }
}

fn accessing(path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Access { path, source }
}
