//! A stream becomes a tree of files.
//!
//! Whatever the stream says, nothing but the tree is touched: each part of a path is opened by itself below the
//! last, and no symbolic link is followed. A tree that is new is made under another name beside its place, which it
//! gets when it is whole. In a tree that is there, each file is replaced when it is whole.

mod head;
mod temporary;
mod walk;

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::attributes;
use crate::destination::{Destination, Place, PlaceError};
use crate::exchange::Receiving;
use crate::page_cache::Way;
use crate::stream::{Header, Reader, StreamError, Upcoming};
use head::{Head, HeadKind, Next};
use temporary::{hold, is_temporary, remove, sweep, temporary_name};
use walk::{open_directory, walk, walk_and_make};

/// What a tree may bring with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whose its files are.
    pub owners: Owners,
    /// Whether it may have devices, programs that run as somebody else, and attributes that give rights: what is
    /// made inside a guest may, what is made on the host may not. The process's umask must be 0 then.
    pub privileged: bool,
}

/// Whose the files of a tree are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Those of whoever makes them.
    Own,
    /// As the stream says.
    Kept,
}

/// What was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Files of whatever kind.
    pub entries: u64,
    /// Bytes of data; holes are none.
    pub bytes: u64,
    /// Devices that were left out.
    pub left_out: u64,
}

/// Why a tree was not made, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It cannot go where it should.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The stream cannot be gone on with.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// A file could not be made.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An owner could not be kept.
    #[error("cannot give `{}` to user {uid} and group {gid}", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// The owner's number.
        uid: u32,
        /// The group's number.
        gid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// Some of it was made, and stays.
    #[error("{cause}; {entries} files were copied to `{}` before", path.display())]
    Partial {
        /// Where it is.
        path: PathBuf,
        /// How much was made.
        entries: u64,
        /// Why not all.
        cause: Box<UnpackError>,
    },
}

/// Makes the tree that `input` describes at `destination`; what is large comes through `exchange`, if there is one.
/// `progress` hears how many bytes are done.
pub fn unpack(
    input: impl Read,
    exchange: Option<Receiving>,
    destination: &Destination,
    policy: Policy,
    progress: &mut dyn FnMut(u64),
) -> Result<Report, UnpackError> {
    let mut reader = Reader::new(io::BufReader::with_capacity(64 * 1024, input)).exchanging(exchange);
    let root = match reader.next_header()? {
        Header::Entry(entry) => Head::of(&entry),
        _ => return Err(StreamError::Malformed("it does not start with its root").into()),
    };
    let (place, path) = match root.kind {
        HeadKind::Content => destination.resolve_content()?,
        _ => destination.resolve(matches!(root.kind, HeadKind::Directory))?,
    };
    let maker = Maker { reader, policy, report: Report::default(), progress, shown: path, held: None };
    match place {
        Place::Into(directory) => maker.merge(directory, &root),
        Place::At { parent, name, free } => maker.place(&parent, &name, free, root),
    }
}

struct Maker<'a, R: Read> {
    reader: Reader<R>,
    policy: Policy,
    report: Report,
    progress: &'a mut dyn FnMut(u64),
    /// What the tree's root is called when people hear of it.
    shown: PathBuf,
    /// What is held until it has its name.
    held: Option<OwnedFd>,
}

/// A tree that is being made.
struct Tree {
    root: OwnedFd,
    /// Whether nothing in it was there before.
    fresh: bool,
    /// Whether directories may be missing, and are made.
    loose: bool,
    /// Directories whose content is not complete, outermost first: their attributes come last.
    open: Vec<(Head, bool)>,
    /// The directory of the last entry, for the next.
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl<R: Read> Maker<'_, R> {
    /// Into a directory that is there.
    fn merge(mut self, directory: OwnedFd, root: &Head) -> Result<Report, UnpackError> {
        let loose = matches!(root.kind, HeadKind::Content);
        let mut tree = Tree { root: directory, fresh: false, loose, open: Vec::new(), last: None };
        // It keeps its own attributes, and time goes on for it.
        if self.policy.owners == Owners::Kept && !loose {
            let root = Head { path: Vec::new(), kind: HeadKind::Directory, ..*root };
            tree.open.push((root, true));
        }
        match self.entries(&mut tree) {
            Ok(()) => Ok(self.report),
            Err(cause) if self.report.entries == 0 => Err(cause),
            Err(cause) => Err(UnpackError::Partial {
                path: self.shown,
                entries: self.report.entries,
                cause: Box::new(cause),
            }),
        }
    }

    /// At a name: made under another one, and renamed when it is whole.
    fn place(mut self, parent: &OwnedFd, name: &[u8], free: bool, root: Head) -> Result<Report, UnpackError> {
        sweep(parent);
        let temporary = temporary_name();
        let outcome = self.make_and_rename(parent, &temporary, name, free, root);
        if outcome.is_err() {
            remove(parent, &temporary);
        }
        outcome.map(|()| self.report)
    }

    fn make_and_rename(
        &mut self,
        parent: &OwnedFd,
        temporary: &[u8],
        name: &[u8],
        free: bool,
        root: Head,
    ) -> Result<(), UnpackError> {
        if matches!(root.kind, HeadKind::Directory) {
            let failed = |error: Errno, shown: &Path| write_error(shown, error);
            rustix::fs::mkdirat(parent, temporary, Mode::RWXU).map_err(|error| failed(error, &self.shown))?;
            let directory = open_directory(parent, temporary).map_err(|error| failed(error, &self.shown))?;
            self.hold(&directory);
            let open = vec![(root, true)];
            let mut tree = Tree { root: directory, fresh: true, loose: false, open, last: None };
            self.report.entries = 1;
            self.entries(&mut tree)?;
        } else {
            let made = self.node(parent, temporary, &root, None)?;
            // One stream, one file.
            let more = !matches!(self.reader.next_header()?, Header::End);
            if more {
                return Err(StreamError::Malformed("something follows a root that is no directory").into());
            }
            if !made {
                return Ok(());
            }
        }
        let flags = if free { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        let renamed = match rustix::fs::renameat_with(parent, temporary, parent, name, flags) {
            // Not every file system can tell.
            Err(Errno::INVAL | Errno::NOSYS) if free => rustix::fs::renameat(parent, temporary, parent, name),
            renamed => renamed,
        };
        renamed.map_err(|error| write_error(&self.shown, error))
    }

    /// Everything after the root.
    fn entries(&mut self, tree: &mut Tree) -> Result<(), UnpackError> {
        let mut next = self.reader.next_header()?.into_owned_entry();
        loop {
            match next {
                Next::Entry(head) => next = self.entry(tree, head)?,
                Next::Attribute(name, value) => {
                    // Only a directory's are heard here.
                    self.directory_attribute(tree, &name, &value)?;
                    next = self.reader.next_header()?.into_owned_entry();
                }
                Next::Data => return Err(StreamError::Malformed("data is out of place").into()),
                Next::End => return self.close_directories(tree, b""),
            }
        }
    }

    /// One entry; returns what follows it.
    fn entry(&mut self, tree: &mut Tree, head: Head) -> Result<Next, UnpackError> {
        self.close_directories(tree, &head.path)?;
        let (above, name) = match head.path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&head.path[..slash], &head.path[slash + 1..]),
            None => (&b""[..], &head.path[..]),
        };
        let parent = match tree.last.take() {
            Some((path, descriptor)) if path == above => descriptor,
            _ => {
                let walk = if tree.loose { walk_and_make } else { walk };
                let parent = walk(&tree.root, above).map_err(|error| self.failed(above, error))?;
                if !tree.fresh {
                    sweep(&parent);
                }
                parent
            }
        };
        let next = if matches!(head.kind, HeadKind::Directory) {
            let was_there = self.directory(&parent, name, &head)?;
            let apply = !was_there || self.policy.owners == Owners::Kept;
            let path = head.path.clone();
            let directory = open_directory(&parent, name).map_err(|error| self.failed(&path, error))?;
            if was_there {
                sweep(&directory);
            }
            tree.open.push((head, apply));
            self.report.entries += 1;
            tree.last = Some((path, directory));
            return Ok(self.reader.next_header()?.into_owned_entry());
        } else if let HeadKind::Link(to) = &head.kind {
            self.link(tree, &parent, name, &head, to)?;
            self.reader.next_header()?.into_owned_entry()
        } else if tree.fresh {
            self.node(&parent, name, &head, None)?;
            self.reader.next_header()?.into_owned_entry()
        } else {
            let temporary = temporary_name();
            let outcome = self.node(&parent, &temporary, &head, Some(name));
            if outcome.is_err() {
                remove(&parent, &temporary);
            }
            outcome?;
            self.reader.next_header()?.into_owned_entry()
        };
        tree.last = Some((above.to_vec(), parent));
        Ok(next)
    }

    /// Makes a directory, unless it is there; tells whether it was.
    fn directory(&self, parent: &OwnedFd, name: &[u8], head: &Head) -> Result<bool, UnpackError> {
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => Ok(false),
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|error| self.failed(&head.path, error))?;
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => Ok(true),
                    _ => Err(PlaceError::DirectoryOverFile(self.shown(&head.path)).into()),
                }
            }
            Err(error) => Err(self.failed(&head.path, error)),
        }
    }

    /// Gives directories that are complete their attributes: those that `path` is not in.
    fn close_directories(&mut self, tree: &mut Tree, path: &[u8]) -> Result<(), UnpackError> {
        while let Some((head, _)) = tree.open.last() {
            let is_above = head.path.is_empty()
                || path.strip_prefix(&head.path[..]).is_some_and(|rest| rest.starts_with(b"/"));
            if is_above && !path.is_empty() {
                return Ok(());
            }
            let Some((head, apply)) = tree.open.pop() else { return Ok(()) };
            if apply {
                let directory =
                    walk(&tree.root, &head.path).map_err(|error| self.failed(&head.path, error))?;
                self.attributes(&directory, &head)?;
            }
        }
        Ok(())
    }

    fn directory_attribute(&self, tree: &Tree, name: &[u8], value: &[u8]) -> Result<(), UnpackError> {
        // A root that was there keeps its own.
        let Some((head, apply)) = tree.open.last() else { return Ok(()) };
        if !apply || !self.takes(name) {
            return Ok(());
        }
        let directory = walk(&tree.root, &head.path).map_err(|error| self.failed(&head.path, error))?;
        self.set(&directory, &head.path, name, value)
    }

    /// Makes what is neither a directory nor a link, and gives it the name `target` when it is whole. Tells whether
    /// it was made.
    fn node(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        head: &Head,
        target: Option<&[u8]>,
    ) -> Result<bool, UnpackError> {
        let made = match &head.kind {
            HeadKind::File(size) => self.file(parent, name, head, *size).map(|()| true)?,
            HeadKind::Symlink(to) => {
                let made = rustix::fs::symlinkat(&to[..], parent, name);
                made.map_err(|error| self.failed(&head.path, error))?;
                self.named_attributes(parent, name, head)?;
                true
            }
            HeadKind::Fifo => {
                self.special(parent, name, head, FileType::Fifo, 0)?;
                true
            }
            HeadKind::Device(kind, major, minor) if self.policy.privileged => {
                self.special(parent, name, head, *kind, rustix::fs::makedev(*major, *minor))?;
                true
            }
            HeadKind::Device(..) => {
                self.report.left_out += 1;
                false
            }
            HeadKind::Directory | HeadKind::Content | HeadKind::Link(_) => {
                unreachable!("they are made elsewhere")
            }
        };
        if made {
            self.report.entries += 1;
            if let Some(target) = target {
                rustix::fs::renameat(parent, name, parent, target).map_err(|error| match error {
                    Errno::ISDIR => PlaceError::FileOverDirectory(self.shown(&head.path)).into(),
                    error => self.failed(&head.path, error),
                })?;
            }
        }
        Ok(made)
    }

    fn file(&mut self, parent: &OwnedFd, name: &[u8], head: &Head, size: u64) -> Result<(), UnpackError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags, self.first_mode(head))
            .map_err(|error| self.failed(&head.path, error))?;
        let file = std::fs::File::from(file);
        if is_temporary(name) {
            self.hold(&file);
        }
        let mut way = Way::new(self.reader.cache(), size);
        let mut reached = 0;
        loop {
            // What follows is looked at without taking it: it may be the next entry.
            match self.reader.upcoming()? {
                Upcoming::Attribute => {
                    if let Next::Attribute(name, value) = self.reader.next_header()?.into_owned_entry()
                        && self.takes(&name)
                    {
                        self.set(&file, &head.path, &name, &value)?;
                    }
                }
                // They are for those who must know before the data come.
                Upcoming::Segments => drop(self.reader.next_header()?),
                Upcoming::Data => {
                    let Header::Data { offset, .. } = self.reader.next_header()? else {
                        return Err(StreamError::Malformed("data is out of place").into());
                    };
                    let mut position = offset;
                    let (report, progress) = (&mut self.report, &mut *self.progress);
                    let written = self.reader.data(&mut |bytes| {
                        way.write_all_at(&file, bytes, position)?;
                        position += bytes.len() as u64;
                        report.bytes += bytes.len() as u64;
                        progress(report.bytes);
                        Ok(())
                    })?;
                    written.map_err(|source| self.write_failed(&head.path, source))?;
                    reached = position;
                }
                Upcoming::Other => break,
            }
        }
        if reached < size {
            file.set_len(size).map_err(|source| self.write_failed(&head.path, source))?;
        }
        self.attributes(&file, head)
    }

    fn special(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        head: &Head,
        kind: FileType,
        device: u64,
    ) -> Result<(), UnpackError> {
        rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(self.mode(head)), device)
            .map_err(|error| self.failed(&head.path, error))?;
        self.named_attributes(parent, name, head)
    }

    fn link(
        &mut self,
        tree: &Tree,
        parent: &OwnedFd,
        name: &[u8],
        head: &Head,
        to: &[u8],
    ) -> Result<(), UnpackError> {
        let (above, original) = match to.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&to[..slash], &to[slash + 1..]),
            None => (&b""[..], to),
        };
        let directory = walk(&tree.root, above).map_err(|error| self.failed(to, error))?;
        let linked = if tree.fresh {
            rustix::fs::linkat(&directory, original, parent, name, AtFlags::empty())
        } else {
            let temporary = temporary_name();
            rustix::fs::linkat(&directory, original, parent, &temporary[..], AtFlags::empty()).and_then(
                |()| {
                    let renamed = rustix::fs::renameat(parent, &temporary[..], parent, name);
                    // Where both were the same file already, renaming did nothing.
                    let _ = rustix::fs::unlinkat(parent, &temporary[..], AtFlags::empty());
                    renamed
                },
            )
        };
        linked.map_err(|error| match error {
            Errno::ISDIR => PlaceError::FileOverDirectory(self.shown(&head.path)).into(),
            error => self.failed(&head.path, error),
        })?;
        self.report.entries += 1;
        Ok(())
    }

    /// Owner, mode and times, in the order in which none undoes another.
    fn attributes(&self, file: impl AsFd, head: &Head) -> Result<(), UnpackError> {
        let file = file.as_fd();
        if self.policy.owners == Owners::Kept {
            let (uid, gid) = (Uid::from_raw(head.uid), Gid::from_raw(head.gid));
            rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(|error| self.owner_failed(head, error))?;
        }
        let mode = Mode::from_raw_mode(self.mode(head));
        let is_new_file = matches!(head.kind, HeadKind::File(_));
        if !is_new_file || self.first_mode(head) != mode || self.policy.owners == Owners::Kept {
            rustix::fs::fchmod(file, mode).map_err(|error| self.failed(&head.path, error))?;
        }
        rustix::fs::futimens(file, &head.times()).map_err(|error| self.failed(&head.path, error))
    }

    /// The mode that a file is made with. Where nobody may see it before its time, that is its own; see [`Policy`].
    fn first_mode(&self, head: &Head) -> Mode {
        let mode = if self.policy.privileged { self.mode(head) & 0o777 } else { 0o600 };
        Mode::from_raw_mode(mode)
    }

    /// The same of what cannot be opened without doing something.
    fn named_attributes(&self, parent: &OwnedFd, name: &[u8], head: &Head) -> Result<(), UnpackError> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if self.policy.owners == Owners::Kept {
            let (uid, gid) = (Uid::from_raw(head.uid), Gid::from_raw(head.gid));
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags)
                .map_err(|error| self.owner_failed(head, error))?;
        }
        // A link has no mode of its own; what was made in a private place or just now is what it was.
        if !matches!(head.kind, HeadKind::Symlink(_)) {
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(self.mode(head)), AtFlags::empty())
                .map_err(|error| self.failed(&head.path, error))?;
        }
        rustix::fs::utimensat(parent, name, &head.times(), flags)
            .map_err(|error| self.failed(&head.path, error))
    }

    fn mode(&self, head: &Head) -> u32 {
        let mode = u32::from(head.mode);
        let plain = if matches!(head.kind, HeadKind::Directory) { 0o1777 } else { 0o777 };
        if self.policy.privileged { mode } else { mode & plain }
    }

    /// Says that a copy is at what has a temporary name.
    fn hold(&mut self, file: impl AsFd) {
        hold(&file);
        // Without a copy of it, it is held for as long as it is open.
        self.held = file.as_fd().try_clone_to_owned().ok();
    }

    fn takes(&self, name: &[u8]) -> bool {
        attributes::is_users(name) || self.policy.privileged && attributes::is_kept(name)
    }

    fn set(&self, file: impl AsFd, path: &[u8], name: &[u8], value: &[u8]) -> Result<(), UnpackError> {
        match attributes::set(file, name, value) {
            // A file system without them is what the user chose.
            Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => Ok(()),
            outcome => outcome.map_err(|source| self.write_failed(path, source)),
        }
    }

    fn owner_failed(&self, head: &Head, error: Errno) -> UnpackError {
        let path = self.shown(&head.path);
        UnpackError::Owner { path, uid: head.uid, gid: head.gid, source: error.into() }
    }

    fn failed(&self, path: &[u8], error: Errno) -> UnpackError {
        write_error(&self.shown(path), error)
    }

    fn write_failed(&self, path: &[u8], source: io::Error) -> UnpackError {
        UnpackError::Write { path: self.shown(path), source }
    }

    fn shown(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() { self.shown.clone() } else { self.shown.join(OsStr::from_bytes(path)) }
    }
}

fn write_error(path: &Path, error: Errno) -> UnpackError {
    UnpackError::Write { path: path.to_owned(), source: error.into() }
}
