//! The way from the root to a directory, symbolic links followed inside the root.

use std::borrow::Cow;

use erofs::{Content, Directory, Inode, InodeId, Xattrs};

use super::{EntryError, Merge, UNDESCRIBED, printable};

/// Symbolic links followed on one way; Linux's own limit.
const LINKS_MAX: usize = 40;
/// Directories below one another; no path that Linux can open has more.
const DEPTH_MAX: usize = 2048;

/// A directory on the way, and its name in the one before.
struct Step<'p> {
    inode: InodeId,
    name: Cow<'p, [u8]>,
}

/// What a component leads to.
enum Next {
    Directory(InodeId),
    Link(Vec<u8>),
    Other,
    Nothing,
}

/// What to do where the way ends early.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Leave,
}

impl Merge<'_> {
    /// The directory at the end of `components`, if it is there.
    pub(super) fn find(&mut self, components: &[&[u8]]) -> Result<Option<InodeId>, EntryError> {
        let way = self.walk(components, Missing::Leave)?;
        Ok(way.map(|steps| steps.last().map_or(self.tree.root(), |step| step.inode)))
    }

    /// The directory at the end of `components`; missing ones are made, and all are touched by this layer.
    pub(crate) fn make_way(&mut self, components: &[&[u8]]) -> Result<InodeId, EntryError> {
        let steps = self.walk(components, Missing::Make)?.expect("what is missing was made");
        let mut parent = self.tree.root();
        for step in steps {
            let known = self.lookup(parent, &step.name).expect("the way was just walked");
            if !self.is_of_this_layer(known) {
                self.name(parent, &step.name, step.inode, false);
            }
            parent = step.inode;
        }
        Ok(parent)
    }

    fn walk<'p>(
        &mut self,
        components: &[&'p [u8]],
        missing: Missing,
    ) -> Result<Option<Vec<Step<'p>>>, EntryError> {
        let mut steps: Vec<Step<'p>> = Vec::with_capacity(components.len());
        let mut ahead: Vec<Cow<'p, [u8]>> =
            components.iter().rev().map(|&component| component.into()).collect();
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if &*name == b".." {
                steps.pop();
                continue;
            }
            let here = steps.last().map_or(self.tree.root(), |step| step.inode);
            let inode = match (self.next(here, &name), missing) {
                (Next::Directory(inode), _) => inode,
                (Next::Nothing, Missing::Make) => self.make(here, &name)?,
                (Next::Other, Missing::Make) => return Err(EntryError::NotDirectory(printable(&name))),
                (Next::Nothing | Next::Other, Missing::Leave) => return Ok(None),
                (Next::Link(target), _) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(EntryError::Loop);
                    }
                    follow(&target, &mut steps, &mut ahead)?;
                    continue;
                }
            };
            steps.push(Step { inode, name });
            if steps.len() > DEPTH_MAX {
                return Err(EntryError::Name("too many directories below one another"));
            }
        }
        Ok(Some(steps))
    }

    fn next(&self, directory: InodeId, name: &[u8]) -> Next {
        let Some(entry) = self.lookup(directory, name) else { return Next::Nothing };
        match &self.tree.inode(entry.inode).content {
            Content::Directory(_) => Next::Directory(entry.inode),
            Content::Symlink(target) => Next::Link(target.to_vec()),
            _ => Next::Other,
        }
    }

    fn make(&mut self, parent: InodeId, name: &[u8]) -> Result<InodeId, EntryError> {
        self.charge(name.len())?;
        let content = Content::Directory(Directory::default());
        let inode = self.add(Inode { attributes: UNDESCRIBED, xattrs: Xattrs::default(), content })?;
        self.name(parent, name, inode, false);
        Ok(inode)
    }
}

/// Puts the components of a link's target before those that are still ahead.
fn follow(
    target: &[u8],
    steps: &mut Vec<Step<'_>>,
    ahead: &mut Vec<Cow<'_, [u8]>>,
) -> Result<(), EntryError> {
    if target.starts_with(b"/") {
        steps.clear();
    }
    let components = target.split(|&byte| byte == b'/').filter(|component| !matches!(*component, b"" | b"."));
    for component in components.rev() {
        if component.len() > erofs::NAME_MAX {
            return Err(EntryError::Name("a component longer than 255 bytes"));
        }
        ahead.push(component.to_vec().into());
    }
    Ok(())
}
