//! The entries of an archive: headers put together with the extensions before them, then the data.

use erofs::{Attributes, Device, Timestamp};
use tar::Header;

use super::LayerError;
use super::number;
use super::pax::Extensions;
use super::sparse::SparseMap;
use super::stream::Stream;
use crate::Limits;
use crate::merge::{EntryError, printable};

/// Bytes of a header, and what data is padded to.
const BLOCK: usize = 512;

/// A file as the archive describes it; nothing of it is checked against other files.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    pub(crate) attributes: Attributes,
    /// Full names and values.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What kind of file it is.
#[derive(Debug)]
pub(crate) enum EntryKind {
    Directory,
    /// A regular file whose data is in the archive: all of it, or segments.
    File(SparseMap),
    Symlink(Vec<u8>),
    /// Another name for the file at this path.
    HardLink(Vec<u8>),
    CharDevice(Device),
    BlockDevice(Device),
    Fifo,
}

/// An archive that is being read.
pub(crate) struct Archive<'f, 'p, 'l> {
    stream: Stream<'f, 'p>,
    limits: &'l Limits,
    globals: Extensions,
    /// Bytes of global headers so far.
    globals_size: usize,
    /// Data of the last entry that was not read yet, and what pads it.
    data: u64,
    padding: u64,
}

impl<'f, 'p, 'l> Archive<'f, 'p, 'l> {
    pub(crate) fn new(stream: Stream<'f, 'p>, limits: &'l Limits) -> Self {
        Self { stream, limits, globals: Extensions::default(), globals_size: 0, data: 0, padding: 0 }
    }

    /// The next entry, past what was not read of the last one.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, LayerError> {
        self.stream.skip(self.data)?;
        self.stream.skip(self.padding)?;
        (self.data, self.padding) = (0, 0);
        let mut extensions = self.globals.clone();
        let mut size = 0;
        while let Some(header) = self.header()? {
            match header.as_old().linkflag[0] {
                b'x' => extensions.apply(&self.extension(&header, &mut size)?)?,
                b'L' => extensions.path = Some(until_nul(self.extension(&header, &mut size)?)),
                b'K' => extensions.link = Some(until_nul(self.extension(&header, &mut size)?)),
                b'g' => {
                    let mut globals_size = self.globals_size;
                    let records = self.extension(&header, &mut globals_size)?;
                    self.globals_size = globals_size;
                    self.globals.apply(&records)?;
                    extensions.apply(&records)?;
                }
                _ => return self.entry(&header, extensions).map(Some),
            }
        }
        Ok(None)
    }

    /// Hands the next `length` bytes of the entry's data to `sink`.
    pub(crate) fn pass<E: From<LayerError>>(
        &mut self,
        length: u64,
        sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.data = self.data.checked_sub(length).expect("segments were checked to make up the data");
        self.stream.pass(length, sink)
    }

    /// Reads on to the end of the blob, and checks the archive's hash where it is known.
    pub(crate) fn finish(self, diff_id: Option<&[u8; 32]>) -> Result<(), LayerError> {
        self.stream.finish(diff_id)
    }

    /// The next header; `None` at the end of the archive, which two blocks of zeros should mark.
    fn header(&mut self) -> Result<Option<Header>, LayerError> {
        const ZEROS: [u8; BLOCK] = [0; BLOCK];
        let Some(block) = self.block()? else { return Ok(None) };
        if block == ZEROS {
            return match self.block()? {
                None | Some(ZEROS) => Ok(None),
                Some(_) => Err(LayerError::Header("a header behind a block of zeros")),
            };
        }
        let header = Header::from_byte_slice(&block).clone();
        if number::field(&header.as_old().cksum) != Some(checksum(&block)) {
            return Err(LayerError::Header("the checksum of a header is wrong"));
        }
        Ok(Some(header))
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, LayerError> {
        if self.stream.available()?.is_empty() {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        let mut filled = 0;
        self.stream.pass(BLOCK as u64, |piece| {
            block[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
            Ok::<_, LayerError>(())
        })?;
        Ok(Some(block))
    }

    /// The data of an extension header; `total` counts those that are kept together.
    fn extension(&mut self, header: &Header, total: &mut usize) -> Result<Vec<u8>, LayerError> {
        let size = number::unsigned_field(&header.as_old().size).and_then(|size| usize::try_from(size).ok());
        let size = size.ok_or(LayerError::Header("an invalid size"))?;
        *total = total.saturating_add(size);
        if *total > self.limits.max_header_bytes {
            return Err(LayerError::Header("extension headers are too large"));
        }
        let bytes = self.stream.read(size)?;
        self.stream.skip((size.next_multiple_of(BLOCK) - size) as u64)?;
        Ok(bytes)
    }

    fn entry(&mut self, header: &Header, mut extensions: Extensions) -> Result<Entry, LayerError> {
        let path = extensions.sparse.name.take().or(extensions.path.take());
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let failed = |source| LayerError::Entry { path: printable(&path), source };
        let attributes = attributes(header, &extensions).map_err(failed)?;
        let xattrs = std::mem::take(&mut extensions.xattrs);
        let kind = match special(header, &path, &mut extensions).map_err(failed)? {
            Some(kind) => kind,
            None => EntryKind::File(self.file(header, extensions)?),
        };
        Ok(Entry { path, kind, attributes, xattrs })
    }

    /// A regular file, the only kind that has data.
    fn file(&mut self, header: &Header, extensions: Extensions) -> Result<SparseMap, LayerError> {
        let size = extensions.size.or_else(|| number::unsigned_field(&header.as_old().size));
        let stored =
            size.filter(|&size| i64::try_from(size).is_ok()).ok_or(LayerError::Header("an invalid size"))?;
        self.padding = stored.next_multiple_of(BLOCK as u64) - stored;
        self.data = stored;
        if let (b'S', Some(gnu)) = (header.as_old().linkflag[0], header.as_gnu()) {
            return SparseMap::read_old(gnu, &mut self.stream, stored, self.limits);
        }
        if let Some((map, taken)) = extensions.sparse.into_map(&mut self.stream, stored, self.limits)? {
            self.data = stored - taken;
            return Ok(map);
        }
        Ok(SparseMap { size: stored, segments: vec![(0, stored)] })
    }
}

fn attributes(header: &Header, extensions: &Extensions) -> Result<Attributes, EntryError> {
    let old = header.as_old();
    let id = |extension: Option<u64>, bytes| {
        let number = extension.or_else(|| number::unsigned_field(bytes));
        number.and_then(|id| u32::try_from(id).ok()).filter(|&id| id < u32::MAX)
    };
    let seconds = || number::field(&old.mtime).map(|seconds| Timestamp { seconds, nanoseconds: 0 });
    Ok(Attributes {
        mode: (number::unsigned_field(&old.mode).ok_or(EntryError::Field("mode"))? & 0o7777) as u16,
        uid: id(extensions.uid, &old.uid).ok_or(EntryError::Field("owner"))?,
        gid: id(extensions.gid, &old.gid).ok_or(EntryError::Field("group"))?,
        mtime: extensions.mtime.or_else(seconds).ok_or(EntryError::Field("modification time"))?,
    })
}

/// What an entry is, unless it is a regular file.
fn special(
    header: &Header,
    path: &[u8],
    extensions: &mut Extensions,
) -> Result<Option<EntryKind>, EntryError> {
    let mut link = || extensions.link.take().or(header.link_name_bytes().map(Into::into)).unwrap_or_default();
    Ok(Some(match header.as_old().linkflag[0] {
        b'1' => EntryKind::HardLink(link()),
        b'2' => EntryKind::Symlink(link()),
        b'3' => EntryKind::CharDevice(device(header)?),
        b'4' => EntryKind::BlockDevice(device(header)?),
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        // Archives from before there was a type for directories.
        0 if path.ends_with(b"/") => EntryKind::Directory,
        0 | b'0' | b'7' => return Ok(None),
        b'S' if header.as_gnu().is_some() => return Ok(None),
        _ => return Err(EntryError::Type),
    }))
}

fn device(header: &Header) -> Result<Device, EntryError> {
    let numbers = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => Some((&ustar.dev_major, &ustar.dev_minor)),
        (_, Some(gnu)) => Some((&gnu.dev_major, &gnu.dev_minor)),
        _ => None,
    };
    let numbers = numbers
        .and_then(|(major, minor)| Some((number::unsigned_field(major)?, number::unsigned_field(minor)?)));
    numbers.and_then(|(major, minor)| Device::new(major, minor)).ok_or(EntryError::Field("device number"))
}

/// The sum of a header's bytes, those of the checksum itself counted as blanks.
fn checksum(block: &[u8; BLOCK]) -> i64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| i64::from(byte)).sum::<i64>();
    sum(&block[..148]) + 8 * i64::from(b' ') + sum(&block[156..])
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}
