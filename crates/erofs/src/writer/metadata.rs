//! Inodes with what stands behind them, then the blocks of directories and long links.

use std::borrow::Cow;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::WriteError;
use super::directory::{self, Listed};
use super::output::Output;
use super::plan::{Plan, Shape};
use crate::format::{BLOCK, ExtendedInode, FORMAT_INLINE, SLOT, xattr_icount};
use crate::{Content, Directory, FileType, Inode, InodeId, Tree};

/// Writes all metadata as planned, at the end of `output`, which is where the plan starts.
pub(super) fn write(output: &mut Output<'_>, tree: &Tree, plan: &Plan) -> Result<(), WriteError> {
    write_inodes(output, tree, plan)?;
    output.align(BLOCK)?;
    debug_assert_eq!(output.position(), plan.blocks_start(), "the plan is kept");
    for &id in plan.order() {
        let shape = Shape::of(tree, id);
        if shape.blocks > 0 {
            let payload = payload(tree, plan, id);
            let in_blocks = payload.len().min((shape.blocks * BLOCK) as usize);
            output.append(&payload[..in_blocks])?;
            output.align(BLOCK)?;
        }
    }
    Ok(())
}

fn write_inodes(output: &mut Output<'_>, tree: &Tree, plan: &Plan) -> Result<(), WriteError> {
    let mut next_block = plan.blocks_start() / BLOCK;
    let mut record = Vec::new();
    for (index, &id) in plan.order().iter().enumerate() {
        let (inode, shape, place) = (tree.inode(id), Shape::of(tree, id), plan.place(id));
        let head = ExtendedInode {
            ino: U32::new(u32::try_from(index + 1).expect("inodes are numbered in 32 bits")),
            nlink: U32::new(place.links),
            ..head(inode, shape, next_block)
        };
        next_block += shape.blocks;
        record.clear();
        record.extend_from_slice(head.as_bytes());
        inode.xattrs.encode(&mut record);
        if shape.format == FORMAT_INLINE {
            record.extend_from_slice(&payload(tree, plan, id)[(shape.blocks * BLOCK) as usize..]);
        }
        let at = plan.start() + u64::from(place.nid) * SLOT;
        output.zeros(at - output.position())?;
        output.append(&record)?;
    }
    Ok(())
}

fn head(inode: &Inode, shape: Shape, next_block: u64) -> ExtendedInode {
    let attributes = &inode.attributes;
    let file_type = FileType::of(&inode.content);
    let (size, place) = match &inode.content {
        Content::Directory(_) | Content::Symlink(_) => (shape.size, next_block as u32),
        Content::File(extent) => (extent.size, extent.first_block),
        Content::CharDevice(device) | Content::BlockDevice(device) => (0, device.encode()),
        Content::Fifo => (0, 0),
    };
    ExtendedInode {
        format: U16::new(shape.format),
        xattr_icount: U16::new(xattr_icount(inode.xattrs.size()).expect("xattrs were checked when inserted")),
        mode: U16::new(file_type.mode_bits() | (attributes.mode & 0o7777)),
        size: U64::new(size),
        raw_blkaddr: U32::new(place),
        uid: U32::new(attributes.uid),
        gid: U32::new(attributes.gid),
        mtime: U64::new(attributes.mtime.seconds.cast_unsigned()),
        mtime_nsec: U32::new(attributes.mtime.nanoseconds),
        ..ExtendedInode::default()
    }
}

/// What stands in or behind the inode area for this inode.
fn payload<'t>(tree: &'t Tree, plan: &Plan, id: InodeId) -> Cow<'t, [u8]> {
    match &tree.inode(id).content {
        Content::Directory(directory) => Cow::Owned(encode_directory(tree, plan, id, directory)),
        Content::Symlink(target) => Cow::Borrowed(target),
        _ => Cow::Borrowed(&[]),
    }
}

fn encode_directory(tree: &Tree, plan: &Plan, id: InodeId, directory: &Directory) -> Vec<u8> {
    let place = plan.place(id);
    let dot = |name, nid: u32| Listed { name, nid: u64::from(nid), file_type: FileType::Directory.on_disk() };
    let dots = [dot(b".", place.nid), dot(b"..", plan.nid_at(place.parent))];
    let listed = |(name, entry): (_, crate::Entry)| Listed {
        name,
        nid: u64::from(plan.place(entry.inode).nid),
        file_type: FileType::of(&tree.inode(entry.inode).content).on_disk(),
    };
    directory::encode(directory.iter().map(listed).collect(), dots)
}
