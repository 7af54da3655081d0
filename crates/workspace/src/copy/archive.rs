//! Files as a tar archive, for `-`.
//!
//! Names in an archive are whatever somebody wrote: those that lead out of the archive are refused, and what is
//! left goes through the same stream as everything else.

use std::ffi::OsStr;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use tar::EntryType;
use transfer::{
    Entry, Header, Kind, Reader, Receiving, Report, Sending, StreamError, Time, UnpackError, Writer,
};

use super::CopyError;

/// The prefix of a pax record that holds an extended attribute, as GNU tar and bsdtar write it.
const ATTRIBUTE: &str = "SCHILY.xattr.";

/// How much is read at once, in bytes.
const BLOCK: usize = 64 * 1024;

/// Writes the stream `input` to `out` as an archive whose root is called `name`.
pub(super) fn write(
    input: impl Read,
    exchange: Option<Receiving>,
    out: impl Write,
    name: Option<&[u8]>,
    progress: &mut dyn FnMut(u64),
) -> Result<Report, CopyError> {
    let mut reader = Reader::new(BufReader::new(input)).exchanging(exchange);
    let mut builder = tar::Builder::new(BufWriter::with_capacity(BLOCK, out));
    let mut report = Report::default();
    let mut next = Next::of(&reader.next_header().map_err(stream_error)?);
    loop {
        let (mut header, path, link, size) = match next {
            Next::Entry { header, path, link, size } => (header, named(name, &path), link, size),
            Next::Attribute(..) | Next::Segments => {
                return Err(CopyError::Protocol("an attribute is out of place".to_owned()));
            }
            Next::End => break,
        };
        let mut attributes = Vec::new();
        let mut has_data = false;
        next = loop {
            if reader.data_follows().map_err(stream_error)? {
                has_data = true;
                break Next::End;
            }
            match Next::of(&reader.next_header().map_err(stream_error)?) {
                Next::Attribute(name, value) => attributes.push((format!("{ATTRIBUTE}{name}"), value)),
                other => break other,
            }
        };
        if !attributes.is_empty() {
            let records = attributes.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
            builder.append_pax_extensions(records).map_err(archive_error)?;
        }
        let path = Path::new(OsStr::from_bytes(&path));
        let appended = match (link, size) {
            (Some(link), _) => {
                // A hard link's target is a name in the archive.
                let link = if header.entry_type() == EntryType::Link { named(name, &link) } else { link };
                builder.append_link(&mut header, path, Path::new(OsStr::from_bytes(&link)))
            }
            (None, Some(size)) => {
                // Without data it is one hole, and the reader is beyond it.
                let data = if has_data { 0 } else { size };
                let total = report.bytes;
                let mut content = Content { reader: &mut reader, size, position: 0, data, progress, total };
                let appended = builder.append_data(&mut header, path, &mut content);
                report.bytes = content.total;
                if appended.is_ok() && has_data {
                    next = Next::of(&reader.next_header().map_err(stream_error)?);
                }
                appended
            }
            (None, None) => builder.append_data(&mut header, path, io::empty()),
        };
        appended.map_err(archive_error)?;
        report.entries += 1;
    }
    builder.into_inner().and_then(|mut out| out.flush()).map_err(archive_error)?;
    Ok(report)
}

fn named(root: Option<&[u8]>, path: &[u8]) -> Vec<u8> {
    match (root, path) {
        (None, b"") => b".".to_vec(),
        (None, path) => path.to_vec(),
        (Some(root), b"") => root.to_vec(),
        (Some(root), path) => [root, b"/", path].concat(),
    }
}

/// What comes next in a stream, without what it borrows.
enum Next {
    Entry { header: Box<tar::Header>, path: Vec<u8>, link: Option<Vec<u8>>, size: Option<u64> },
    Attribute(String, Vec<u8>),
    Segments,
    End,
}

impl Next {
    fn of(header: &Header<'_>) -> Self {
        match header {
            Header::Entry(entry) => Self::entry(entry),
            Header::Attribute { name, value } => {
                Self::Attribute(String::from_utf8_lossy(name).into_owned(), value.to_vec())
            }
            Header::Segments(_) => Self::Segments,
            Header::Data { .. } | Header::Exchanged { .. } | Header::End | Header::Failed(_) => Self::End,
        }
    }

    fn entry(entry: &Entry<'_>) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_mode(entry.mode.into());
        header.set_uid(entry.uid.into());
        header.set_gid(entry.gid.into());
        header.set_mtime(u64::try_from(entry.modified.seconds).unwrap_or(0));
        header.set_size(0);
        let mut device = |kind, major, minor| {
            header.set_entry_type(kind);
            // The GNU format has both numbers.
            let _ = header.set_device_major(major).and_then(|()| header.set_device_minor(minor));
        };
        let (mut link, mut size) = (None, None);
        match entry.kind {
            Kind::Directory | Kind::Content => header.set_entry_type(EntryType::Directory),
            Kind::File { size: length } => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(length);
                size = Some(length);
            }
            Kind::Symlink { target } => {
                header.set_entry_type(EntryType::Symlink);
                link = Some(target.to_vec());
            }
            Kind::Link { to } => {
                header.set_entry_type(EntryType::Link);
                link = Some(to.to_vec());
            }
            Kind::Fifo => header.set_entry_type(EntryType::Fifo),
            Kind::Character { major, minor } => device(EntryType::Char, major, minor),
            Kind::Block { major, minor } => device(EntryType::Block, major, minor),
        }
        Self::Entry { header: Box::new(header), path: entry.path.to_vec(), link, size }
    }
}

/// A file's content, holes as zeros.
struct Content<'a, R> {
    reader: &'a mut Reader<R>,
    size: u64,
    position: u64,
    /// Where the next data is, or the last was.
    data: u64,
    progress: &'a mut dyn FnMut(u64),
    total: u64,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.position).unwrap_or(usize::MAX);
        let room = buffer.len().min(left);
        if room == 0 {
            return Ok(0);
        }
        if self.position >= self.data {
            let length = self.reader.read_data(&mut buffer[..room]).map_err(io::Error::other)?;
            if length > 0 {
                self.total += length as u64;
                (self.progress)(self.total);
                return Ok(self.advance(length));
            }
            self.data = self.size;
            if self.reader.data_follows().map_err(io::Error::other)?
                && let Header::Data { offset, .. } = self.reader.next_header().map_err(io::Error::other)?
            {
                self.data = offset;
            }
            if self.position >= self.data {
                return self.read(buffer);
            }
        }
        let hole = usize::try_from(self.data - self.position).map_or(room, |hole| hole.min(room));
        buffer[..hole].fill(0);
        Ok(self.advance(hole))
    }
}

impl<R> Content<'_, R> {
    fn advance(&mut self, length: usize) -> usize {
        self.position += length as u64;
        self.data = self.data.max(self.position);
        length
    }
}

/// Reads an archive, and writes it to `out` as the stream of what goes into a directory.
pub(super) fn read(
    input: impl Read,
    attributes: bool,
    out: &mut dyn Write,
    exchange: Option<Sending>,
) -> Result<(), CopyError> {
    let mut writer = Writer::new(BufWriter::with_capacity(BLOCK, out)).exchanging(exchange);
    let outcome = entries(input, attributes, &mut writer);
    let last = match &outcome {
        Ok(()) => writer.header(&Header::End),
        Err(CopyError::Archive(reason)) => writer.header(&Header::Failed(reason)),
        Err(_) => return outcome,
    };
    last.and_then(|()| writer.flush())?;
    outcome
}

fn entries(input: impl Read, attributes: bool, writer: &mut Writer<impl Write>) -> Result<(), CopyError> {
    let mut input = BufReader::with_capacity(BLOCK, input);
    let start = io::BufRead::fill_buf(&mut input).map_err(archive_error)?;
    if let Some(program) = decompressor(start) {
        let reason =
            format!("it is compressed; decompress it on its way: {program} -dc FILE | microagent cp - ...");
        return Err(CopyError::Archive(reason));
    }
    let root = Entry {
        path: b"",
        kind: Kind::Content,
        mode: 0o755,
        uid: 0,
        gid: 0,
        modified: Time { seconds: 0, nanoseconds: 0 },
    };
    writer.header(&Header::Entry(root))?;
    let mut archive = tar::Archive::new(input);
    let mut buffer = vec![0; writer.block()];
    for entry in archive.entries().map_err(archive_error)? {
        let mut entry = entry.map_err(archive_error)?;
        let path = inside(&entry.path_bytes())?;
        // The root itself is there already.
        if path.is_empty() {
            continue;
        }
        let Some(written) = head(&mut entry, &path, writer)? else { continue };
        if attributes {
            write_attributes(&mut entry, writer)?;
        }
        if let Written::File { sparse } = written {
            // The smaller the pieces, the more of its holes stay.
            let most = if sparse { BLOCK } else { buffer.len() };
            let mut position = 0;
            while let length @ 1.. = fill(&mut entry, &mut buffer[..most]).map_err(archive_error)? {
                // What was a hole arrives as zeros.
                if !(sparse && buffer[..length].iter().all(|byte| *byte == 0)) {
                    writer.bytes(position, &buffer[..length])?;
                }
                position += length as u64;
            }
        }
    }
    Ok(())
}

/// Reads until the buffer is full, or nothing is left; tells how much is there.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..])? {
            0 => break,
            length => filled += length,
        }
    }
    Ok(filled)
}

/// What an entry's header was written as.
enum Written {
    File { sparse: bool },
    Other,
}

/// Writes an entry's header; `None` for what is no file.
fn head(
    entry: &mut tar::Entry<'_, impl Read>,
    path: &[u8],
    writer: &mut Writer<impl Write>,
) -> Result<Option<Written>, CopyError> {
    let header = entry.header().clone();
    let size = entry.size();
    let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
    let number = |number: io::Result<Option<u32>>| number.ok().flatten().unwrap_or(0);
    let (major, minor) = (number(header.device_major()), number(header.device_minor()));
    let to;
    let mut written = Written::Other;
    let kind = match header.entry_type() {
        EntryType::Directory => Kind::Directory,
        kind @ (EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse) => {
            written = Written::File { sparse: kind == EntryType::GNUSparse };
            Kind::File { size }
        }
        EntryType::Symlink => Kind::Symlink { target: &target },
        EntryType::Link => {
            to = inside(&target)?;
            Kind::Link { to: &to }
        }
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char => Kind::Character { major, minor },
        EntryType::Block => Kind::Block { major, minor },
        _ => return Ok(None),
    };
    let id = |id: io::Result<u64>| u32::try_from(id.unwrap_or(0)).unwrap_or(0);
    let seconds = i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0);
    let entry = Entry {
        path,
        kind,
        mode: (header.mode().unwrap_or(0o644) & 0o7777) as u16,
        uid: id(header.uid()),
        gid: id(header.gid()),
        modified: Time { seconds, nanoseconds: 0 },
    };
    writer.header(&Header::Entry(entry))?;
    Ok(Some(written))
}

fn write_attributes(
    entry: &mut tar::Entry<'_, impl Read>,
    writer: &mut Writer<impl Write>,
) -> Result<(), CopyError> {
    let Some(records) = entry.pax_extensions().map_err(archive_error)? else { return Ok(()) };
    for record in records {
        let record = record.map_err(archive_error)?;
        let name = record.key_bytes().strip_prefix(ATTRIBUTE.as_bytes());
        if let Some(name) = name.filter(|name| !name.is_empty() && name.len() <= 255) {
            let value = record.value_bytes();
            writer.header(&Header::Attribute { name, value: &value[..value.len().min(BLOCK)] })?;
        }
    }
    Ok(())
}

/// A name in an archive as a path in a tree: `./` and a leading `/` mean nothing.
fn inside(name: &[u8]) -> Result<Vec<u8>, CopyError> {
    let refused = || CopyError::Archive(format!("`{}` leads out of it", String::from_utf8_lossy(name)));
    let mut path = Vec::new();
    for part in Path::new(OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(part) => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend(part.as_bytes());
            }
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(refused()),
        }
    }
    if path.is_empty() || transfer::is_inside(&path) { Ok(path) } else { Err(refused()) }
}

/// The program that undoes a compression, by the magic numbers that gzip, xz, bzip2 and Zstandard define.
fn decompressor(start: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 4] =
        [(b"\x1f\x8b", "gzip"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"), (b"\x28\xb5\x2f\xfd", "zstd")];
    known.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, program)| *program)
}

fn stream_error(error: StreamError) -> CopyError {
    UnpackError::Stream(error).into()
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn archive_error(error: io::Error) -> CopyError {
    CopyError::Archive(error.to_string())
}
