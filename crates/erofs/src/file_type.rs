//! The kinds of files, as directories and modes name them.

use crate::Content;
use crate::format::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG};

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A symbolic link.
    Symlink,
}

impl FileType {
    const ALL: [Self; 6] =
        [Self::Regular, Self::Directory, Self::CharDevice, Self::BlockDevice, Self::Fifo, Self::Symlink];

    pub(crate) fn of(content: &Content) -> Self {
        match content {
            Content::Directory(_) => Self::Directory,
            Content::File(_) => Self::Regular,
            Content::Symlink(_) => Self::Symlink,
            Content::CharDevice(_) => Self::CharDevice,
            Content::BlockDevice(_) => Self::BlockDevice,
            Content::Fifo => Self::Fifo,
        }
    }

    /// The type in a directory entry: `FT_*` of Linux's `linux/fs_types.h`.
    pub(crate) fn on_disk(self) -> u8 {
        match self {
            Self::Regular => 1,
            Self::Directory => 2,
            Self::CharDevice => 3,
            Self::BlockDevice => 4,
            Self::Fifo => 5,
            Self::Symlink => 7,
        }
    }

    pub(crate) fn from_disk(value: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.on_disk() == value)
    }

    /// The type bits of a mode.
    pub(crate) fn mode_bits(self) -> u16 {
        match self {
            Self::Regular => S_IFREG,
            Self::Directory => S_IFDIR,
            Self::CharDevice => S_IFCHR,
            Self::BlockDevice => S_IFBLK,
            Self::Fifo => S_IFIFO,
            Self::Symlink => S_IFLNK,
        }
    }

    pub(crate) fn from_mode(mode: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.mode_bits() == mode & S_IFMT)
    }
}
