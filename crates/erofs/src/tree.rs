//! The files of an image in memory: names and metadata, but not data.
//!
//! Inodes are numbered in the order they are added and never freed: what no directory names is left out of
//! the image, and the data of such files is given back. Link counts come out of the names when the image is
//! written. A million files take some 200 MB.

use std::collections::BTreeMap;

use crate::Xattrs;

/// The longest name of a file, in bytes.
pub const NAME_MAX: usize = 255;

/// All inodes of an image; the first one is the root directory.
#[derive(Debug)]
pub struct Tree {
    inodes: Vec<Inode>,
}

/// The number of an inode in its [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeId(u32);

/// A file of any kind.
#[derive(Debug, Clone)]
pub struct Inode {
    /// Owner, permissions and time.
    pub attributes: Attributes,
    /// Extended attributes.
    pub xattrs: Xattrs,
    /// What kind of file it is, and what is in it.
    pub content: Content,
}

/// Owner, permissions and time of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Permissions with the setuid, setgid and sticky bits: the twelve low bits of a mode.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The last modification.
    pub mtime: Timestamp,
}

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timestamp {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds after that second, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// What is in an inode.
#[derive(Debug, Clone)]
pub enum Content {
    /// A directory.
    Directory(Directory),
    /// A regular file, whose data the writer already has.
    File(Extent),
    /// A symbolic link to this path.
    Symlink(Box<[u8]>),
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
}

/// Where the data of a regular file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    pub(crate) first_block: u32,
    pub(crate) size: u64,
}

/// A device number that the format can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device(u32);

/// The names in a directory, without `.` and `..`.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    entries: BTreeMap<Box<[u8]>, Entry>,
}

/// What a name in a directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The named inode.
    pub inode: InodeId,
    /// A number for whoever builds the tree; it is not written.
    pub tag: u32,
}

impl Tree {
    /// A tree with an empty root directory.
    pub fn new(root: Attributes) -> Self {
        let content = Content::Directory(Directory::default());
        Self { inodes: vec![Inode { attributes: root, xattrs: Xattrs::default(), content }] }
    }

    /// The root directory.
    pub fn root(&self) -> InodeId {
        InodeId(0)
    }

    /// Adds an inode that has no name yet; `None` if there are 4,294,967,295 already.
    pub fn add(&mut self, inode: Inode) -> Option<InodeId> {
        let id = u32::try_from(self.inodes.len()).ok().filter(|&id| id < u32::MAX)?;
        self.inodes.push(inode);
        Some(InodeId(id))
    }

    /// The inode of this number.
    pub fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.index()]
    }

    /// The inode of this number, to change it.
    pub fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        &mut self.inodes[id.index()]
    }

    /// The names in this inode, if it is a directory.
    pub fn directory(&self, id: InodeId) -> Option<&Directory> {
        self.inode(id).content.as_directory()
    }

    /// The names in this inode, if it is a directory, to change them.
    pub fn directory_mut(&mut self, id: InodeId) -> Option<&mut Directory> {
        match &mut self.inode_mut(id).content {
            Content::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    pub(crate) fn inodes(&self) -> impl ExactSizeIterator<Item = &Inode> {
        self.inodes.iter()
    }
}

impl InodeId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

impl Content {
    /// The names, if this is a directory.
    pub fn as_directory(&self) -> Option<&Directory> {
        match self {
            Self::Directory(directory) => Some(directory),
            _ => None,
        }
    }
}

impl Extent {
    /// Bytes of data.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Device {
    /// The device of these numbers, if they have at most 12 and 20 bits.
    pub fn new(major: u64, minor: u64) -> Option<Self> {
        if major >= 1 << 12 || minor >= 1 << 20 {
            return None;
        }
        let (major, minor) = (major as u32, minor as u32);
        Some(Self((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)))
    }

    /// The major number.
    pub fn major(self) -> u32 {
        (self.0 >> 8) & 0xfff
    }

    /// The minor number.
    pub fn minor(self) -> u32 {
        (self.0 & 0xff) | ((self.0 >> 12) & 0xf_ff00)
    }

    pub(crate) fn encode(self) -> u32 {
        self.0
    }

    pub(crate) fn decode(encoded: u32) -> Self {
        Self(encoded)
    }
}

impl Directory {
    /// What `name` stands for.
    pub fn get(&self, name: &[u8]) -> Option<Entry> {
        self.entries.get(name).copied()
    }

    /// What `name` stands for, to change it.
    pub fn get_mut(&mut self, name: &[u8]) -> Option<&mut Entry> {
        self.entries.get_mut(name)
    }

    /// Gives `name` a meaning, in place of its earlier one. A directory must have one name only.
    ///
    /// # Panics
    ///
    /// If `name` is empty, `.` or `..`, longer than [`NAME_MAX`], or has a slash or NUL in it.
    pub fn insert(&mut self, name: &[u8], entry: Entry) {
        let is_plain =
            !matches!(name, b"" | b"." | b"..") && !name.iter().any(|&byte| matches!(byte, 0 | b'/'));
        assert!(is_plain && name.len() <= NAME_MAX, "names are checked before they get here");
        match self.entries.get_mut(name) {
            Some(known) => *known = entry,
            None => drop(self.entries.insert(name.into(), entry)),
        }
    }

    /// Takes `name` away.
    pub fn remove(&mut self, name: &[u8]) -> Option<Entry> {
        self.entries.remove(name)
    }

    /// Takes away the names that `keep` answers `false` to.
    pub fn retain(&mut self, mut keep: impl FnMut(&Entry) -> bool) {
        self.entries.retain(|_, entry| keep(entry));
    }

    /// Names and what they stand for, sorted by name as bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Entry)> {
        self.entries.iter().map(|(name, entry)| (&**name, *entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_their_encoding() {
        for (major, minor) in [(0, 0), (1, 3), (8, 255), (8, 256), (259, 0xf_ffff), (0xfff, 1)] {
            let device = Device::new(major, minor).unwrap();
            assert_eq!((u64::from(device.major()), u64::from(device.minor())), (major, minor));
        }
        assert_eq!(Device::new(0x1000, 0), None);
        assert_eq!(Device::new(0, 0x10_0000), None);
    }
}
