//! What the name of an entry says: where it belongs, or what it hides.

use erofs::NAME_MAX;

use super::EntryError;

/// The longest name of an entry with all its directories: what Linux can open.
const PATH_MAX: usize = 4095;
const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_OF_AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Where an entry belongs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place<'p> {
    /// It is the root.
    Root,
    /// It has this name in the directory at the end of this way.
    Named(Vec<&'p [u8]>, &'p [u8]),
    /// It hides this name in the directory at the end of this way.
    Whiteout(Vec<&'p [u8]>, &'p [u8]),
    /// It hides all that is in the directory at the end of this way.
    Opaque(Vec<&'p [u8]>),
    /// It means something to another file system only.
    Ignored,
}

impl<'p> Place<'p> {
    /// Reads the name of an entry of an archive that is no layer.
    pub(crate) fn plain(path: &'p [u8]) -> Result<Self, EntryError> {
        let mut way = components(path)?;
        Ok(way.pop().map_or(Self::Root, |last| Self::Named(way, last)))
    }

    /// Reads the name of an entry of a layer.
    pub(crate) fn parse(path: &'p [u8]) -> Result<Self, EntryError> {
        let mut way = parts(path)?;
        let last = way.pop();
        way.iter().try_for_each(|part| component(part).map(drop))?;
        let Some(last) = last else { return Ok(Self::Root) };
        if way.iter().any(|component| component.starts_with(WHITEOUT_OF_AUFS)) {
            return Ok(Self::Ignored);
        }
        if last == OPAQUE {
            return Ok(Self::Opaque(way));
        }
        if last.starts_with(WHITEOUT_OF_AUFS) {
            return Ok(Self::Ignored);
        }
        match last.strip_prefix(WHITEOUT) {
            Some(b"" | b"." | b"..") => Err(EntryError::Name("it hides nothing")),
            // A name that is as long as a name can be is hidden by one that is longer.
            Some(hidden) => component(hidden).map(|hidden| Self::Whiteout(way, hidden)),
            None => component(last).map(|last| Self::Named(way, last)),
        }
    }
}

/// The components of a path below the root, without empty ones and dots.
pub(super) fn components(path: &[u8]) -> Result<Vec<&[u8]>, EntryError> {
    parts(path)?.into_iter().map(component).collect()
}

/// The same, of which each still may be none.
fn parts(path: &[u8]) -> Result<Vec<&[u8]>, EntryError> {
    if path.is_empty() {
        return Err(EntryError::Name("empty"));
    }
    if path.len() > PATH_MAX {
        return Err(EntryError::Name("longer than 4095 bytes"));
    }
    if path.contains(&0) {
        return Err(EntryError::Name("a NUL in it"));
    }
    Ok(path.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect())
}

fn component(component: &[u8]) -> Result<&[u8], EntryError> {
    if component == b".." {
        return Err(EntryError::Name("`..` in it"));
    }
    if component.len() > NAME_MAX {
        return Err(EntryError::Name("a component longer than 255 bytes"));
    }
    Ok(component)
}

/// A name for a message: unprintable bytes escaped, and not too long.
pub(crate) fn printable(name: &[u8]) -> String {
    const SHOWN: usize = 200;
    match name.get(..SHOWN) {
        Some(start) => format!("{}…", start.escape_ascii()),
        None => name.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_relative_to_the_root() {
        for root in ["/", ".", "./", "//./"] {
            assert_eq!(Place::parse(root.as_bytes()).unwrap(), Place::Root, "{root}");
        }
        for name in ["a/b", "/a/b", "./a//b/", "a/./b/."] {
            assert_eq!(Place::parse(name.as_bytes()).unwrap(), Place::Named(vec![b"a"], b"b"), "{name}");
        }
    }

    #[test]
    fn names_that_leave_the_root_or_that_no_file_can_have_are_refused() {
        let (long, deep) = ("n".repeat(256), "d/".repeat(2048));
        for name in ["", "..", "a/../b", "/../a", "a/..", "a\0b", &long, &deep, ".wh.", "a/.wh..", ".wh..."] {
            assert!(Place::parse(name.as_bytes()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn whiteouts_are_told_from_files() {
        assert_eq!(Place::parse(b"d/.wh.f").unwrap(), Place::Whiteout(vec![b"d"], b"f"));
        assert_eq!(Place::parse(b"d/.wh..wh..opq").unwrap(), Place::Opaque(vec![b"d"]));
        assert_eq!(Place::parse(b".wh..f").unwrap(), Place::Whiteout(vec![], b".f"));
        let (longest, longer) = ([b'n'; 255], [b'n'; 256]);
        let whiteout = |name: &[u8]| [WHITEOUT, name].concat();
        assert_eq!(Place::parse(&whiteout(&longest)).unwrap(), Place::Whiteout(vec![], &longest));
        assert!(Place::parse(&whiteout(&longer)).is_err());
        for ignored in [&b".wh..wh.plnk"[..], b".wh..wh.plnk/1.2", b"d/.wh..wh.aufs"] {
            assert_eq!(Place::parse(ignored).unwrap(), Place::Ignored);
        }
    }
}
