//! A workspace's changes as a layer: a tar archive as the OCI image specification has it.
//!
//! ```text
//! stream of `transfer::pack_changes`       tar
//! directory with the mark OPAQUE           directory, then `.wh..wh..opq` in it
//! character device 0/0                     empty file `.wh.NAME`
//! file with holes                          GNU sparse file, version 1.0
//! anything else                            itself
//! ```
//!
//! The archive is read as the stream arrives, so that nothing of it is kept. It is ustar, with pax records only for
//! what ustar has no room for: fractions of seconds, long names, large numbers, extended attributes. Nothing in it
//! depends on when or where it is made. What the stream says is a guest's word: names that mean something in a layer
//! are refused, and a layer has a bound.

mod body;
mod header;

use std::io::{self, BufReader, Read};

use transfer::{Entry, Header, Kind, OPAQUE, Reader, Receiving, StreamError, Time, Upcoming};

use crate::DiskSize;
use body::Body;
use header::{Member, Type};

/// What has this in front of its name means that something is gone.
const WHITEOUT: &[u8] = b".wh.";
/// What in a directory means that all below it is gone.
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

/// Why changes cannot be a layer.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The guest says why not.
    #[error("in the workspace: {0}")]
    Guest(String),
    /// The guest says what makes no sense.
    #[error("the guest broke the protocol: {0}")]
    Protocol(&'static str),
    /// The stream from the guest ended.
    #[error("the changes are cut off")]
    Cut,
    /// The stream from the guest could not be read.
    #[error("failed to read the changes")]
    Io(#[source] io::Error),
    /// A file's name has a meaning in layers.
    #[error("`{0}` cannot be in a layer, where `.wh.` before a name means that the file is gone")]
    ReservedName(String),
    /// An extended attribute's name cannot be written down.
    #[error("`{path}` has the extended attribute `{name}`, and a layer cannot have a name with `=` in it")]
    AttributeName {
        /// The file.
        path: String,
        /// The attribute.
        name: String,
    },
    /// No disk of this size has so much.
    #[error("the changes are larger as a layer than a disk of {disk} accounts for")]
    TooLarge {
        /// The size of the workspace's disk.
        disk: DiskSize,
    },
}

impl LayerError {
    /// What to do about it.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::ReservedName(_) => Some("rename or remove the file, and commit again".to_owned()),
            Self::AttributeName { path, name } => {
                Some(format!("remove the attribute, and commit again: setfattr -x '{name}' '/{path}'"))
            }
            _ => None,
        }
    }
}

impl From<StreamError> for LayerError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Cut => Self::Cut,
            StreamError::Io(error) => Self::Io(error),
            StreamError::Malformed(rule) => Self::Protocol(rule),
            StreamError::Failed(reason) => Self::Guest(reason),
        }
    }
}

/// The archive, as it is made.
pub(super) struct LayerTar<R, P> {
    stream: Reader<BufReader<R>>,
    /// Bytes of the archive that come next, and how many of them were read.
    due: Vec<u8>,
    read: usize,
    /// The file whose content comes after them.
    body: Option<Body>,
    over: bool,
    allowance: Allowance,
    /// Bytes of content so far.
    bytes: u64,
    progress: P,
    failed: Option<LayerError>,
}

/// How much a layer may still have.
struct Allowance {
    disk: DiskSize,
    /// Headers, and what the guest sends.
    sent: u64,
    /// Zeros that it does not.
    zeros: u64,
}

impl Allowance {
    /// Many times what files of a disk of this size come to.
    fn new(disk: DiskSize) -> Self {
        let sent = disk.bytes().saturating_mul(2).saturating_add(1 << 30);
        Self { disk, sent, zeros: disk.bytes().saturating_mul(16) }
    }

    fn take(&mut self, sent: u64, zeros: u64) -> Result<(), LayerError> {
        let left = self.sent.checked_sub(sent).zip(self.zeros.checked_sub(zeros));
        (self.sent, self.zeros) = left.ok_or(LayerError::TooLarge { disk: self.disk })?;
        Ok(())
    }
}

impl<R: Read, P: FnMut(u64)> LayerTar<R, P> {
    /// The archive of the changes that `stream` brings from a disk of this size. `progress` hears how many bytes
    /// of content are in it.
    pub(super) fn new(stream: R, exchange: Option<Receiving>, disk: DiskSize, progress: P) -> Self {
        let stream = Reader::new(BufReader::with_capacity(256 << 10, stream)).exchanging(exchange);
        Self {
            stream,
            due: Vec::new(),
            read: 0,
            body: None,
            over: false,
            allowance: Allowance::new(disk),
            bytes: 0,
            progress,
            failed: None,
        }
    }

    /// Why reading failed, if it did.
    pub(super) fn into_failure(self) -> Option<LayerError> {
        self.failed
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        loop {
            if self.read < self.due.len() {
                let length = buffer.len().min(self.due.len() - self.read);
                buffer[..length].copy_from_slice(&self.due[self.read..self.read + length]);
                self.read += length;
                return Ok(length);
            }
            self.due.clear();
            self.read = 0;
            if let Some(mut body) = self.body.take() {
                let filled = body.fill(&mut self.stream, buffer)?;
                let zeros = if filled.sent { 0 } else { filled.length as u64 };
                self.allowance.take(filled.length as u64 - zeros, zeros)?;
                if filled.length > 0 {
                    self.bytes += filled.length as u64 - zeros;
                    (self.progress)(self.bytes);
                    self.body = Some(body);
                    return Ok(filled.length);
                }
                self.due.resize(body.padding(), 0);
            } else if self.over {
                return Ok(0);
            } else {
                self.entry()?;
                self.allowance.take(self.due.len() as u64, 0)?;
            }
        }
    }

    /// Takes the next entry of the stream in, with what is said of it before its data.
    fn entry(&mut self) -> Result<(), LayerError> {
        let mut change = match self.stream.next_header()? {
            Header::Entry(entry) => Change::of(&entry)?,
            Header::End => {
                self.over = true;
                // Two blocks of zeros end an archive.
                self.due.resize(1024, 0);
                return Ok(());
            }
            _ => return Err(LayerError::Protocol("something is out of place")),
        };
        loop {
            match self.stream.upcoming()? {
                Upcoming::Attribute => {
                    if let Header::Attribute { name, value } = self.stream.next_header()? {
                        change.attribute(name, value)?;
                    }
                }
                Upcoming::Segments => {
                    if let Header::Segments(segments) = self.stream.next_header()? {
                        change.segments = Some(segments);
                    }
                }
                Upcoming::Data | Upcoming::Other => break,
            }
        }
        self.body = change.write(&mut self.due)?;
        Ok(())
    }
}

impl<R: Read, P: FnMut(u64)> Read for LayerTar<R, P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failed.is_some() {
            return Err(io::Error::other("the layer cannot be made"));
        }
        self.fill(buffer).map_err(|error| {
            let shown = io::Error::other(error.to_string());
            self.failed = Some(error);
            shown
        })
    }
}

/// One change, and all that the stream says of it.
struct Change {
    member: Member,
    is_gone: bool,
    is_opaque: bool,
    segments: Option<Vec<(u64, u64)>>,
}

impl Change {
    fn of(entry: &Entry<'_>) -> Result<Self, LayerError> {
        check_name(entry.path)?;
        let gone = Kind::Character { major: 0, minor: 0 };
        let kind = match entry.kind {
            Kind::Directory => Type::Directory,
            Kind::File { size } => Type::File { size },
            Kind::Symlink { target } => Type::Symlink(target.to_vec()),
            Kind::Link { to } => {
                check_name(to)?;
                Type::Link(to.to_vec())
            }
            Kind::Fifo => Type::Fifo,
            Kind::Character { major, minor } => Type::Character(major, minor),
            Kind::Block { major, minor } => Type::Block(major, minor),
            Kind::Content => return Err(LayerError::Protocol("content is no change")),
        };
        if entry.path.is_empty() && kind != Type::Directory {
            return Err(LayerError::Protocol("the root is no directory"));
        }
        let member = Member {
            path: entry.path.to_vec(),
            kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            modified: entry.modified,
            attributes: Vec::new(),
        };
        Ok(Self { member, is_gone: entry.kind == gone, is_opaque: false, segments: None })
    }

    fn attribute(&mut self, name: &[u8], value: &[u8]) -> Result<(), LayerError> {
        if name == OPAQUE.as_bytes() {
            self.is_opaque = true;
            return Ok(());
        }
        if !transfer::is_kept(name) {
            return Err(LayerError::Protocol("an attribute is of no known kind"));
        }
        if name.contains(&b'=') {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            return Err(LayerError::AttributeName { path: text(&self.member.path), name: text(name) });
        }
        self.member.attributes.push((name.to_vec(), value.to_vec()));
        Ok(())
    }

    /// Writes the headers; what is returned is to follow.
    fn write(self, out: &mut Vec<u8>) -> Result<Option<Body>, LayerError> {
        if self.is_gone {
            marker(&self.member.path, WHITEOUT).write(out);
            return Ok(None);
        }
        if self.is_opaque && self.member.kind != Type::Directory {
            return Err(LayerError::Protocol("what is no directory is opaque"));
        }
        match (&self.member.kind, self.segments) {
            (Type::File { .. }, Some(segments)) => Ok(Some(self.member.write_sparse(segments, out))),
            (Type::File { size }, None) => {
                let body = Body::new(vec![(0, *size)], *size);
                self.member.write(out);
                Ok(Some(body))
            }
            _ => {
                self.member.write(out);
                if self.is_opaque {
                    let path = [self.member.path.as_slice(), b"/"].concat();
                    marker(&path, OPAQUE_MARKER).write(out);
                }
                Ok(None)
            }
        }
    }
}

/// An empty file whose name, `before` the last part of `path`, says it all.
fn marker(path: &[u8], before: &[u8]) -> Member {
    let name = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let parent = if name == 1 { &[] } else { &path[..name] };
    Member {
        path: [parent, before, &path[name..]].concat(),
        kind: Type::File { size: 0 },
        mode: 0,
        uid: 0,
        gid: 0,
        modified: Time { seconds: 0, nanoseconds: 0 },
        attributes: Vec::new(),
    }
}

fn check_name(path: &[u8]) -> Result<(), LayerError> {
    if path.split(|byte| *byte == b'/').any(|name| name.starts_with(WHITEOUT)) {
        return Err(LayerError::ReservedName(String::from_utf8_lossy(path).into_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
