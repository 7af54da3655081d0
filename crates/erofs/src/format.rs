//! The structures on disk. Names and values are those of Linux's `fs/erofs/erofs_fs.h`, all little endian.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes in a block, the smallest unit of file data.
pub const BLOCK: u64 = 4096;
/// The same for sizes in memory.
pub(crate) const BLOCK_SIZE: usize = BLOCK as usize;

/// `EROFS_SUPER_OFFSET`: where the superblock is.
pub(crate) const SUPER_OFFSET: u64 = 1024;
/// `EROFS_SUPER_MAGIC_V1` of `linux/magic.h`.
pub(crate) const MAGIC: u32 = 0xe0f5_e1e2;
/// Block size in bit shift.
pub(crate) const BLOCK_BITS: u8 = 12;
/// `EROFS_FEATURE_COMPAT_SB_CHKSUM`: the superblock has a checksum.
pub(crate) const COMPAT_CHECKSUM: u32 = 1;
/// `EROFS_FEATURE_COMPAT_MTIME`: the time in an inode is that of the last modification.
pub(crate) const COMPAT_MTIME: u32 = 2;

/// Bytes in a slot of the inode area; a `nid` counts slots.
pub(crate) const SLOT: u64 = 32;
/// Bytes in an extended inode.
pub(crate) const INODE_SIZE: usize = size_of::<ExtendedInode>();
/// `EROFS_INODE_LAYOUT_EXTENDED` in the version bit of `i_format`.
const VERSION_EXTENDED: u16 = 1;
/// `EROFS_I_DATALAYOUT_BIT`.
const DATA_LAYOUT_BIT: u16 = 1;
/// Extended inode, all data in whole blocks (`EROFS_INODE_FLAT_PLAIN`).
pub(crate) const FORMAT_PLAIN: u16 = VERSION_EXTENDED;
/// Extended inode, the tail of the data right behind it (`EROFS_INODE_FLAT_INLINE`).
pub(crate) const FORMAT_INLINE: u16 = VERSION_EXTENDED | 2 << DATA_LAYOUT_BIT;

/// File type bits of a mode, after `linux/stat.h`.
pub(crate) const S_IFMT: u16 = 0o170_000;
pub(crate) const S_IFIFO: u16 = 0o010_000;
pub(crate) const S_IFCHR: u16 = 0o020_000;
pub(crate) const S_IFDIR: u16 = 0o040_000;
pub(crate) const S_IFBLK: u16 = 0o060_000;
pub(crate) const S_IFREG: u16 = 0o100_000;
pub(crate) const S_IFLNK: u16 = 0o120_000;

/// `struct erofs_super_block`.
#[derive(Debug, Clone, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Superblock {
    pub(crate) magic: U32,
    pub(crate) checksum: U32,
    pub(crate) feature_compat: U32,
    pub(crate) blkszbits: u8,
    pub(crate) sb_extslots: u8,
    pub(crate) root_nid: U16,
    pub(crate) inos: U64,
    pub(crate) build_time: U64,
    pub(crate) build_time_nsec: U32,
    pub(crate) blocks: U32,
    pub(crate) meta_blkaddr: U32,
    pub(crate) xattr_blkaddr: U32,
    pub(crate) uuid: [u8; 16],
    pub(crate) volume_name: [u8; 16],
    pub(crate) feature_incompat: U32,
    pub(crate) rest: [[u8; 4]; 11],
}

/// `struct erofs_inode_extended`.
#[derive(Debug, Clone, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ExtendedInode {
    pub(crate) format: U16,
    pub(crate) xattr_icount: U16,
    pub(crate) mode: U16,
    pub(crate) reserved: U16,
    pub(crate) size: U64,
    /// First block of the data, or the device number.
    pub(crate) raw_blkaddr: U32,
    pub(crate) ino: U32,
    pub(crate) uid: U32,
    pub(crate) gid: U32,
    pub(crate) mtime: U64,
    pub(crate) mtime_nsec: U32,
    pub(crate) nlink: U32,
    pub(crate) reserved2: [u8; 16],
}

/// `struct erofs_dirent`.
#[derive(Debug, Clone, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Dirent {
    pub(crate) nid: U64,
    pub(crate) nameoff: U16,
    pub(crate) file_type: u8,
    pub(crate) reserved: u8,
}

/// Bytes of an entry in a directory, without its name.
pub(crate) const DIRENT_SIZE: usize = size_of::<Dirent>();

/// `struct erofs_xattr_ibody_header`, before an inode's xattrs.
#[derive(Debug, Clone, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct XattrHeader {
    pub(crate) name_filter: U32,
    pub(crate) shared_count: u8,
    pub(crate) reserved: [u8; 7],
}

/// Bytes of the header before an inode's xattrs.
pub(crate) const XATTR_HEADER_SIZE: usize = size_of::<XattrHeader>();

/// `struct erofs_xattr_entry`; name and value follow, then zeros to a multiple of four bytes.
#[derive(Debug, Clone, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct XattrEntry {
    pub(crate) name_len: u8,
    pub(crate) name_index: u8,
    pub(crate) value_size: U16,
}

/// Bytes of an xattr, without its name and value, and what it is aligned to.
pub(crate) const XATTR_ENTRY_SIZE: usize = size_of::<XattrEntry>();

/// `i_xattr_icount` for xattrs of `size` bytes, header included; `None` if the field cannot hold it.
pub(crate) fn xattr_icount(size: usize) -> Option<u16> {
    if size == 0 {
        return Some(0);
    }
    u16::try_from((size - XATTR_HEADER_SIZE) / 4 + 1).ok()
}

/// Bytes of xattrs, header included, for an `i_xattr_icount`.
pub(crate) fn xattr_size(icount: u16) -> usize {
    match icount {
        0 => 0,
        count => XATTR_HEADER_SIZE + (usize::from(count) - 1) * 4,
    }
}

const _: () = assert!(size_of::<Superblock>() == 128);
const _: () = assert!(INODE_SIZE == 64);
const _: () = assert!(DIRENT_SIZE == 12);
const _: () = assert!(XATTR_HEADER_SIZE == 12);
const _: () = assert!(XATTR_ENTRY_SIZE == 4);
