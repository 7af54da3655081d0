//! From a plain root file system, as a tar, to an image of one layer.

use std::io::{BufReader, Cursor, Read};

use crate::store::IngestError;
use crate::{Change, Compression, Configuration, History, Image, MakeError, Platform, Reference, Store};

/// What to make of a root file system.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// For which platform its programs are.
    pub platform: Platform,
    /// How it wants to be run.
    pub changes: Vec<Change>,
    /// What to remember of its coming.
    pub history: History,
    /// Its name, if it gets one.
    pub name: Option<Reference>,
    /// What the tar may take, unpacked.
    pub unpacked_size: u64,
}

/// Makes an image of the root file system in `tar`, which may be packed with gzip or zstd and is kept so; one that is
/// not is packed with gzip.
pub fn import(
    store: &Store,
    tar: impl Read + Send + 'static,
    options: &ImportOptions,
) -> Result<Image, MakeError> {
    let ingest = store.add()?;
    let mut tar = BufReader::with_capacity(256 << 10, tar);
    let mut first = Vec::new();
    tar.by_ref().take(4).read_to_end(&mut first).map_err(IngestError::Read)?;
    let mut whole = Cursor::new(first.clone()).chain(tar);
    let layer = match Compression::of_magic(&first) {
        Compression::None => ingest.layer(&mut whole, Compression::Gzip)?,
        Compression::Gzip | Compression::Zstd => ingest.packed_layer(whole, options.unpacked_size)?,
    };
    let mut config = Configuration::empty(&options.platform);
    config.change(&options.changes);
    config.add_layer(&layer.diff_id, &options.history);
    ingest.image(&config, vec![layer.descriptor], options.name.as_slice())
}
