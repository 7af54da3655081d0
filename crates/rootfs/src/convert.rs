//! The layers of an image to one EROFS image, in one pass.
//!
//! Data goes from the archives straight to the image; only names and metadata are kept in memory, until all
//! layers are read and it is known which of them count. Data of files that did not last is punched out.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel, sync_channel};

use erofs::{Content, Extent, Inode, WriteError, Writer};
use home::{ContentLimits, Limit};
use serde::{Deserialize, Serialize};

use crate::chain::hex;
use crate::layer::archive::{Archive, Entry, EntryKind};
use crate::layer::inflate::{Open, inflate};
use crate::layer::sparse::SparseMap;
use crate::layer::stream::{Feed, Stream};
use crate::layer::{LayerBlob, LayerError, open_blob};
use crate::locked::{self, Told};
use crate::merge::{EntryError, LeftOut, Merge, Place, printable};

/// Buffers that the reading thread may be ahead.
const AHEAD: usize = 8;

/// What a conversion may take: [`ContentLimits`], and what nobody has to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of the image, holes included, and likewise bytes of all archives together.
    pub max_image_bytes: u64,
    /// Entries of all layers, directories that are made for them included.
    pub max_entries: u64,
    /// Bytes of names, link targets and extended attributes of all layers.
    pub max_metadata_bytes: u64,
    /// Bytes of the extension headers of one entry: 1 MiB.
    pub max_header_bytes: usize,
}

/// What a conversion came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Converted {
    /// Bytes of the image, holes included.
    pub bytes: u64,
    /// Files of all kinds.
    pub files: u64,
    /// What is in the layers and not in the image.
    pub left_out: LeftOut,
}

/// Why layers could not be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A layer is damaged, hostile, or not what the image says.
    #[error("cannot use layer `sha256:{digest}`")]
    Layer {
        /// The blob's digest in hexadecimal.
        digest: String,
        /// What is wrong with it.
        source: LayerError,
    },
    /// The image could not be written.
    #[error("failed to make the root file system")]
    Write(#[from] WriteError),
    /// Not all layers came.
    #[error("only {came} of {expected} layers came")]
    Incomplete {
        /// How many came.
        came: usize,
        /// How many the image has.
        expected: usize,
    },
    /// What the process said that read the layers.
    #[error(transparent)]
    Told(Told),
}

impl Default for Limits {
    fn default() -> Self {
        ContentLimits::default().into()
    }
}

impl From<ContentLimits> for Limits {
    fn from(limits: ContentLimits) -> Self {
        Self {
            max_image_bytes: limits.unpacked_size,
            max_entries: limits.files,
            max_metadata_bytes: limits.names_size,
            max_header_bytes: 1 << 20,
        }
    }
}

impl ConvertError {
    pub(crate) fn of_layer(digest: &[u8; 32], source: LayerError) -> Self {
        Self::Layer { digest: hex(digest), source }
    }

    /// The limit that was passed, if that is why.
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::Layer { source, .. } => source.limit(),
            Self::Write(WriteError::TooLarge { .. }) => Some(Limit::UnpackedSize),
            Self::Told(told) => told.limit(),
            Self::Write(_) | Self::Incomplete { .. } => None,
        }
    }
}

/// Writes the root file system that `layers` make, lowest first, to `output`, in place of what is in it.
///
/// Blobs are checked against their digests and diff IDs in the same pass, so the image counts only once this
/// returns. `progress` is told the bytes of blobs read so far. The image is not flushed to disk.
pub fn convert(
    layers: &[LayerBlob],
    output: &File,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<Converted, ConvertError> {
    let layers = Layers { expected: layers.len(), arriving: layers.iter().cloned() };
    anywhere(layers, Meaning::Layer, output, limits, progress)
}

/// The same for `expected` layers, lowest first, that come one after the other: each is merged when it is there.
///
/// If `arriving` ends before all of them came, the image is [`Incomplete`](ConvertError::Incomplete).
pub fn convert_arriving(
    arriving: Receiver<LayerBlob>,
    expected: usize,
    output: &File,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<Converted, ConvertError> {
    let layers = Layers { expected, arriving: arriving.into_iter().take(expected) };
    anywhere(layers, Meaning::Layer, output, limits, progress)
}

/// The same for one archive that is no layer: a tar file, compressed or not, in which every name is just a name.
///
/// The file is checked against its digest in the same pass.
pub fn convert_archive(
    archive: &ArchiveFile,
    output: &File,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<Converted, LayerError> {
    let ArchiveFile { path, digest, size } = archive.clone();
    let blob = LayerBlob { path, digest, diff_id: [0; 32], size };
    let layers = Layers { expected: 1, arriving: std::iter::once(blob) };
    anywhere(layers, Meaning::Plain, output, limits, progress).map_err(|error| match error {
        ConvertError::Layer { source, .. } => source,
        ConvertError::Told(told) => LayerError::Told(told),
        ConvertError::Write(error) => LayerError::Write(error),
        ConvertError::Incomplete { .. } => unreachable!("there is one, and it is here"),
    })
}

/// A tar file that is no layer.
#[derive(Debug, Clone)]
pub struct ArchiveFile {
    /// The file, compressed with gzip, zstd or not at all, which its first bytes tell.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub digest: [u8; 32],
    /// Bytes of the file.
    pub size: u64,
}

/// What the names in an archive mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Meaning {
    /// It is a layer: some names hide what is below, and its hash is known.
    Layer,
    /// Themselves.
    Plain,
}

/// Layers, lowest first.
pub(crate) struct Layers<I> {
    pub(crate) expected: usize,
    pub(crate) arriving: I,
}

/// In a process that may do nothing else, if there is a program for that. Where there are no layers, there is nothing to
/// read.
fn anywhere(
    layers: Layers<impl Iterator<Item = LayerBlob> + Send>,
    meaning: Meaning,
    output: &File,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<Converted, ConvertError> {
    let converted = if let Some(program) = reader::program().filter(|_| layers.expected > 0) {
        locked::convert(program, layers, meaning, output, limits, progress)?
    } else {
        let open = |layer: &LayerBlob| Ok(Box::new(open_blob(layer)?) as Box<dyn Read + Send>);
        read_and_write(layers, meaning, output, limits, progress, &open)?
    };
    // A reader's own log is heard by nobody.
    converted.left_out.warn();
    Ok(converted)
}

pub(crate) fn read_and_write(
    layers: Layers<impl Iterator<Item = LayerBlob> + Send>,
    meaning: Meaning,
    output: &File,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
    open: &Open<'_>,
) -> Result<Converted, ConvertError> {
    let (send, messages) = sync_channel(AHEAD);
    let (spare, reuse) = channel();
    let Layers { expected, arriving } = layers;
    std::thread::scope(|scope| {
        scope.spawn(move || inflate(arriving, open, &send, &reuse));
        // Owned here, so that the reading thread ends when this fails.
        let feed = Feed { messages, spare, progress, received: 0, limit: limits.max_image_bytes };
        write_image(expected, meaning, output, limits, feed)
    })
}

fn write_image(
    expected: usize,
    meaning: Meaning,
    output: &File,
    limits: &Limits,
    mut feed: Feed<'_>,
) -> Result<Converted, ConvertError> {
    let mut merge = Merge::new(limits);
    let mut writer = Writer::new(output, limits.max_image_bytes)?;
    let mut came = 0;
    while let Some((digest, diff_id)) = feed.next_layer() {
        merge.begin_layer();
        let archive = Archive::new(Stream::new(&mut feed), limits);
        let diff_id = (meaning == Meaning::Layer).then_some(&diff_id);
        add_layer(archive, diff_id, &mut merge, &mut writer)
            .map_err(|source| ConvertError::of_layer(&digest, source))?;
        came += 1;
    }
    if came != expected {
        return Err(ConvertError::Incomplete { came, expected });
    }
    let (tree, left_out) = merge.into_parts();
    let written = writer.finish(&tree)?;
    Ok(Converted { bytes: written.bytes, files: written.inodes, left_out })
}

fn add_layer(
    mut archive: Archive<'_, '_, '_>,
    diff_id: Option<&[u8; 32]>,
    merge: &mut Merge<'_>,
    writer: &mut Writer<'_>,
) -> Result<(), LayerError> {
    while let Some(entry) = archive.next()? {
        let path = printable(&entry.path);
        let meaning = if diff_id.is_some() { Meaning::Layer } else { Meaning::Plain };
        add_entry(entry, meaning, &mut archive, merge, writer).map_err(|failure| match failure {
            Failure::Entry(source) => LayerError::Entry { path, source },
            Failure::Layer(error) => error,
        })?;
    }
    archive.finish(diff_id)
}

/// What stopped an entry: something about it, or about its layer.
enum Failure {
    Entry(EntryError),
    Layer(LayerError),
}

impl From<EntryError> for Failure {
    fn from(error: EntryError) -> Self {
        Self::Entry(error)
    }
}

impl From<LayerError> for Failure {
    fn from(error: LayerError) -> Self {
        Self::Layer(error)
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self::Entry(EntryError::Write(error))
    }
}

fn add_entry(
    entry: Entry,
    meaning: Meaning,
    archive: &mut Archive<'_, '_, '_>,
    merge: &mut Merge<'_>,
    writer: &mut Writer<'_>,
) -> Result<(), Failure> {
    let place = match meaning {
        Meaning::Layer => Place::parse(&entry.path)?,
        Meaning::Plain => Place::plain(&entry.path)?,
    };
    match place {
        Place::Ignored => Ok(()),
        Place::Whiteout(way, name) => Ok(merge.hide(&way, name)?),
        Place::Opaque(way) => Ok(merge.hide_all(&way)?),
        Place::Root => {
            let EntryKind::Directory = entry.kind else { return Err(EntryError::Root.into()) };
            let xattrs = merge.xattrs(b"/", &entry.xattrs)?;
            merge.root(entry.attributes, xattrs);
            Ok(())
        }
        Place::Named(way, name) => {
            let parent = merge.make_way(&way)?;
            let (attributes, xattrs) = (entry.attributes, merge.xattrs(&entry.path, &entry.xattrs)?);
            let content = match entry.kind {
                EntryKind::Directory => return Ok(merge.insert_directory(parent, name, attributes, xattrs)?),
                EntryKind::HardLink(target) => return Ok(merge.link(parent, name, &target)?),
                EntryKind::File(map) => Content::File(store(&map, archive, writer)?),
                EntryKind::Symlink(target) => merge.symlink(target)?,
                EntryKind::CharDevice(device) => Content::CharDevice(device),
                EntryKind::BlockDevice(device) => Content::BlockDevice(device),
                EntryKind::Fifo => Content::Fifo,
            };
            Ok(merge.insert(parent, name, Inode { attributes, xattrs, content })?)
        }
    }
}

/// Streams the data of a regular file to the image.
fn store(
    map: &SparseMap,
    archive: &mut Archive<'_, '_, '_>,
    writer: &mut Writer<'_>,
) -> Result<Extent, Failure> {
    let mut file = writer.file()?;
    let mut end = 0;
    for &(offset, length) in &map.segments {
        file.hole(offset - end)?;
        archive.pass(length, |bytes| file.write(bytes).map_err(Failure::from))?;
        end = offset + length;
    }
    file.hole(map.size - end)?;
    Ok(file.finish())
}
