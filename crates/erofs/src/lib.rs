//! The EROFS on-disk format: a streaming writer, and a reader that checks it.
//!
//! The writer's images are uncompressed and have this layout, in blocks of 4096 bytes:
//!
//! ```text
//! block 0      1024 bytes of zeros │ superblock (128 bytes) │ zeros          written last
//! block 1…     data of regular files, each from a block boundary             written as it streams in
//! meta_blkaddr inode area:  64 bytes unused, then per inode, the root first, a directory's children together
//!                ┌────────────────────┬───────────────────────────┬─────────────────────────────┐
//!                │ inode (64 bytes)   │ xattrs, if any            │ tail of a directory or link │  to 32 bytes
//!                │ at nid × 32        │ header (12), entries (4+) │ never crosses a block       │
//!                └────────────────────┴───────────────────────────┴─────────────────────────────┘
//! then         whole blocks of directories, and tails that do not fit beside their inode
//! ```
//!
//! A directory's block starts with 12 bytes for each of its entries (nid, offset of the name, type), and the
//! names follow. Entries are sorted by name as bytes, `.` and `..` among them. Blocks of zeros are left out
//! of the image's file, so that what is sparse in the guest is sparse on the host.
//!
//! The same tree and data always give the same bytes. Images can be mounted by Linux 5.10 and later.
//!
//! | module | owns |
//! |---|---|
//! | `format` | the structures on disk, after Linux's `fs/erofs/erofs_fs.h` |
//! | `tree` | the files of an image in memory, without their data |
//! | `xattr` | extended attributes that the format can hold |
//! | `writer` | data as it streams in, then metadata |
//! | `reader` | images read back, every structure checked |

mod checksum;
mod file_type;
mod format;
mod reader;
mod tree;
mod writer;
mod xattr;

pub use file_type::FileType;
pub use format::BLOCK;
pub use reader::{DirectoryEntry, FileInode, ReadError, Reader, Source, Summary};
pub use tree::{
    Attributes, Content, Device, Directory, Entry, Extent, Inode, InodeId, NAME_MAX, Timestamp, Tree,
};
pub use writer::{FileWriter, WriteError, Writer, Written};
pub use xattr::{XattrError, Xattrs};
