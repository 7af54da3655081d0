//! What is no directory: files, links, pipes and devices, with their attributes.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::head::{Head, HeadKind, Next};
use super::temporary::{hold, is_temporary, temporary_name};
use super::walk::walk;
use super::{Maker, Owners, Tree, UnpackError};
use crate::attributes;
use crate::page_cache::Way;
use crate::stream::{Header, StreamError, Upcoming};

impl<R: Read> Maker<'_, R> {
    /// Makes what is neither a directory nor a link. Tells whether it was made.
    pub(super) fn node(&mut self, parent: &OwnedFd, name: &[u8], head: &Head) -> Result<bool, UnpackError> {
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
        self.report.entries += u64::from(made);
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

    pub(super) fn link(
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
        linked.map_err(|error| self.not_replaced(head, error))?;
        self.report.entries += 1;
        Ok(())
    }

    /// Owner, mode and times, in the order in which none undoes another.
    pub(super) fn attributes(&self, file: impl AsFd, head: &Head) -> Result<(), UnpackError> {
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
    pub(super) fn hold(&mut self, file: impl AsFd) {
        hold(&file);
        // Without a copy of it, it is held for as long as it is open.
        self.held = file.as_fd().try_clone_to_owned().ok();
    }

    pub(super) fn takes(&self, name: &[u8]) -> bool {
        attributes::is_users(name) || self.policy.privileged && attributes::is_kept(name)
    }

    pub(super) fn set(
        &self,
        file: impl AsFd,
        path: &[u8],
        name: &[u8],
        value: &[u8],
    ) -> Result<(), UnpackError> {
        match attributes::set(file, name, value) {
            // A file system without them is what the user chose.
            Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => Ok(()),
            outcome => outcome.map_err(|source| self.write_failed(path, source)),
        }
    }
}
