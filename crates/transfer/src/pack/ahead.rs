//! A directory's files, opened and read ahead.
//!
//! A disk answers many questions at once faster than one after the other, and each that a guest waits for costs an interrupt. So
//! the next files of a directory are open, and what they have is on its way into the page cache, while one is packed.

use std::collections::VecDeque;
use std::ffi::CString;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Advice, Dir, FileType, Mode, OFlags, Stat};
use rustix::path::Arg;

use crate::page_cache::WORTH;

/// How many files are open ahead.
const FILES: usize = 32;

/// What is in a directory, by name: the same tree is the same stream.
pub(crate) struct Listing {
    names: Vec<(CString, FileType)>,
}

/// A regular file, or what became of one meanwhile.
pub(crate) struct OpenFile {
    pub(crate) file: OwnedFd,
    pub(crate) stat: Stat,
}

/// What is opened ahead. Nothing is beyond a directory: below that, other files are opened ahead.
pub(crate) struct Ahead<'d> {
    directory: BorrowedFd<'d>,
    names: &'d [(CString, FileType)],
    /// For the next names, the files that could be opened.
    files: VecDeque<Option<OpenFile>>,
}

impl Listing {
    pub(crate) fn read(directory: &OwnedFd) -> rustix::io::Result<Self> {
        let mut names = Vec::new();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push((name.to_owned(), entry.file_type()));
            }
        }
        names.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(Self { names })
    }

    /// The names, and what has them as far as the file system tells.
    pub(crate) fn names(&self) -> &[(CString, FileType)] {
        &self.names
    }
}

impl OpenFile {
    pub(crate) fn open(parent: BorrowedFd<'_>, name: impl Arg, follow: OFlags) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY | follow;
        let file = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&file)?;
        Ok(Self { file, stat })
    }

    /// Has the kernel read it, unless it is none of those that are read through the page cache.
    fn read_ahead(&self) {
        let size = self.stat.st_size.cast_unsigned();
        if let Some(length) = NonZeroU64::new(size).filter(|_| size < WORTH) {
            // It is only asked for.
            let _ = rustix::fs::fadvise(&self.file, 0, Some(length), Advice::WillNeed);
        }
    }
}

impl<'d> Ahead<'d> {
    pub(crate) fn new(directory: &'d OwnedFd, listing: &'d Listing) -> Self {
        Self { directory: directory.as_fd(), names: listing.names(), files: VecDeque::new() }
    }

    /// What the next name's file is, if it was opened; otherwise it is to be looked at.
    pub(crate) fn next(&mut self) -> Option<OpenFile> {
        while self.files.len() < FILES
            && let Some((name, kind)) = self.names.get(self.files.len())
            && *kind == FileType::RegularFile
        {
            let opened = OpenFile::open(self.directory, name, OFlags::NOFOLLOW).ok();
            opened.iter().for_each(OpenFile::read_ahead);
            self.files.push_back(opened);
        }
        self.names = self.names.get(1..).unwrap_or_default();
        self.files.pop_front().flatten()
    }
}
