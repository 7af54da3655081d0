//! Where each inode goes, before any of them is written.
//!
//! Directories are visited level by level, each one's new inodes in the order of their names. So a
//! directory's files lie together, and the root comes first, where its 16-bit number reaches.

use super::WriteError;
use super::directory;
use crate::format::{BLOCK, FORMAT_INLINE, FORMAT_PLAIN, INODE_SIZE, SLOT};
use crate::{Content, Inode, InodeId, Tree};

/// Unused bytes at the start of the inode area, so that no inode has the number 0.
const UNUSED: u64 = 64;

/// The places of all inodes that have a name.
#[derive(Debug)]
pub(super) struct Plan {
    start: u64,
    order: Vec<InodeId>,
    places: Vec<Place>,
    inode_area: u64,
}

/// What is known of an inode beyond the tree.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    /// Its number in the image: its slot in the inode area.
    pub(super) nid: u32,
    /// Names that stand for it, with `.` and `..` of directories.
    pub(super) links: u32,
    /// The directory that names it, if it is one itself.
    pub(super) parent: u32,
}

/// How an inode and what is in it divide over slots and blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// `i_format`.
    pub(super) format: u16,
    /// Bytes of the directory or link target.
    pub(super) size: u64,
    /// Bytes of inode, xattrs and inline tail.
    pub(super) record: u64,
    /// Blocks of the directory or link target that are not inline.
    pub(super) blocks: u64,
}

impl Plan {
    /// Lays out the inodes of `tree` from the block boundary `start` on.
    pub(super) fn new(tree: &Tree, start: u64, limit: u64) -> Result<Self, WriteError> {
        let mut plan = Self::visit(tree, start);
        let mut cursor = UNUSED;
        for id in &plan.order {
            let record = Shape::of(tree, *id).record;
            let at = place_record(cursor, record);
            let nid = u32::try_from(at / SLOT).map_err(|_| WriteError::TooLarge { limit })?;
            plan.places[id.index()].nid = nid;
            cursor = at + record;
        }
        plan.inode_area = cursor;
        Ok(plan)
    }

    /// Finds all inodes with a name, and counts their names.
    fn visit(tree: &Tree, start: u64) -> Self {
        let mut places = vec![Place::default(); tree.inodes().len()];
        let mut order = vec![tree.root()];
        places[tree.root().index()].links = 1;
        let mut next = 0;
        while let Some(&id) = order.get(next) {
            next += 1;
            let Some(directory) = tree.directory(id) else { continue };
            places[id.index()].links += 1;
            for (_, entry) in directory.iter() {
                let child = entry.inode.index();
                if places[child].links == 0 {
                    order.push(entry.inode);
                }
                places[child].links += 1;
                if tree.directory(entry.inode).is_some() {
                    assert!(places[child].links == 1, "a directory has one name");
                    places[child].parent = id.index() as u32;
                    places[id.index()].links += 1;
                }
            }
        }
        Self { start, order, places, inode_area: 0 }
    }

    /// Where the inode area starts in the image.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Where the blocks behind the inode area start.
    pub(super) fn blocks_start(&self) -> u64 {
        self.start + self.inode_area.next_multiple_of(BLOCK)
    }

    /// All named inodes in the order of their places.
    pub(super) fn order(&self) -> &[InodeId] {
        &self.order
    }

    pub(super) fn place(&self, id: InodeId) -> Place {
        self.places[id.index()]
    }

    pub(super) fn nid_at(&self, index: u32) -> u32 {
        self.places[index as usize].nid
    }

    pub(super) fn is_named(&self, index: usize) -> bool {
        self.places[index].links > 0
    }

    pub(super) fn root_nid(&self) -> u16 {
        u16::try_from(self.places[0].nid).expect("the root comes first")
    }
}

impl Shape {
    pub(super) fn of(tree: &Tree, id: InodeId) -> Self {
        let inode = tree.inode(id);
        Self::new(inode, payload_size(inode))
    }

    fn new(inode: &Inode, size: u64) -> Self {
        let head = (INODE_SIZE + inode.xattrs.size()) as u64;
        let tail = size % BLOCK;
        if tail > 0 && head + tail <= BLOCK {
            return Self { format: FORMAT_INLINE, size, record: head + tail, blocks: size / BLOCK };
        }
        Self { format: FORMAT_PLAIN, size, record: head, blocks: size.div_ceil(BLOCK) }
    }
}

fn payload_size(inode: &Inode) -> u64 {
    match &inode.content {
        Content::Directory(directory) => directory::size(directory),
        Content::Symlink(target) => target.len() as u64,
        _ => 0,
    }
}

/// A record that fits in one block stays in one; a larger one starts on a block boundary.
fn place_record(cursor: u64, record: u64) -> u64 {
    let at = cursor.next_multiple_of(SLOT);
    if at % BLOCK + record <= BLOCK { at } else { at.next_multiple_of(BLOCK) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_do_not_cross_blocks_unless_they_must() {
        assert_eq!(place_record(64, 64), 64);
        assert_eq!(place_record(65, 64), 96);
        assert_eq!(place_record(4032, 64), 4032);
        assert_eq!(place_record(4033, 64), 4096);
        assert_eq!(place_record(64, 4096), 4096);
        assert_eq!(place_record(64, 9000), 4096);
        assert_eq!(place_record(4096, 9000), 4096);
    }
}
