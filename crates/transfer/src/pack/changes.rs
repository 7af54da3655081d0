//! The changes that an overlay keeps become a stream.
//!
//! ```text
//! upper layer                            stream
//! character device 0/0                   the same: what is gone
//! directory, trusted.overlay.opaque=y    the same: what is below it in the image is gone
//! socket over something of the image     character device 0/0: a layer has no sockets
//! scaffolding, as it was made            nothing
//! anything else                          itself
//! ```
//!
//! The kernel's other notes (`trusted.overlay.*`) stay behind. A file that is not all there without the image,
//! as options of overlayfs that are not used here allow, is an error.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;

use super::ahead::{Ahead, Listing, OpenFile};
use super::{PackError, PackOptions, Packer};
use crate::attributes;
use crate::exchange::Sending;
use crate::stream::{Header, Kind, MAX_DEPTH, is_inside};

/// Holes that are smaller are packed as zeros.
const SMALLEST_HOLE: u64 = 64 * 1024;

/// The most segments that a file is told to have; with more, the smaller holes are packed as zeros.
const MAX_SEGMENTS: usize = 2000;

/// What whoever mounts the overlay makes in it where the image has nothing. As long as it is as it was made, it is
/// nobody's change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaffold<'a> {
    /// A directory of root's, with nothing in it but scaffolding. One that the image has, and that is its copy, is
    /// no change either.
    Directory {
        /// Its path from the root.
        path: &'a str,
        /// The lower 12 bits of its mode.
        mode: u16,
    },
    /// An empty file of root's that everybody may read, in place of nothing or of a symbolic link.
    File {
        /// Its path from the root.
        path: &'a str,
    },
}

/// Packs what the upper layer of an overlay has, `image` being the only layer below it, into `out`, and says there
/// how it ended. The same changes are the same stream.
pub fn pack_changes(
    upper: BorrowedFd<'_>,
    image: BorrowedFd<'_>,
    scaffolds: &[Scaffold<'_>],
    out: &mut dyn Write,
    exchange: Option<Sending>,
) -> Result<(), PackError> {
    let options = PackOptions { follow: false, attributes: true };
    let mut packer = Packer::new(Path::new("/"), options, out, exchange);
    packer.segments = true;
    let mut changes = Changes { packer, scaffolds };
    let outcome = changes.run(upper, image);
    changes.packer.end(outcome)
}

struct Changes<'s, W> {
    packer: Packer<W>,
    scaffolds: &'s [Scaffold<'s>],
}

/// A name in a directory of the upper layer.
struct Place<'d> {
    upper: &'d OwnedFd,
    /// What the directory shows of the image.
    image: Option<&'d OwnedFd>,
    name: &'d [u8],
}

impl<W: Write> Changes<'_, W> {
    fn run(&mut self, upper: BorrowedFd<'_>, image: BorrowedFd<'_>) -> Result<(), PackError> {
        let open =
            |root: BorrowedFd<'_>| open_directory(root, b".").map_err(|error| self.packer.failed(b"", error));
        let (upper, image) = (open(upper)?, open(image)?);
        self.directory(&upper, Some(image), &mut Vec::new(), 0)
    }

    fn directory(
        &mut self,
        upper: &OwnedFd,
        image: Option<OwnedFd>,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), PackError> {
        if attributes::is_partial(upper) {
            return Err(PackError::Partial(self.packer.shown(path)));
        }
        let stat = rustix::fs::fstat(upper).map_err(|error| self.packer.failed(path, error))?;
        self.packer.head(path, Kind::Directory, &stat)?;
        let opaque = attributes::is_opaque(upper);
        let opaque = opaque.map_err(|source| PackError::Read { path: self.packer.shown(path), source })?;
        if opaque {
            let mark = Header::Attribute { name: attributes::OPAQUE.as_bytes(), value: attributes::YES };
            self.packer.out.header(&mark).map_err(PackError::Write)?;
        }
        self.packer.attributes(upper, path)?;
        if depth > MAX_DEPTH {
            return Err(PackError::TooDeep(self.packer.shown(path)));
        }
        let image = image.filter(|_| !opaque);
        let listing = Listing::read(upper).map_err(|error| self.packer.failed(path, error))?;
        let mut ahead = Ahead::new(upper, &listing);
        for (name, _) in listing.names() {
            let opened = ahead.next();
            let length = path.len();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(name.as_bytes());
            if !is_inside(path) {
                return Err(PackError::TooDeep(self.packer.shown(path)));
            }
            let place = Place { upper, image: image.as_ref(), name: name.as_bytes() };
            self.entry(&place, opened, path, depth)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        place: &Place<'_>,
        opened: Option<OpenFile>,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), PackError> {
        let stat = opened.as_ref().map_or_else(|| place.stat(), |file| Ok(file.stat));
        let stat = stat.map_err(|error| self.packer.failed(path, error))?;
        if self.is_scaffold(place, path, &stat) {
            return Ok(());
        }
        if let Some(file) = opened {
            return self.packer.open_file(&file, path);
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let below = place.open().map_err(|error| self.packer.failed(path, error))?;
                self.directory(&below, place.open_image(), path, depth + 1)
            }
            FileType::Socket if place.image_stat().is_some() => {
                self.packer.head(path, Kind::Character { major: 0, minor: 0 }, &stat)
            }
            _ => self.packer.entry(place.upper.as_fd(), place.name, path, &stat, OFlags::NOFOLLOW, depth + 1),
        }
    }

    /// Whether the file is scaffolding, as it was made.
    fn is_scaffold(&self, place: &Place<'_>, path: &[u8], stat: &Stat) -> bool {
        let found = self.scaffolds.iter().find(|scaffold| scaffold.path().as_bytes() == path);
        let (kind, image) = (FileType::from_raw_mode(stat.st_mode), place.image_stat());
        let image_kind = image.as_ref().map(|image| FileType::from_raw_mode(image.st_mode));
        match (found, kind) {
            (Some(Scaffold::File { .. }), FileType::RegularFile) => {
                let replaces = matches!(image_kind, None | Some(FileType::Symlink));
                replaces && stat.st_size == 0 && stat.st_nlink == 1 && is_roots(stat, 0o644)
            }
            (Some(Scaffold::Directory { mode, .. }), FileType::Directory) => {
                let as_made = match &image {
                    Some(image) => is_copy(stat, image),
                    None => is_roots(stat, *mode),
                };
                as_made && self.has_only_scaffolds(place, path)
            }
            _ => false,
        }
    }

    fn has_only_scaffolds(&self, place: &Place<'_>, path: &[u8]) -> bool {
        let Ok(below) = place.open() else { return false };
        let is_plain = attributes::is_opaque(&below).is_ok_and(|opaque| !opaque)
            && attributes::list(&below).is_ok_and(|attributes| attributes.is_empty());
        let Ok(listing) = Listing::read(&below) else { return false };
        let image = place.open_image();
        let is_scaffold = |name: &[u8]| {
            let place = Place { upper: &below, image: image.as_ref(), name };
            let path = [path, b"/", name].concat();
            place.stat().is_ok_and(|stat| self.is_scaffold(&place, &path, &stat))
        };
        is_plain && listing.names().iter().all(|(name, _)| is_scaffold(name.as_bytes()))
    }
}

impl Scaffold<'_> {
    fn path(&self) -> &str {
        match self {
            Self::Directory { path, .. } | Self::File { path } => path,
        }
    }
}

impl Place<'_> {
    fn stat(&self) -> rustix::io::Result<Stat> {
        rustix::fs::statat(self.upper, self.name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn image_stat(&self) -> Option<Stat> {
        rustix::fs::statat(self.image?, self.name, AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    fn open(&self) -> rustix::io::Result<OwnedFd> {
        open_directory(self.upper.as_fd(), self.name)
    }

    fn open_image(&self) -> Option<OwnedFd> {
        open_directory(self.image?.as_fd(), self.name).ok()
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn is_roots(stat: &Stat, mode: u16) -> bool {
    stat.st_mode & 0o7777 == u32::from(mode) && (stat.st_uid, stat.st_gid) == (0, 0)
}

/// Whether a directory has the attributes that the image's has.
fn is_copy(stat: &Stat, image: &Stat) -> bool {
    let of = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime, stat.st_mtime_nsec);
    of(stat) == of(image)
}

impl<W: Write> Packer<W> {
    /// Says where the data of a file with holes are.
    pub(super) fn announce(&mut self, file: &OwnedFd, path: &[u8], size: u64) -> Result<(), PackError> {
        let mut smallest = SMALLEST_HOLE;
        let segments = loop {
            let found = segments(file, size, smallest);
            match found.map_err(|error| self.failed(path, error))? {
                Some(segments) => break segments,
                None => smallest = smallest.saturating_mul(16),
            }
        };
        if segments == [(0, size)] {
            return Ok(());
        }
        self.out.header(&Header::Segments(segments)).map_err(PackError::Write)
    }
}

/// Where the data of a file are, holes of less than `smallest` bytes counted as data; `None` if it is in too many
/// places.
fn segments(file: &OwnedFd, size: u64, smallest: u64) -> rustix::io::Result<Option<Vec<(u64, u64)>>> {
    let mut segments: Vec<(u64, u64)> = Vec::new();
    // Where the last segment ends.
    let mut end = 0;
    while let Some((data, hole)) = next_data(file, end, size)? {
        match segments.last_mut() {
            Some((offset, length)) if data - end < smallest => *length = hole - *offset,
            None if data < smallest => segments.push((0, hole)),
            _ => segments.push((data, hole - data)),
        }
        if segments.len() > MAX_SEGMENTS {
            return Ok(None);
        }
        end = hole;
    }
    match segments.last_mut() {
        Some((offset, length)) if size - end < smallest => *length = size - *offset,
        _ => {}
    }
    Ok(Some(segments))
}

/// Where the next data begin, and the hole behind them.
fn next_data(file: &OwnedFd, position: u64, size: u64) -> rustix::io::Result<Option<(u64, u64)>> {
    let data = match rustix::fs::seek(file, SeekFrom::Data(position)) {
        Ok(data) => data,
        // The rest is a hole.
        Err(Errno::NXIO) => return Ok(None),
        // A file system that does not know holes has none.
        Err(Errno::INVAL) => position,
        Err(error) => return Err(error),
    };
    if data >= size {
        return Ok(None);
    }
    let hole = rustix::fs::seek(file, SeekFrom::Hole(data)).unwrap_or(size).min(size);
    Ok(Some((data, hole.max(data + 1))))
}
