//! A tree of files becomes a stream.

mod ahead;
pub(crate) mod changes;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;

use crate::attributes;
use crate::exchange::Sending;
use crate::page_cache::{ALIGNMENT, Aligned, Way};
use crate::stream::{Entry, Header, Kind, MAX_DEPTH, Time, Writer, is_inside};
use ahead::{Ahead, Listing, OpenFile};

/// How much of the stream is kept until it is written, in bytes.
const BUFFER: usize = 256 * 1024;

/// What to pack, beyond where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackOptions {
    /// Whether the source itself, where it is a symbolic link, stands for what it leads to.
    pub follow: bool,
    /// Whether extended attributes are packed.
    pub attributes: bool,
}

/// Why a tree could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The source is not there.
    #[error("there is no `{}`", .0.display())]
    Missing(PathBuf),
    /// A tree is too deep, or a path too long.
    #[error("`{}` is nested too deep: at most {MAX_DEPTH} directories, and 4095 bytes a path", .0.display())]
    TooDeep(PathBuf),
    /// A file of an overlay's changes needs the layers below.
    #[error("`{}` is not all there: the kernel that wrote it left a part in the image", .0.display())]
    Partial(PathBuf),
    /// The stream could not be written.
    #[error("failed to write the stream")]
    Write(#[source] io::Error),
}

/// The name that a copy of `source`, which is in the directory `here` unless it is absolute, has in a directory; `None`
/// if it is the source's content that is copied, as for `directory/.` and the root. `..` is the directory that is
/// written before it.
pub fn source_name(source: &[u8], here: &[u8]) -> Option<Vec<u8>> {
    let trimmed = source.iter().rposition(|byte| *byte != b'/').map_or(&b""[..], |last| &source[..=last]);
    if trimmed == b"." || trimmed.ends_with(b"/.") {
        return None;
    }
    let above = if source.starts_with(b"/") { &b""[..] } else { here };
    let mut names: Vec<&[u8]> = Vec::new();
    for name in above.split(|byte| *byte == b'/').chain(trimmed.split(|byte| *byte == b'/')) {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.pop().map(<[u8]>::to_vec)
}

/// Packs what is at `source` into `out`, and says there how it ended. Sockets are left out, and so is what other
/// kinds of file systems of the kernel's own show. What is large goes through `exchange`, if there is one.
///
/// A trailing slash demands a directory, and follows a symbolic link to one.
pub fn pack(
    source: &Path,
    options: PackOptions,
    out: &mut dyn Write,
    exchange: Option<Sending>,
) -> Result<(), PackError> {
    let mut packer = Packer::new(source, options, out, exchange);
    let outcome = packer.run();
    packer.end(outcome)
}

struct Packer<W> {
    out: Writer<W>,
    source: PathBuf,
    options: PackOptions,
    /// Whether it is told where a file's data is before they come.
    segments: bool,
    /// The first path of each file that has several, by its file system and number.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Aligned,
}

impl<'w> Packer<io::BufWriter<&'w mut dyn Write>> {
    fn new(source: &Path, options: PackOptions, out: &'w mut dyn Write, exchange: Option<Sending>) -> Self {
        let out = Writer::new(io::BufWriter::with_capacity(BUFFER, out)).exchanging(exchange);
        Self {
            buffer: Aligned::new(out.block()),
            out,
            source: source.to_owned(),
            options,
            segments: false,
            links: HashMap::new(),
        }
    }
}

impl<W: Write> Packer<W> {
    /// Says how it ended.
    fn end(&mut self, outcome: Result<(), PackError>) -> Result<(), PackError> {
        let last = match &outcome {
            Ok(()) => self.out.header(&Header::End),
            // Nobody reads any more.
            Err(PackError::Write(_)) => return outcome,
            Err(error) => {
                let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
                let reason = format!("{error}{}", cause.unwrap_or_default());
                self.out.header(&Header::Failed(&reason))
            }
        };
        last.and_then(|()| self.out.flush()).map_err(PackError::Write)?;
        outcome
    }

    fn run(&mut self) -> Result<(), PackError> {
        let bytes = self.source.as_os_str().as_bytes();
        let follow = self.options.follow || bytes.ends_with(b"/") || bytes.ends_with(b"/.");
        let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        let here = rustix::fs::CWD;
        let stat = rustix::fs::statat(here, &self.source, flags).map_err(|error| match error {
            Errno::NOENT => PackError::Missing(self.source.clone()),
            error => self.failed(b"", error),
        })?;
        let name = self.source.as_os_str().as_bytes().to_vec();
        let follow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        self.entry(here, &name, &mut Vec::new(), &stat, follow, 0)
    }

    /// Packs the file `name` of `parent`, whose path in the tree is `path`.
    fn entry(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &mut Vec<u8>,
        stat: &Stat,
        follow: OFlags,
        depth: usize,
    ) -> Result<(), PackError> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.directory(parent, name, path, follow, depth),
            FileType::RegularFile => self.file(parent, name, path, follow),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new());
                let target = target.map_err(|error| self.failed(path, error))?;
                self.head(path, Kind::Symlink { target: target.as_bytes() }, stat)
            }
            FileType::Fifo => self.head(path, Kind::Fifo, stat),
            FileType::CharacterDevice => {
                let (major, minor) = numbers(stat);
                self.head(path, Kind::Character { major, minor }, stat)
            }
            FileType::BlockDevice => {
                let (major, minor) = numbers(stat);
                self.head(path, Kind::Block { major, minor }, stat)
            }
            // A socket is of use to those only who have it open. The root must be something.
            _ if path.is_empty() => Err(self.failed(path, Errno::OPNOTSUPP)),
            _ => Ok(()),
        }
    }

    fn directory(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &mut Vec<u8>,
        follow: OFlags,
        depth: usize,
    ) -> Result<(), PackError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | follow;
        let directory = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(error) => return self.skip_if_gone(path, error),
        };
        let stat = rustix::fs::fstat(&directory).map_err(|error| self.failed(path, error))?;
        self.head(path, Kind::Directory, &stat)?;
        self.attributes(&directory, path)?;
        // What the kernel only shows is not the tree's; asked for by itself, it is what is asked for.
        if !path.is_empty() && is_kernels_view(&directory) {
            return Ok(());
        }
        if depth > MAX_DEPTH {
            return Err(PackError::TooDeep(self.shown(path)));
        }
        let listing = Listing::read(&directory).map_err(|error| self.failed(path, error))?;
        let mut ahead = Ahead::new(&directory, &listing);
        for (name, _) in listing.names() {
            let opened = ahead.next();
            let length = path.len();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(name.as_bytes());
            if !is_inside(path) {
                return Err(PackError::TooDeep(self.shown(path)));
            }
            if let Some(file) = opened {
                self.open_file(&file, path)?;
            } else {
                match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => {
                        let parent = directory.as_fd();
                        self.entry(parent, name.as_bytes(), path, &stat, OFlags::NOFOLLOW, depth + 1)?;
                    }
                    Err(error) => self.skip_if_gone(path, error)?,
                }
            }
            path.truncate(length);
        }
        Ok(())
    }

    fn file(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        follow: OFlags,
    ) -> Result<(), PackError> {
        match OpenFile::open(parent, name, follow) {
            Ok(file) => self.open_file(&file, path),
            Err(error) => self.skip_if_gone(path, error),
        }
    }

    fn open_file(&mut self, OpenFile { file, stat }: &OpenFile, path: &[u8]) -> Result<(), PackError> {
        if self.segments && attributes::is_partial(file) {
            return Err(PackError::Partial(self.shown(path)));
        }
        // It was another a moment ago: what is there now is for the next copy.
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return self.skip_if_gone(path, Errno::NOENT);
        }
        if stat.st_nlink > 1 && !path.is_empty() {
            let number = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&number).cloned() {
                return self.head(path, Kind::Link { to: &first }, stat);
            }
            self.links.insert(number, path.to_vec());
        }
        let size = stat.st_size.cast_unsigned();
        self.head(path, Kind::File { size }, stat)?;
        self.attributes(file, path)?;
        let mut way = Way::new(self.out.cache(), size);
        if stat.st_blocks.cast_unsigned().saturating_mul(512) >= size {
            return self.range(file, &mut way, path, 0..size);
        }
        if self.segments {
            self.announce(file, path, size)?;
        }
        let mut position = 0;
        while position < size {
            let data = match rustix::fs::seek(file, SeekFrom::Data(position)) {
                Ok(data) => data,
                // The rest is a hole.
                Err(Errno::NXIO) => break,
                // A file system that does not know holes has none.
                Err(Errno::INVAL) => position,
                Err(error) => return Err(self.failed(path, error)),
            };
            let hole = rustix::fs::seek(file, SeekFrom::Hole(data)).unwrap_or(size).min(size);
            self.range(file, &mut way, path, data..hole)?;
            position = hole.max(data + 1);
        }
        Ok(())
    }

    /// Packs a range of the file's bytes. One that shrinks meanwhile ends in a hole.
    fn range(
        &mut self,
        file: &OwnedFd,
        way: &mut Way,
        path: &[u8],
        Range { start: mut position, end }: Range<u64>,
    ) -> Result<(), PackError> {
        while position < end {
            // Blocks of a file that is all there start where those of its disk do.
            let most = self.buffer.len() - usize::try_from(position % ALIGNMENT as u64).unwrap_or(0);
            let room = usize::try_from(end - position).map_or(most, |left| left.min(most));
            let length = match way.read_at(file, &mut self.buffer, room, position) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(self.failed(path, error)),
            };
            self.out.bytes(position, &self.buffer[..length]).map_err(PackError::Write)?;
            position += length as u64;
        }
        Ok(())
    }

    fn attributes(&mut self, file: impl AsFd, path: &[u8]) -> Result<(), PackError> {
        if !self.options.attributes {
            return Ok(());
        }
        let all = attributes::list(file);
        let all = all.map_err(|source| PackError::Read { path: self.shown(path), source })?;
        for (name, value) in &all {
            self.out.header(&Header::Attribute { name, value }).map_err(PackError::Write)?;
        }
        Ok(())
    }

    fn head(&mut self, path: &[u8], kind: Kind<'_>, stat: &Stat) -> Result<(), PackError> {
        let modified = Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 };
        let mode = (stat.st_mode & 0o7777) as u16;
        let entry = Entry { path, kind, mode, uid: stat.st_uid, gid: stat.st_gid, modified };
        self.out.header(&Header::Entry(entry)).map_err(PackError::Write)
    }

    /// A tree that is in use loses files while it is packed. Its root must stay.
    fn skip_if_gone(&self, path: &[u8], error: Errno) -> Result<(), PackError> {
        let gone = matches!(error, Errno::NOENT | Errno::LOOP | Errno::NXIO) && !path.is_empty();
        if gone { Ok(()) } else { Err(self.failed(path, error)) }
    }

    fn failed(&self, path: &[u8], error: Errno) -> PackError {
        PackError::Read { path: self.shown(path), source: error.into() }
    }

    fn shown(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() { self.source.clone() } else { self.source.join(OsStr::from_bytes(path)) }
    }
}

fn numbers(stat: &Stat) -> (u32, u32) {
    (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
}

/// Whether a directory shows what the kernel makes up, as `/proc` does; `statfs(2)` has the numbers.
fn is_kernels_view(directory: &OwnedFd) -> bool {
    const PROC: u64 = 0x9fa0;
    const SYSFS: u64 = 0x6265_6572;
    const CGROUP2: u64 = 0x6367_7270;
    const DEVPTS: u64 = 0x1cd1;
    const MQUEUE: u64 = 0x1980_0202;
    const VIEWS: [u64; 5] = [PROC, SYSFS, CGROUP2, DEVPTS, MQUEUE];
    rustix::fs::fstatfs(directory).is_ok_and(|found| VIEWS.contains(&found.f_type.cast_unsigned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_the_name_of_its_last_part() {
        let cases: [(&str, Option<&str>); 12] = [
            ("a", Some("a")),
            ("/a/b", Some("b")),
            ("/a/b/", Some("b")),
            ("/a/b/.", None),
            (".", None),
            ("", Some("here")),
            ("..", Some("at")),
            ("../../..", None),
            ("/", None),
            ("a/..", Some("here")),
            ("/a/b/../", Some("a")),
            ("/a/../.", None),
        ];
        for (source, name) in cases {
            let found = source_name(source.as_bytes(), b"/at/here");
            assert_eq!(found.as_deref(), name.map(str::as_bytes), "{source}");
        }
    }
}
