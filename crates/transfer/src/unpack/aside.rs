//! Where files are made that are to replace others.
//!
//! They are made in a directory of their own, at the root of the tree, and change places with those that they replace, which
//! are removed when all are done. Renaming one over another would be as safe, and costs ext4 two things: it writes the new file
//! out at once, each by itself (`auto_da_alloc`, ext4(5)), and for each new file it looks past the numbers of all that were removed in the
//! last seconds, ten thousand times ten thousand.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, RenameFlags, Stat, StatxFlags};
use rustix::io::Errno;

use super::temporary::{hold, remove, temporary_name};
use super::walk::open_directory;
use crate::attributes::LONGEST;
use crate::page_cache::WORTH;

/// A directory whose files are nobody's yet, or no longer anybody's.
pub(super) struct Aside {
    directory: OwnedFd,
    name: Vec<u8>,
    legacy: Legacy,
    /// How many names were given.
    names: u64,
    /// The file system that regular files here are in, as `stat` tells it: an overlay tells its layers apart.
    device: Option<u64>,
    /// Those of files that were replaced.
    replaced: Vec<Vec<u8>>,
}

/// What a new file has of the directory that it is made in.
#[derive(PartialEq, Eq)]
struct Legacy {
    mount: u64,
    /// The group, where the directory gives its own.
    group: Option<u32>,
    access: Option<Vec<u8>>,
    label: Option<Vec<u8>>,
}

impl Aside {
    /// Makes it in `root`.
    pub(super) fn make(root: &OwnedFd) -> rustix::io::Result<Self> {
        let name = temporary_name();
        rustix::fs::mkdirat(root, &name[..], Mode::RWXU)?;
        let directory = open_directory(root, &name)?;
        // For as long as the directory is open.
        hold(&directory);
        let legacy = Legacy::of(&directory).inspect_err(|_| remove(root, &name))?;
        Ok(Self { directory, name, legacy, names: 0, device: None, replaced: Vec::new() })
    }

    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Whether files can be moved from here to `directory`, and are the same as if they had been made there.
    pub(super) fn is_near(&self, directory: &OwnedFd) -> bool {
        Legacy::of(directory).is_ok_and(|legacy| legacy == self.legacy)
    }

    /// A name that nothing here has.
    pub(super) fn next_name(&mut self) -> Vec<u8> {
        self.names += 1;
        self.names.to_string().into_bytes()
    }

    /// Gives the file `name` of here the name `target` in `parent`. What has that must not be a directory.
    pub(super) fn put(&mut self, name: &[u8], parent: &OwnedFd, target: &[u8]) -> rustix::io::Result<()> {
        let there = match rustix::fs::statat(parent, target, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error),
        };
        if there.is_some_and(|stat| self.is_to_be_exchanged(name, &stat)) {
            match rustix::fs::renameat_with(&self.directory, name, parent, target, RenameFlags::EXCHANGE) {
                Ok(()) => return self.keep(name, parent, target),
                // It is gone, or the file system cannot do it.
                Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS) => {}
                Err(error) => return Err(error),
            }
        }
        rustix::fs::renameat(&self.directory, name, parent, target)
    }

    /// What is large is better gone at once. And an overlay would first copy a file of its lower layer.
    fn is_to_be_exchanged(&mut self, name: &[u8], there: &Stat) -> bool {
        if !is_regular(there) || there.st_size.cast_unsigned() >= WORTH {
            return false;
        }
        if self.device.is_none() {
            let made = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
            self.device = made.ok().filter(is_regular).map(|made| made.st_dev);
        }
        self.device == Some(there.st_dev)
    }

    /// What came in exchange waits to be removed.
    fn keep(&mut self, name: &[u8], parent: &OwnedFd, target: &[u8]) -> rustix::io::Result<()> {
        let came = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(came.st_mode) == FileType::Directory {
            // Somebody put it there a moment ago.
            rustix::fs::renameat_with(&self.directory, name, parent, target, RenameFlags::EXCHANGE)?;
            return Err(Errno::ISDIR);
        }
        self.replaced.push(name.to_vec());
        Ok(())
    }

    /// Removes it from `root`, where it was made, with all that is in it. Tells whether anything was replaced.
    pub(super) fn remove(self, root: &OwnedFd) -> bool {
        for name in &self.replaced {
            // What stays goes with the directory.
            let _ = rustix::fs::unlinkat(&self.directory, &name[..], AtFlags::empty());
        }
        remove(root, &self.name);
        !self.replaced.is_empty()
    }
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

impl Legacy {
    fn of(directory: &OwnedFd) -> rustix::io::Result<Self> {
        let flags = StatxFlags::MNT_ID | StatxFlags::MODE | StatxFlags::GID;
        let found = rustix::fs::statx(directory, c"", AtFlags::EMPTY_PATH, flags)?;
        if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
            return Err(Errno::NOSYS);
        }
        let gives_group = Mode::from_raw_mode(u32::from(found.stx_mode)).contains(Mode::SGID);
        Ok(Self {
            mount: found.stx_mnt_id,
            group: gives_group.then_some(found.stx_gid),
            access: attribute(directory, "system.posix_acl_default"),
            label: attribute(directory, "security.selinux"),
        })
    }
}

/// An extended attribute, where there is one.
fn attribute(file: &OwnedFd, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; LONGEST];
    let length = rustix::fs::fgetxattr(file, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}
