//! Images made in one pass: data as it streams in, then metadata, the superblock last.
//!
//! Until the superblock is there, no reader takes the file for an image.

mod directory;
mod metadata;
mod output;
mod plan;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::FallocateFlags;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use crate::checksum::crc32c;
use crate::format::{
    BLOCK, BLOCK_BITS, BLOCK_SIZE, COMPAT_CHECKSUM, COMPAT_MTIME, MAGIC, SUPER_OFFSET, Superblock,
};
use crate::{Content, Extent, Tree};
use output::Output;
use plan::Plan;

/// An image that is being written.
#[derive(Debug)]
pub struct Writer<'f> {
    output: Output<'f>,
}

/// A regular file whose data is being written.
#[derive(Debug)]
pub struct FileWriter<'w, 'f> {
    output: &'w mut Output<'f>,
    start: u64,
}

/// What an image came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the image, those of holes included.
    pub bytes: u64,
    /// Files of all kinds.
    pub inodes: u64,
}

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The image would pass the limit it was given, or what the format can address.
    #[error("the image is larger than {limit} bytes")]
    TooLarge {
        /// The largest size allowed.
        limit: u64,
    },
    /// The image's file could not be written.
    #[error("failed to write the image")]
    Io(#[from] io::Error),
}

impl<'f> Writer<'f> {
    /// Empties `file` and starts an image of at most `limit` bytes in it.
    pub fn new(file: &'f File, limit: u64) -> Result<Self, WriteError> {
        let mut output = Output::new(file, limit)?;
        output.zeros(BLOCK)?;
        Ok(Self { output })
    }

    /// Starts the data of a regular file.
    pub fn file(&mut self) -> Result<FileWriter<'_, 'f>, WriteError> {
        self.output.align(BLOCK)?;
        let start = self.output.position();
        Ok(FileWriter { output: &mut self.output, start })
    }

    /// Writes the metadata of all files that `tree` names, and gives back the space of those it does not.
    pub fn finish(mut self, tree: &Tree) -> Result<Written, WriteError> {
        self.output.align(BLOCK)?;
        let plan = Plan::new(tree, self.output.position(), self.output.limit())?;
        metadata::write(&mut self.output, tree, &plan)?;
        let (file, bytes) = self.output.finish()?;
        release_unnamed(file, tree, &plan)?;
        let superblock = superblock(&plan, bytes);
        file.write_all_at(&superblock, SUPER_OFFSET)?;
        Ok(Written { bytes, inodes: plan.order().len() as u64 })
    }
}

impl FileWriter<'_, '_> {
    /// Appends `bytes`.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.output.append(bytes)
    }

    /// Appends `length` zeros, which take no space where they fill blocks.
    pub fn hole(&mut self, length: u64) -> Result<(), WriteError> {
        self.output.zeros(length)
    }

    /// Ends the file.
    pub fn finish(self) -> Extent {
        let first_block = u32::try_from(self.start / BLOCK).expect("the limit keeps blocks within 32 bits");
        Extent { first_block, size: self.output.position() - self.start }
    }
}

fn superblock(plan: &Plan, bytes: u64) -> [u8; BLOCK_SIZE - SUPER_OFFSET as usize] {
    let blocks =
        |bytes: u64| U32::new(u32::try_from(bytes / BLOCK).expect("the limit keeps blocks within 32 bits"));
    let mut superblock = Superblock {
        magic: U32::new(MAGIC),
        feature_compat: U32::new(COMPAT_CHECKSUM | COMPAT_MTIME),
        blkszbits: BLOCK_BITS,
        root_nid: U16::new(plan.root_nid()),
        inos: U64::new(plan.order().len() as u64),
        blocks: blocks(bytes),
        meta_blkaddr: blocks(plan.start()),
        ..Superblock::default()
    };
    // The checksum covers the rest of the block too.
    let mut block = [0; BLOCK_SIZE - SUPER_OFFSET as usize];
    block[..size_of::<Superblock>()].copy_from_slice(superblock.as_bytes());
    superblock.checksum = U32::new(crc32c(&block));
    block[..size_of::<Superblock>()].copy_from_slice(superblock.as_bytes());
    block
}

/// Punches out the data of files that no directory names any more.
fn release_unnamed(file: &File, tree: &Tree, plan: &Plan) -> io::Result<()> {
    for (index, inode) in tree.inodes().enumerate() {
        let Content::File(extent) = &inode.content else { continue };
        if extent.size == 0 || plan.is_named(index) {
            continue;
        }
        let (start, length) = (u64::from(extent.first_block) * BLOCK, extent.size.next_multiple_of(BLOCK));
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(file, flags, start, length) {
            // Without holes the image is larger and just as good.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attributes, Timestamp};
    use std::os::unix::fs::MetadataExt;

    const ROOT: Attributes =
        Attributes { mode: 0o755, uid: 0, gid: 0, mtime: Timestamp { seconds: 0, nanoseconds: 0 } };

    #[test]
    fn a_file_that_lost_its_name_takes_no_space() {
        let file = tempfile::tempfile().unwrap();
        let mut writer = Writer::new(&file, u64::MAX).unwrap();
        let mut data = writer.file().unwrap();
        data.write(&vec![7; 1 << 20]).unwrap();
        let content = Content::File(data.finish());
        let mut tree = Tree::new(ROOT);
        tree.add(crate::Inode { attributes: ROOT, xattrs: crate::Xattrs::default(), content }).unwrap();
        let written = writer.finish(&tree).unwrap();
        assert_eq!(written.inodes, 1);
        assert!(written.bytes > 1 << 20);
        assert!(file.metadata().unwrap().blocks() * 512 < 64 << 10);
    }

    #[test]
    fn an_image_over_its_limit_is_refused() {
        let file = tempfile::tempfile().unwrap();
        let mut writer = Writer::new(&file, 64 << 10).unwrap();
        let mut data = writer.file().unwrap();
        data.write(&vec![1; 32 << 10]).unwrap();
        assert!(matches!(data.write(&vec![1; 32 << 10]), Err(WriteError::TooLarge { limit: 65_536 })));
        assert!(matches!(data.hole(u64::MAX), Err(WriteError::TooLarge { .. })));
    }
}
