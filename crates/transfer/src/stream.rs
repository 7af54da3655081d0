//! The stream's bytes, and what they may say.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::exchange::{BLOCK, BLOCKS, PageCache, Receiving, Sending};

/// The longest header, in bytes: a path, a link's target, or an extended attribute (at most 64 KiB; `xattr(7)`).
pub const MAX_HEADER: usize = 80 * 1024;

/// The most data that one header announces, in bytes.
const MAX_DATA: u32 = 1 << 20;

/// The longest path, in bytes; `PATH_MAX` of Linux, which counts a final NUL.
const MAX_PATH: usize = 4095;

/// How deep a tree may be, in directories.
pub(crate) const MAX_DEPTH: usize = 400;

/// The longest name in a directory, in bytes; `NAME_MAX` of Linux.
const MAX_NAME: usize = 255;

/// What a stream says, one after another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Header<'a> {
    /// The next file, of whatever kind.
    Entry(#[serde(borrow)] Entry<'a>),
    /// An extended attribute of the last entry; before its data.
    Attribute {
        /// Its full name.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// Data of the last entry, which is a file; so many bytes follow.
    Data {
        /// Where they are in the file. Offsets grow, and what is between them is holes.
        offset: u64,
        /// How many there are: 1 to 1 MiB.
        length: u32,
    },
    /// That was all.
    End,
    /// The other side gave up, and why.
    Failed(&'a str),
    /// Where the data of the last entry, a file, is: offsets and lengths, ascending and apart; the rest is holes.
    /// After its attributes and before its data. Only [`crate::pack_changes`] says it, since a tar wants it first.
    Segments(Vec<(u64, u64)>),
    /// Data of the last entry, as after [`Header::Data`], but in a block of the disk for exchange; see
    /// [`crate::Region`]. [`Reader::next_header`] gives it out as [`Header::Data`].
    Exchanged {
        /// Where they are in the file.
        offset: u64,
        /// How many there are: 1 to [`BLOCK`].
        length: u32,
        /// The block that starts with them.
        block: u32,
    },
}

/// A file of whatever kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// Where it is, from the tree's root: names with `/` between them; empty for the root itself.
    pub path: &'a [u8],
    /// What it is.
    #[serde(borrow)]
    pub kind: Kind<'a>,
    /// The lower 12 bits of its mode.
    pub mode: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When it was modified.
    pub modified: Time,
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind<'a> {
    /// A directory.
    Directory,
    /// Only as the root: what goes into a directory that is there, and that keeps its own attributes. Directories
    /// that are missing are made.
    Content,
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// What it says.
        target: &'a [u8],
    },
    /// Another name of a file that came before.
    Link {
        /// That file's path.
        to: &'a [u8],
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    Character {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
}

/// A moment, since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time {
    /// Seconds; negative before it.
    pub seconds: i64,
    /// Nanoseconds on top, less than a thousand million.
    pub nanoseconds: u32,
}

/// Why a stream cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// It ended before its end.
    #[error("the stream ended early")]
    Cut,
    /// It could not be read.
    #[error("failed to read the stream")]
    Io(#[source] io::Error),
    /// It says what it may not say.
    #[error("the stream is malformed: {0}")]
    Malformed(&'static str),
    /// The side that packs gave up.
    #[error("{0}")]
    Failed(String),
}

/// Writes a stream.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    buffer: Vec<u8>,
    exchange: Option<Sending>,
}

impl<W: Write> Writer<W> {
    /// One that writes to `out`, which should have a buffer.
    pub fn new(out: W) -> Self {
        Self { out, buffer: Vec::new(), exchange: None }
    }

    /// The same, with a disk for what is large.
    #[must_use]
    pub fn exchanging(self, exchange: Option<Sending>) -> Self {
        Self { exchange, ..self }
    }

    /// How much data is best written at once, in bytes.
    pub fn block(&self) -> usize {
        if self.exchange.is_some() { BLOCK } else { 256 << 10 }
    }

    pub(crate) fn cache(&self) -> PageCache {
        self.exchange.as_ref().map_or(PageCache::Used, Sending::cache)
    }

    /// Writes a header. After [`Header::Data`] its bytes are due, see [`Writer::bytes`].
    pub fn header(&mut self, header: &Header<'_>) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.extend([0; 4]);
        let buffer = std::mem::take(&mut self.buffer);
        self.buffer = postcard::to_extend(header, buffer).expect("a vector takes it all");
        let length = u32::try_from(self.buffer.len() - 4).expect("a header is short");
        self.buffer[..4].copy_from_slice(&length.to_le_bytes());
        self.out.write_all(&self.buffer)
    }

    /// Writes data of a file.
    pub fn bytes(&mut self, mut offset: u64, bytes: &[u8]) -> io::Result<()> {
        let most = if self.exchange.is_some() { BLOCK } else { MAX_DATA as usize };
        for bytes in bytes.chunks(most) {
            let length = u32::try_from(bytes.len()).expect("blocks are short");
            match self.exchange.as_mut().filter(|exchange| exchange.takes(bytes)) {
                Some(exchange) => {
                    let block = exchange.put(bytes)?;
                    self.header(&Header::Exchanged { offset, length, block })?;
                    // Whoever reads it is to know at once, and not when the stream's buffer is full.
                    self.out.flush()?;
                }
                None => self.inline(offset, bytes)?,
            }
            offset += u64::from(length);
        }
        Ok(())
    }

    fn inline(&mut self, mut offset: u64, bytes: &[u8]) -> io::Result<()> {
        for bytes in bytes.chunks(MAX_DATA as usize) {
            let length = u32::try_from(bytes.len()).expect("blocks are short");
            self.header(&Header::Data { offset, length })?;
            self.out.write_all(bytes)?;
            offset += u64::from(length);
        }
        Ok(())
    }

    /// Hands on what is buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads a stream, and lets nothing through that is against the rules.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    header: Vec<u8>,
    /// Whether `header` was read and not given out.
    waiting: bool,
    expected: Expected,
    unread: u32,
    exchange: Option<Receiving>,
    /// Whether what is unread was exchanged.
    beside: bool,
}

/// What kind of header comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upcoming {
    /// [`Header::Attribute`].
    Attribute,
    /// [`Header::Segments`].
    Segments,
    /// [`Header::Data`].
    Data,
    /// Another entry, or the end.
    Other,
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The tree's root, or a failure.
    Root,
    /// Anything that may follow an entry without data.
    Entry { attributes: bool },
    /// The same, and data of a file from this offset on.
    Data { from: u64, size: u64, attributes: bool },
    /// Nothing.
    Over,
}

impl<R: Read> Reader<R> {
    /// One that reads from `input`, which should have a buffer.
    pub fn new(input: R) -> Self {
        Self {
            input,
            header: Vec::new(),
            waiting: false,
            expected: Expected::Root,
            unread: 0,
            exchange: None,
            beside: false,
        }
    }

    /// The same, with a disk for what is large.
    #[must_use]
    pub fn exchanging(self, exchange: Option<Receiving>) -> Self {
        Self { exchange, ..self }
    }

    pub(crate) fn cache(&self) -> PageCache {
        self.exchange.as_ref().map_or(PageCache::Used, Receiving::cache)
    }

    /// The next header. [`Header::Failed`] arrives as an error; data that was not read is skipped.
    pub fn next_header(&mut self) -> Result<Header<'_>, StreamError> {
        self.fill()?;
        self.waiting = false;
        let header = decode(&self.header)?;
        if let Header::Failed(reason) = header {
            self.expected = Expected::Over;
            return Err(StreamError::Failed(reason.to_owned()));
        }
        self.expected = follow(self.expected, &header).map_err(StreamError::Malformed)?;
        match header {
            Header::Data { length, .. } => (self.unread, self.beside) = (length, false),
            Header::Exchanged { offset, length, block } => {
                let exchange = self.exchange.as_mut();
                let exchange = exchange.ok_or(StreamError::Malformed("it has no disk for exchange"))?;
                exchange.get(block, length as usize).map_err(StreamError::Io)?;
                (self.unread, self.beside) = (length, true);
                return Ok(Header::Data { offset, length });
            }
            _ => {}
        }
        Ok(header)
    }

    /// What kind of header comes next.
    pub fn upcoming(&mut self) -> Result<Upcoming, StreamError> {
        self.fill()?;
        Ok(match decode(&self.header)? {
            Header::Attribute { .. } => Upcoming::Attribute,
            Header::Segments(_) => Upcoming::Segments,
            Header::Data { .. } | Header::Exchanged { .. } => Upcoming::Data,
            Header::Entry(_) | Header::End | Header::Failed(_) => Upcoming::Other,
        })
    }

    fn fill(&mut self) -> Result<(), StreamError> {
        if self.waiting {
            return Ok(());
        }
        self.skip()?;
        let mut length = [0; 4];
        self.input.read_exact(&mut length).map_err(cut)?;
        let length = u32::from_le_bytes(length) as usize;
        if !(1..=MAX_HEADER).contains(&length) {
            return Err(StreamError::Malformed("a header's length is out of bounds"));
        }
        self.header.resize(length, 0);
        self.input.read_exact(&mut self.header).map_err(cut)?;
        self.waiting = true;
        Ok(())
    }

    /// Whether data of the last entry comes next.
    pub fn data_follows(&mut self) -> Result<bool, StreamError> {
        Ok(self.upcoming()? == Upcoming::Data)
    }

    /// Reads of the data that the last header announced; 0 after its end.
    pub fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, StreamError> {
        let room = buffer.len().min(self.unread as usize);
        match self.exchanged() {
            Some(bytes) => buffer[..room].copy_from_slice(&bytes[..room]),
            None => self.input.read_exact(&mut buffer[..room]).map_err(cut)?,
        }
        self.unread -= room as u32;
        Ok(room)
    }

    /// What is unread of what was exchanged, if that is what comes next.
    fn exchanged(&self) -> Option<&[u8]> {
        let bytes = self.exchange.as_ref().filter(|_| self.beside)?.bytes();
        Some(&bytes[bytes.len() - self.unread as usize..])
    }

    /// Gives the data that the last header announced to `sink`, in pieces.
    pub(crate) fn data(
        &mut self,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<io::Result<()>, StreamError> {
        if let Some(bytes) = self.exchanged().filter(|bytes| !bytes.is_empty()) {
            let taken = sink(bytes);
            self.unread = 0;
            return Ok(taken);
        }
        let mut buffer = vec![0; (self.unread as usize).min(256 * 1024)];
        while let length @ 1.. = self.read_data(&mut buffer)? {
            if let Err(error) = sink(&buffer[..length]) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    fn skip(&mut self) -> Result<(), StreamError> {
        self.data(&mut |_| Ok(()))?.map_err(StreamError::Io)
    }
}

fn decode(bytes: &[u8]) -> Result<Header<'_>, StreamError> {
    match postcard::take_from_bytes(bytes) {
        Ok((header, [])) => Ok(header),
        Ok(_) => Err(StreamError::Malformed("a header is followed by bytes of its own")),
        Err(_) => Err(StreamError::Malformed("a header is none")),
    }
}

/// What may come after `header`, which came where `expected` says; or why it may not be there.
fn follow(expected: Expected, header: &Header<'_>) -> Result<Expected, &'static str> {
    match (expected, header) {
        (Expected::Over, _) => Err("something follows its end"),
        (Expected::Root, Header::Entry(entry)) => {
            if !entry.path.is_empty() {
                return Err("its first entry is not its root");
            }
            if matches!(entry.kind, Kind::Link { .. }) {
                return Err("its root is a link to nothing");
            }
            check(entry)
        }
        (Expected::Root, _) => Err("it does not start with its root"),
        (_, Header::Entry(entry)) if !is_inside(entry.path) => Err("a path leads out of the tree"),
        (_, Header::Entry(Entry { kind: Kind::Content, .. })) => Err("content is only a root"),
        (_, Header::Entry(entry)) => check(entry),
        (Expected::Entry { attributes: true }, Header::Attribute { name, .. }) => {
            check_attribute(name).map(|()| expected)
        }
        (Expected::Data { attributes: true, .. }, Header::Attribute { name, .. }) => {
            check_attribute(name).map(|()| expected)
        }
        (_, Header::Attribute { .. }) => Err("an attribute is out of place"),
        (_, Header::Data { length, .. }) if *length > MAX_DATA => Err("data is out of bounds"),
        (_, Header::Exchanged { length, block, .. }) if *length as usize > BLOCK || *block >= BLOCKS => {
            Err("data is out of bounds")
        }
        (
            Expected::Data { from, size, .. },
            Header::Data { offset, length } | Header::Exchanged { offset, length, .. },
        ) => {
            let end = data_end(*offset, *length, from, size)?;
            Ok(Expected::Data { from: end, size, attributes: false })
        }
        (_, Header::Data { .. } | Header::Exchanged { .. }) => Err("data is out of place"),
        (Expected::Data { size, attributes: true, .. }, Header::Segments(segments)) => {
            check_segments(segments, size)?;
            Ok(Expected::Data { from: 0, size, attributes: false })
        }
        (_, Header::Segments(_)) => Err("segments are out of place"),
        (_, Header::End | Header::Failed(_)) => Ok(Expected::Over),
    }
}

/// Where data end that a file of `size` bytes may have at `from` or later.
fn data_end(offset: u64, length: u32, from: u64, size: u64) -> Result<u64, &'static str> {
    let end = offset.checked_add(u64::from(length)).filter(|end| *end <= size);
    end.filter(|_| length > 0 && offset >= from).ok_or("data is out of bounds")
}

fn check(entry: &Entry<'_>) -> Result<Expected, &'static str> {
    if entry.mode > 0o7777 || entry.modified.nanoseconds >= 1_000_000_000 {
        return Err("an entry's mode or time is none");
    }
    match entry.kind {
        // A size that no file system has is a lie.
        Kind::File { size } if i64::try_from(size).is_err() => Err("a file's size is out of bounds"),
        Kind::File { size } => Ok(Expected::Data { from: 0, size, attributes: true }),
        Kind::Symlink { target } if target.is_empty() || target.len() > MAX_PATH || target.contains(&0) => {
            Err("a symbolic link's target is none")
        }
        Kind::Link { to } if !is_inside(to) => Err("a link leads out of the tree"),
        Kind::Link { .. } => Ok(Expected::Entry { attributes: false }),
        _ => Ok(Expected::Entry { attributes: true }),
    }
}

fn check_attribute(name: &[u8]) -> Result<(), &'static str> {
    let fits = !name.is_empty() && name.len() <= MAX_NAME && !name.contains(&0);
    fits.then_some(()).ok_or("an attribute's name is none")
}

fn check_segments(segments: &[(u64, u64)], size: u64) -> Result<(), &'static str> {
    let mut from = 0;
    for (offset, length) in segments {
        let end =
            offset.checked_add(*length).filter(|end| *end <= size).ok_or("segments are out of bounds")?;
        if *length == 0 || *offset < from {
            return Err("segments are out of order");
        }
        from = end;
    }
    Ok(())
}

/// Whether `path` is that of something below a tree's root, and of nothing else.
pub fn is_inside(path: &[u8]) -> bool {
    let name = |name: &[u8]| {
        !name.is_empty() && name != b"." && name != b".." && name.len() <= MAX_NAME && !name.contains(&0)
    };
    let names = || path.split(|byte| *byte == b'/');
    path.len() <= MAX_PATH && names().all(name) && names().count() <= MAX_DEPTH
}

fn cut(error: io::Error) -> StreamError {
    if error.kind() == io::ErrorKind::UnexpectedEof { StreamError::Cut } else { StreamError::Io(error) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn root(kind: Kind<'_>) -> Header<'_> {
        entry(b"", kind)
    }

    fn entry<'a>(path: &'a [u8], kind: Kind<'a>) -> Header<'a> {
        let modified = Time { seconds: 1, nanoseconds: 2 };
        Header::Entry(Entry { path, kind, mode: 0o644, uid: 0, gid: 0, modified })
    }

    fn read(headers: &[Header<'_>]) -> Result<usize, StreamError> {
        let mut writer = Writer::new(Vec::new());
        for header in headers {
            writer.header(header).unwrap();
            if let Header::Data { length, .. } = header {
                writer.out.extend(std::iter::repeat_n(7, *length as usize));
            }
        }
        let mut reader = Reader::new(&writer.out[..]);
        let mut count = 0;
        loop {
            count += 1;
            if reader.next_header()? == Header::End {
                return Ok(count);
            }
        }
    }

    #[test]
    fn what_is_well_formed_is_read() {
        let file = Kind::File { size: 10 };
        let data = |offset, length| Header::Data { offset, length };
        let attribute = Header::Attribute { name: b"user.a", value: b"b" };
        let headers = [
            root(Kind::Directory),
            attribute.clone(),
            entry(b"a", file),
            attribute,
            data(0, 3),
            data(5, 5),
            entry(b"b/c", Kind::Link { to: b"a" }),
            entry(b"d", Kind::File { size: 10 }),
            Header::Segments(vec![(0, 3), (5, 5)]),
            data(0, 3),
            Header::End,
        ];
        assert_eq!(read(&headers).unwrap(), headers.len());
    }

    #[test]
    fn what_breaks_a_rule_is_refused_with_the_rule() {
        let directory = root(Kind::Directory);
        let file = root(Kind::File { size: 10 });
        let data = |offset, length| Header::Data { offset, length };
        let attribute = Header::Attribute { name: b"user.a", value: b"b" };
        let cases: [(&[Header<'_>], &str); 16] = [
            (&[Header::End], "start with its root"),
            (&[entry(b"a", Kind::Directory)], "first entry is not its root"),
            (&[directory.clone(), entry(b"../a", Kind::Directory)], "out of the tree"),
            (&[directory.clone(), entry(b"/a", Kind::Directory)], "out of the tree"),
            (&[directory.clone(), entry(b"a/", Kind::Directory)], "out of the tree"),
            (&[directory.clone(), directory.clone()], "out of the tree"),
            (&[directory.clone(), entry(b"a", Kind::Link { to: b"../b" })], "out of the tree"),
            (&[directory.clone(), data(0, 1)], "out of place"),
            (&[file.clone(), data(8, 3)], "out of bounds"),
            (&[file.clone(), data(4, 1), data(4, 1)], "out of bounds"),
            (&[file.clone(), data(0, 1), attribute], "out of place"),
            (&[file.clone(), data(u64::MAX, 1)], "out of bounds"),
            (&[directory.clone(), Header::Segments(vec![])], "out of place"),
            (&[file.clone(), data(0, 1), Header::Segments(vec![])], "out of place"),
            (&[file.clone(), Header::Segments(vec![(5, 1), (0, 1)])], "out of order"),
            (&[file, Header::Segments(vec![(5, u64::MAX)])], "out of bounds"),
        ];
        for (headers, rule) in cases {
            let error = read(headers).unwrap_err().to_string();
            assert!(error.contains(rule), "{headers:?}: {error}");
        }
        assert!(matches!(read(&[directory]), Err(StreamError::Cut)));
    }

    #[test]
    fn a_huge_length_is_refused_before_anything_is_kept() {
        let mut reader = Reader::new(&[0xff; 8][..]);
        assert!(matches!(reader.next_header(), Err(StreamError::Malformed(_))));
        assert_eq!(reader.header.capacity(), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut reader = Reader::new(&bytes[..]);
            while let Ok(header) = reader.next_header() {
                if let Header::Entry(entry) = header {
                    prop_assert!(entry.path.is_empty() || is_inside(entry.path));
                }
            }
        }
    }
}
