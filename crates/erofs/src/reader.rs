//! Images read back. Only what the writer makes is accepted, and every structure is checked before it is
//! used: no number in an image is trusted, and memory is bounded by the size of the image.

mod check;
mod directory;
mod xattrs;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use zerocopy::{FromBytes, IntoBytes};

use crate::checksum::crc32c;
use crate::format::{
    BLOCK, BLOCK_BITS, BLOCK_SIZE, COMPAT_CHECKSUM, COMPAT_MTIME, ExtendedInode, FORMAT_INLINE, FORMAT_PLAIN,
    INODE_SIZE, MAGIC, SLOT, SUPER_OFFSET, Superblock, xattr_size,
};
use crate::{Attributes, Device, FileType, Timestamp};
pub use check::Summary;
pub use directory::DirectoryEntry;

/// What an image can be read from.
pub trait Source {
    /// Bytes of the image.
    fn size(&self) -> io::Result<u64>;
    /// Fills `buffer` with what is at `offset`.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// An image to read.
#[derive(Debug)]
pub struct Reader<'s, S: ?Sized> {
    source: &'s S,
    superblock: Superblock,
}

/// An inode as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInode {
    /// Its number in the image.
    pub nid: u64,
    /// The kind of file.
    pub file_type: FileType,
    /// Owner, permissions and time.
    pub attributes: Attributes,
    /// Bytes of data, of the directory, or of the link target.
    pub size: u64,
    /// The number of names.
    pub links: u32,
    /// The device, if it is one.
    pub device: Option<Device>,
    xattr_size: u64,
    first_block: u64,
    is_inline: bool,
}

/// Why an image could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The superblock is missing, damaged, or of an image with features that the writer does not use.
    #[error("not an image of ours: {0}")]
    Superblock(&'static str),
    /// An inode, or what belongs to it, breaks the format.
    #[error("inode {nid} is damaged: {problem}")]
    Inode {
        /// The number of the inode.
        nid: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// The image's file could not be read.
    #[error("failed to read the image")]
    Io(#[from] io::Error),
}

impl Source for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl Source for [u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|offset| self.get(offset..));
        let found = from.and_then(|from| from.get(..buffer.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(found);
        Ok(())
    }
}

impl<'s, S: Source + ?Sized> Reader<'s, S> {
    /// Reads and checks the superblock.
    pub fn open(source: &'s S) -> Result<Self, ReadError> {
        let size = source.size()?;
        if size < BLOCK {
            return Err(ReadError::Superblock("too short"));
        }
        let mut block = [0; BLOCK_SIZE - SUPER_OFFSET as usize];
        source.read_exact_at(&mut block, SUPER_OFFSET)?;
        let superblock = parse_superblock(&mut block).map_err(ReadError::Superblock)?;
        if u64::from(superblock.blocks.get()) * BLOCK != size {
            return Err(ReadError::Superblock("not of the size it claims"));
        }
        Ok(Self { source, superblock })
    }

    /// The number of the root directory.
    pub fn root(&self) -> u64 {
        u64::from(self.superblock.root_nid.get())
    }

    /// Reads the inode of this number.
    pub fn inode(&self, nid: u64) -> Result<FileInode, ReadError> {
        let damaged = |problem| ReadError::Inode { nid, problem };
        let at = self.inode_at(nid).ok_or(damaged("outside the image"))?;
        let mut raw = ExtendedInode::default();
        self.source.read_exact_at(raw.as_mut_bytes(), at)?;
        let inode = parse_inode(nid, &raw).map_err(damaged)?;
        self.check_extent(at, &inode).map_err(damaged)?;
        Ok(inode)
    }

    /// Reads what is in the inode at `offset`; the number of bytes is less than asked for only at the end.
    pub fn read_at(&self, inode: &FileInode, offset: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let length =
            buffer.len().min(usize::try_from(inode.size.saturating_sub(offset)).unwrap_or(usize::MAX));
        let in_blocks = if inode.is_inline { inode.size / BLOCK * BLOCK } else { inode.size };
        let from_blocks = length.min(usize::try_from(in_blocks.saturating_sub(offset)).unwrap_or(usize::MAX));
        let (blocks, tail) = buffer[..length].split_at_mut(from_blocks);
        if !blocks.is_empty() {
            self.source.read_exact_at(blocks, inode.first_block * BLOCK + offset)?;
        }
        if !tail.is_empty() {
            let start = self.behind_inode(inode) + inode.xattr_size;
            let offset_in_tail = offset + from_blocks as u64 - in_blocks;
            self.source.read_exact_at(tail, start + offset_in_tail)?;
        }
        Ok(length)
    }

    /// The path that a symbolic link stands for.
    pub fn target(&self, inode: &FileInode) -> Result<Vec<u8>, ReadError> {
        let mut target = vec![0; inode.size.min(BLOCK) as usize];
        self.read_at(inode, 0, &mut target)?;
        let is_link = inode.file_type == FileType::Symlink && inode.size < BLOCK && !target.contains(&0);
        if target.is_empty() || !is_link {
            return Err(ReadError::Inode { nid: inode.nid, problem: "not a symbolic link" });
        }
        Ok(target)
    }

    fn inode_at(&self, nid: u64) -> Option<u64> {
        let start = u64::from(self.superblock.meta_blkaddr.get()) * BLOCK;
        let at = nid.checked_mul(SLOT)?.checked_add(start)?;
        let end = at.checked_add(INODE_SIZE as u64)?;
        (end <= self.size()).then_some(at)
    }

    /// Where the xattrs of an inode that was read start.
    fn behind_inode(&self, inode: &FileInode) -> u64 {
        self.inode_at(inode.nid).expect("the inode was read from there") + INODE_SIZE as u64
    }

    fn size(&self) -> u64 {
        u64::from(self.superblock.blocks.get()) * BLOCK
    }

    fn check_extent(&self, at: u64, inode: &FileInode) -> Result<(), &'static str> {
        let behind = at + INODE_SIZE as u64 + inode.xattr_size;
        if behind > self.size() {
            return Err("extended attributes outside the image");
        }
        let tail = inode.size % BLOCK;
        if inode.is_inline && (tail == 0 || behind % BLOCK + tail > BLOCK || behind + tail > self.size()) {
            return Err("its tail crosses a block");
        }
        let blocks = if inode.is_inline { inode.size / BLOCK } else { inode.size.div_ceil(BLOCK) };
        if blocks > 0 && inode.first_block.saturating_add(blocks) > self.size() / BLOCK {
            return Err("data outside the image");
        }
        Ok(())
    }
}

fn parse_superblock(block: &mut [u8]) -> Result<Superblock, &'static str> {
    let (found, _) = Superblock::read_from_prefix(block).map_err(|_| "too short")?;
    let mut zeroed = found.clone();
    zeroed.checksum = 0.into();
    block[..size_of::<Superblock>()].copy_from_slice(zeroed.as_bytes());
    let expected = Superblock {
        magic: MAGIC.into(),
        feature_compat: (COMPAT_CHECKSUM | COMPAT_MTIME).into(),
        blkszbits: BLOCK_BITS,
        root_nid: found.root_nid,
        inos: found.inos,
        blocks: found.blocks,
        meta_blkaddr: found.meta_blkaddr,
        ..Superblock::default()
    };
    if found.magic.get() != MAGIC {
        return Err("no superblock");
    }
    if expected.as_bytes() != zeroed.as_bytes() {
        return Err("unknown features");
    }
    if crc32c(block) != found.checksum.get() {
        return Err("the checksum is wrong");
    }
    Ok(found)
}

fn parse_inode(nid: u64, raw: &ExtendedInode) -> Result<FileInode, &'static str> {
    let is_inline = match raw.format.get() {
        FORMAT_PLAIN => false,
        FORMAT_INLINE => true,
        _ => return Err("unknown format"),
    };
    let mode = raw.mode.get();
    let file_type = FileType::from_mode(mode).ok_or("unknown file type")?;
    let is_device = matches!(file_type, FileType::CharDevice | FileType::BlockDevice);
    let size = raw.size.get();
    if (is_device || file_type == FileType::Fifo) && size > 0 {
        return Err("a special file has data");
    }
    let (seconds, nanoseconds) = (raw.mtime.get().cast_signed(), raw.mtime_nsec.get());
    if nanoseconds >= 1_000_000_000 || raw.nlink.get() == 0 {
        return Err("a number out of range");
    }
    let mtime = Timestamp { seconds, nanoseconds };
    Ok(FileInode {
        nid,
        file_type,
        attributes: Attributes { mode: mode & 0o7777, uid: raw.uid.get(), gid: raw.gid.get(), mtime },
        size,
        links: raw.nlink.get(),
        device: is_device.then(|| Device::decode(raw.raw_blkaddr.get())),
        xattr_size: xattr_size(raw.xattr_icount.get()) as u64,
        first_block: u64::from(raw.raw_blkaddr.get()),
        is_inline,
    })
}
