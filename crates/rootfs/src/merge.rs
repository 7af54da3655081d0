//! Layers laid over one another, lowest first, as the OCI image specification has it.
//!
//! | entry | effect |
//! |---|---|
//! | directory over a directory | new attributes, the children stay |
//! | anything else over anything | replaces it, a directory with all that is in it |
//! | `.wh.NAME` | hides NAME of lower layers, wherever in its own layer it stands |
//! | `.wh..wh..opq` | hides all that lower layers have in its directory, likewise |
//! | other names with `.wh..wh.` | ignored |
//!
//! Names are relative to the root, whether or not they start with a slash; one with `..` in it is refused.
//! Symbolic links on the way to an entry are followed inside the root, which they cannot leave; the entry's
//! last component is never followed. Directories that are missing on the way are made: mode 0755, owned by
//! root, of 1970. What a hard link names must have been there before it.

mod left_out;
mod name;
mod resolve;

use erofs::{
    Attributes, Content, Directory, Entry, Inode, InodeId, Timestamp, Tree, WriteError, XattrError, Xattrs,
};

use crate::Limits;
pub use left_out::LeftOut;
pub(crate) use name::{Place, printable};

/// The longest target of a symbolic link: what Linux can read back.
const TARGET_MAX: usize = 4095;
/// Directories that no layer describes.
const UNDESCRIBED: Attributes =
    Attributes { mode: 0o755, uid: 0, gid: 0, mtime: Timestamp { seconds: 0, nanoseconds: 0 } };

/// Why an entry of an archive cannot be part of an image.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// A number in its header is missing or out of range.
    #[error("its {0} is invalid")]
    Field(&'static str),
    /// It is of a type that an image cannot have.
    #[error("its type is unknown")]
    Type,
    /// Its name, or that of a file it links to, is not one that a file can have.
    #[error("invalid name: {0}")]
    Name(&'static str),
    /// The way to it leads through something that is not a directory.
    #[error("`{0}` is not a directory")]
    NotDirectory(String),
    /// The way to it leads through too many symbolic links.
    #[error("too many symbolic links")]
    Loop,
    /// It is the root but no directory.
    #[error("the root must be a directory")]
    Root,
    /// It links to a file that is not there.
    #[error("the file `{0}` it links to does not exist")]
    LinkMissing(String),
    /// It links to a directory.
    #[error("it links to the directory `{0}`")]
    LinkToDirectory(String),
    /// It is a symbolic link to nothing, or to more than Linux can follow.
    #[error("the target of a symbolic link must have 1 to 4095 bytes, and no NUL")]
    Target,
    /// Its extended attributes cannot be stored.
    #[error("its attribute `{name}` cannot be stored")]
    Xattr {
        /// The attribute.
        name: String,
        /// Why.
        source: XattrError,
    },
    /// The image has more files than the limit.
    #[error("the image has more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
    /// Names, link targets and extended attributes take more memory than the limit.
    #[error("names and attributes take more than {limit} bytes")]
    TooMuchMetadata {
        /// The limit.
        limit: u64,
    },
    /// Its data could not be written.
    #[error("failed to store its data")]
    Write(#[source] WriteError),
}

/// The tree as the layers so far make it.
pub(crate) struct Merge<'l> {
    tree: Tree,
    limits: &'l Limits,
    /// The layer that is being read, from 1.
    layer: u32,
    entries: u64,
    metadata: u64,
    left_out: LeftOut,
}

/// What a name's tag tells: the last layer that touched it, and whether as an entry or on the way to one.
fn tag(layer: u32, is_entry: bool) -> u32 {
    layer << 1 | u32::from(is_entry)
}

impl<'l> Merge<'l> {
    pub(crate) fn new(limits: &'l Limits) -> Self {
        Self {
            tree: Tree::new(UNDESCRIBED),
            limits,
            layer: 0,
            entries: 0,
            metadata: 0,
            left_out: LeftOut::default(),
        }
    }

    pub(crate) fn begin_layer(&mut self) {
        self.layer += 1;
    }

    /// The tree, and what is not in it.
    pub(crate) fn into_parts(self) -> (Tree, LeftOut) {
        (self.tree, self.left_out)
    }

    /// Describes the root.
    pub(crate) fn root(&mut self, attributes: Attributes, xattrs: Xattrs) {
        let root = self.tree.root();
        self.describe(root, attributes, xattrs);
    }

    /// Gives `name` in `parent` to a directory: the one that has it already, or an empty one.
    pub(crate) fn insert_directory(
        &mut self,
        parent: InodeId,
        name: &[u8],
        attributes: Attributes,
        xattrs: Xattrs,
    ) -> Result<(), EntryError> {
        if let Some(known) = self.lookup(parent, name)
            && self.tree.directory(known.inode).is_some()
        {
            self.describe(known.inode, attributes, xattrs);
            self.name(parent, name, known.inode, true);
            return Ok(());
        }
        let content = Content::Directory(Directory::default());
        self.insert(parent, name, Inode { attributes, xattrs, content })
    }

    /// Gives `name` in `parent` to a new inode.
    pub(crate) fn insert(&mut self, parent: InodeId, name: &[u8], inode: Inode) -> Result<(), EntryError> {
        self.charge(name.len())?;
        let inode = self.add(inode)?;
        self.name(parent, name, inode, true);
        Ok(())
    }

    /// Gives `name` in `parent` to the file that the path `target` has.
    pub(crate) fn link(&mut self, parent: InodeId, name: &[u8], target: &[u8]) -> Result<(), EntryError> {
        let missing = || EntryError::LinkMissing(printable(target));
        let components = name::components(target)?;
        let (last, way) =
            components.split_last().ok_or_else(|| EntryError::LinkToDirectory("/".to_owned()))?;
        let directory = self.find(way)?.ok_or_else(missing)?;
        let found = self.lookup(directory, last).ok_or_else(missing)?.inode;
        if self.tree.directory(found).is_some() {
            return Err(EntryError::LinkToDirectory(printable(target)));
        }
        self.charge(name.len())?;
        self.count()?;
        self.name(parent, name, found, true);
        Ok(())
    }

    /// Hides what lower layers have under `name` in the directory at the end of `way`.
    pub(crate) fn hide(&mut self, way: &[&[u8]], name: &[u8]) -> Result<(), EntryError> {
        let Some(directory) = self.find(way)? else { return Ok(()) };
        let Some(known) = self.lookup(directory, name) else { return Ok(()) };
        if !self.is_of_this_layer(known) {
            self.directory_mut(directory).remove(name);
            return Ok(());
        }
        self.hide_below(known);
        Ok(())
    }

    /// Hides what lower layers have in the directory at the end of `way`.
    pub(crate) fn hide_all(&mut self, way: &[&[u8]]) -> Result<(), EntryError> {
        if let Some(inode) = self.find(way)? {
            self.hide_below(Entry { inode, tag: tag(self.layer, true) });
        }
        Ok(())
    }

    /// Hides lower layers in a directory of this one. What is only on the way to entries loses what lower
    /// layers said of it, as if it had never been there.
    fn hide_below(&mut self, top: Entry) {
        let mut pending = vec![top];
        while let Some(entry) = pending.pop() {
            if self.tree.directory(entry.inode).is_none() {
                continue;
            }
            if entry.tag != tag(self.layer, true) {
                self.describe(entry.inode, UNDESCRIBED, Xattrs::default());
            }
            let layer = self.layer;
            self.directory_mut(entry.inode).retain(|child| child.tag >> 1 == layer);
            pending.extend(
                self.tree
                    .directory(entry.inode)
                    .into_iter()
                    .flat_map(Directory::iter)
                    .map(|(_, child)| child),
            );
        }
    }

    fn lookup(&self, directory: InodeId, name: &[u8]) -> Option<Entry> {
        self.tree.directory(directory)?.get(name)
    }

    fn is_of_this_layer(&self, entry: Entry) -> bool {
        entry.tag >> 1 == self.layer
    }

    fn name(&mut self, parent: InodeId, name: &[u8], inode: InodeId, is_entry: bool) {
        let tag = tag(self.layer, is_entry);
        self.directory_mut(parent).insert(name, Entry { inode, tag });
    }

    fn directory_mut(&mut self, id: InodeId) -> &mut Directory {
        self.tree.directory_mut(id).expect("only directories are resolved to")
    }

    fn describe(&mut self, id: InodeId, attributes: Attributes, xattrs: Xattrs) {
        let inode = self.tree.inode_mut(id);
        inode.attributes = attributes;
        inode.xattrs = xattrs;
    }

    fn add(&mut self, inode: Inode) -> Result<InodeId, EntryError> {
        self.count()?;
        self.tree.add(inode).ok_or(EntryError::TooManyEntries { limit: self.limits.max_entries })
    }

    /// Counts what stays in memory, also after another layer has replaced or hidden it.
    fn count(&mut self) -> Result<(), EntryError> {
        self.entries += 1;
        let limit = self.limits.max_entries;
        if self.entries > limit { Err(EntryError::TooManyEntries { limit }) } else { Ok(()) }
    }

    fn charge(&mut self, bytes: usize) -> Result<(), EntryError> {
        self.metadata += bytes as u64;
        let limit = self.limits.max_metadata_bytes;
        if self.metadata > limit { Err(EntryError::TooMuchMetadata { limit }) } else { Ok(()) }
    }

    /// A symbolic link to `target`, counted.
    pub(crate) fn symlink(&mut self, target: Vec<u8>) -> Result<Content, EntryError> {
        if target.is_empty() || target.len() > TARGET_MAX || target.contains(&0) {
            return Err(EntryError::Target);
        }
        self.charge(target.len())?;
        Ok(Content::Symlink(target.into()))
    }

    /// The extended attributes that are kept of those in an archive, counted.
    ///
    /// Those of an overlay's own would steer the overlay that the image becomes the lower layer of.
    pub(crate) fn xattrs(&mut self, path: &[u8], found: &[(Vec<u8>, Vec<u8>)]) -> Result<Xattrs, EntryError> {
        let mut xattrs = Xattrs::default();
        for (name, value) in found {
            if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
                continue;
            }
            match xattrs.insert(name, value) {
                Ok(()) => self.charge(name.len() + value.len())?,
                Err(XattrError::NoPrefix) => self.left_out.add(path, name),
                Err(source) => return Err(EntryError::Xattr { name: printable(name), source }),
            }
        }
        Ok(xattrs)
    }
}
