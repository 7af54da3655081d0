//! A stream becomes a tree of files.
//!
//! Whatever the stream says, nothing but the tree is touched: each part of a path is opened by itself below the
//! last, and no symbolic link is followed. A tree that is new is made under another name beside its place, which it
//! gets when it is whole. In a tree that is there, each file is replaced when it is whole.

mod aside;
mod head;
mod node;
mod temporary;
mod walk;

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::destination::{Destination, Place, PlaceError};
use crate::exchange::Receiving;
use crate::stream::{Header, Reader, StreamError};
use aside::Aside;
use head::{Head, HeadKind, Next};
use temporary::{remove, sweep, temporary_name};
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
    last: Option<Parent>,
    /// Where files are made that replace others; none where that cannot be had.
    aside: Option<Aside>,
    /// Whether files changed places with others.
    replaced: bool,
}

/// A directory that entries are in.
struct Parent {
    path: Vec<u8>,
    directory: OwnedFd,
    /// Whether what is made aside can be moved to it.
    near: bool,
}

impl Tree {
    /// A directory of it, opened for what is to be in it.
    fn parent(&self, path: Vec<u8>, directory: OwnedFd) -> Parent {
        let near = self.aside.as_ref().is_some_and(|aside| aside.is_near(&directory));
        if !self.fresh && !near {
            sweep(&directory);
        }
        Parent { path, directory, near }
    }

    /// Removes what was replaced.
    fn settle(&mut self) {
        self.replaced |= self.aside.take().is_some_and(|aside| aside.remove(&self.root));
    }
}

impl<R: Read> Maker<'_, R> {
    /// Into a directory that is there.
    fn merge(mut self, directory: OwnedFd, root: &Head) -> Result<Report, UnpackError> {
        let loose = matches!(root.kind, HeadKind::Content);
        sweep(&directory);
        let aside = Aside::make(&directory).ok();
        let mut tree = Tree {
            root: directory,
            fresh: false,
            loose,
            open: Vec::new(),
            last: None,
            aside,
            replaced: false,
        };
        // It keeps its own attributes, and time goes on for it.
        if self.policy.owners == Owners::Kept && !loose {
            let root = Head { path: Vec::new(), kind: HeadKind::Directory, ..*root };
            tree.open.push((root, true));
        }
        let outcome = self.entries(&mut tree);
        tree.settle();
        match outcome.and_then(|()| self.write_out(&tree)) {
            Ok(()) => Ok(self.report),
            Err(cause) if self.report.entries == 0 => Err(cause),
            Err(cause) => Err(UnpackError::Partial {
                path: self.shown,
                entries: self.report.entries,
                cause: Box::new(cause),
            }),
        }
    }

    /// Sees to it that a guest that is stopped at once has not lost both what was replaced and what replaced it: its disk is
    /// its own. On the host, others would be waited for.
    fn write_out(&self, tree: &Tree) -> Result<(), UnpackError> {
        if tree.replaced && self.policy.privileged {
            rustix::fs::syncfs(&tree.root).map_err(|error| self.failed(b"", error))?;
        }
        Ok(())
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
            let mut tree = Tree {
                root: directory,
                fresh: true,
                loose: false,
                open,
                last: None,
                aside: None,
                replaced: false,
            };
            self.report.entries = 1;
            self.entries(&mut tree)?;
        } else {
            let made = self.node(parent, temporary, &root)?;
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
                Next::End => {
                    tree.settle();
                    return self.close_directories(tree, b"");
                }
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
            Some(parent) if parent.path == above => parent,
            _ => {
                let walk = if tree.loose { walk_and_make } else { walk };
                let directory = walk(&tree.root, above).map_err(|error| self.failed(above, error))?;
                tree.parent(above.to_vec(), directory)
            }
        };
        let next = if matches!(head.kind, HeadKind::Directory) {
            let was_there = self.directory(&parent.directory, name, &head)?;
            let apply = !was_there || self.policy.owners == Owners::Kept;
            let path = head.path.clone();
            let directory =
                open_directory(&parent.directory, name).map_err(|error| self.failed(&path, error))?;
            tree.open.push((head, apply));
            self.report.entries += 1;
            tree.last = Some(tree.parent(path, directory));
            return Ok(self.reader.next_header()?.into_owned_entry());
        } else if let HeadKind::Link(to) = &head.kind {
            self.link(tree, &parent.directory, name, &head, to)?;
            self.reader.next_header()?.into_owned_entry()
        } else if tree.fresh {
            self.node(&parent.directory, name, &head)?;
            self.reader.next_header()?.into_owned_entry()
        } else {
            self.replacement(tree, &parent, name, &head)?;
            self.reader.next_header()?.into_owned_entry()
        };
        tree.last = Some(parent);
        Ok(next)
    }

    /// Makes what may be there already, and gives it its name when it is whole.
    fn replacement(
        &mut self,
        tree: &mut Tree,
        parent: &Parent,
        name: &[u8],
        head: &Head,
    ) -> Result<(), UnpackError> {
        let directory = &parent.directory;
        let Some(aside) = tree.aside.as_mut().filter(|_| parent.near) else {
            let temporary = temporary_name();
            let outcome = self.node(directory, &temporary, head).and_then(|made| {
                let renamed = if made {
                    rustix::fs::renameat(directory, &temporary[..], directory, name)
                } else {
                    Ok(())
                };
                renamed.map_err(|error| self.not_replaced(head, error))
            });
            if outcome.is_err() {
                remove(directory, &temporary);
            }
            return outcome;
        };
        let temporary = aside.next_name();
        if self.node(aside.directory(), &temporary, head)? {
            aside.put(&temporary, directory, name).map_err(|error| self.not_replaced(head, error))?;
        }
        Ok(())
    }

    fn not_replaced(&self, head: &Head, error: Errno) -> UnpackError {
        match error {
            Errno::ISDIR => PlaceError::FileOverDirectory(self.shown(&head.path)).into(),
            error => self.failed(&head.path, error),
        }
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
