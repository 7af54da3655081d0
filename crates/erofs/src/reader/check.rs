//! The check of a whole image: every inode that can be reached, and how they hang together.

use std::collections::BTreeMap;

use super::{DirectoryEntry, FileInode, ReadError, Reader, Source};
use crate::FileType;

/// What is in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Files of all kinds.
    pub inodes: u64,
    /// Bytes in regular files.
    pub data: u64,
}

/// A directory whose entries are still to be checked.
struct Pending {
    inode: FileInode,
    parent: u64,
}

impl<S: Source + ?Sized> Reader<'_, S> {
    /// Checks every inode that can be reached: types, names, link counts, extents, and the shape of the tree.
    pub fn check(&self) -> Result<Summary, ReadError> {
        let mut walk = Walk { reader: self, names: BTreeMap::new(), pending: Vec::new() };
        let root = self.inode(self.root())?;
        if root.file_type != FileType::Directory {
            return Err(ReadError::Superblock("the root is not a directory"));
        }
        walk.names.insert(root.nid, 1);
        walk.pending.push(Pending { parent: root.nid, inode: root });
        while let Some(directory) = walk.pending.pop() {
            walk.directory(&directory)?;
        }
        walk.finish()
    }
}

struct Walk<'r, 's, S: ?Sized> {
    reader: &'r Reader<'s, S>,
    /// Names found for each inode, with `.` and `..` of directories.
    names: BTreeMap<u64, u32>,
    pending: Vec<Pending>,
}

impl<S: Source + ?Sized> Walk<'_, '_, S> {
    fn directory(&mut self, directory: &Pending) -> Result<(), ReadError> {
        let nid = directory.inode.nid;
        let mut dots = 0;
        for entry in self.reader.entries(&directory.inode)? {
            let expected = match &entry.name[..] {
                b"." => nid,
                b".." => directory.parent,
                _ => {
                    self.entry(nid, &entry)?;
                    continue;
                }
            };
            if entry.nid != expected || entry.file_type != FileType::Directory {
                return Err(ReadError::Inode { nid, problem: "`.` or `..` is wrong" });
            }
            dots += 1;
        }
        *self.names.entry(nid).or_default() += 1;
        if dots != 2 {
            return Err(ReadError::Inode { nid, problem: "no `.` or no `..`" });
        }
        Ok(())
    }

    fn entry(&mut self, parent: u64, entry: &DirectoryEntry) -> Result<(), ReadError> {
        let inode = self.reader.inode(entry.nid)?;
        let damaged = |problem| ReadError::Inode { nid: entry.nid, problem };
        if inode.file_type != entry.file_type {
            return Err(damaged("its directory gives another type"));
        }
        let names = self.names.entry(entry.nid).or_default();
        *names += 1;
        let is_new = *names == 1;
        if inode.file_type == FileType::Directory {
            if !is_new {
                return Err(damaged("a directory has two names"));
            }
            *self.names.entry(parent).or_default() += 1;
            self.pending.push(Pending { inode, parent });
        }
        Ok(())
    }

    fn finish(self) -> Result<Summary, ReadError> {
        let mut summary = Summary::default();
        for (&nid, &names) in &self.names {
            let inode = self.reader.inode(nid)?;
            if inode.links != names {
                return Err(ReadError::Inode { nid, problem: "the number of links is wrong" });
            }
            self.reader.xattrs(&inode)?;
            match inode.file_type {
                FileType::Symlink => drop(self.reader.target(&inode)?),
                FileType::Regular => summary.data += inode.size,
                _ => {}
            }
            summary.inodes += 1;
        }
        if summary.inodes != self.reader.superblock.inos.get() {
            return Err(ReadError::Superblock("the number of inodes is wrong"));
        }
        Ok(summary)
    }
}
