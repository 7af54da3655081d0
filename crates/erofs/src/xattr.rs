//! Extended attributes, as far as the format has a place for them.
//!
//! A name is stored as an index for its prefix and the rest. Names with another prefix have no place.

use std::collections::BTreeMap;

use zerocopy::IntoBytes;
use zerocopy::little_endian::U16;

use crate::format::{XATTR_ENTRY_SIZE, XATTR_HEADER_SIZE, XattrEntry, XattrHeader, xattr_icount};

/// Prefixes and their `EROFS_XATTR_INDEX_*`. The two for access control lists are whole names.
const PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// The extended attributes of one inode, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Xattrs {
    values: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// Bytes on disk, without the header.
    entries_size: usize,
}

/// Why an extended attribute cannot be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum XattrError {
    /// The format has no index for the name's prefix.
    #[error("no place for an extended attribute of this name")]
    NoPrefix,
    /// The name has no character after its prefix, a NUL, or more than 255 of them.
    #[error("invalid name of an extended attribute")]
    Name,
    /// The value has more than 65,535 bytes, or all values together more than the inode can hold.
    #[error("extended attributes too large")]
    TooLarge,
}

impl Xattrs {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Adds the attribute of this full name (`user.…`), in place of one of the same name.
    pub fn insert(&mut self, name: &[u8], value: &[u8]) -> Result<(), XattrError> {
        let (_, rest) = split(name)?;
        if value.len() > usize::from(u16::MAX) {
            return Err(XattrError::TooLarge);
        }
        let replaced = self.values.get(name).map_or(0, |known| entry_size(rest, known));
        let size = self.entries_size - replaced + entry_size(rest, value);
        xattr_icount(XATTR_HEADER_SIZE + size).ok_or(XattrError::TooLarge)?;
        self.values.insert(name.into(), value.into());
        self.entries_size = size;
        Ok(())
    }

    /// Full names and values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.values.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Bytes on disk behind the inode.
    pub(crate) fn size(&self) -> usize {
        if self.is_empty() { 0 } else { XATTR_HEADER_SIZE + self.entries_size }
    }

    /// Appends the bytes on disk, [`Self::size`] of them.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        if self.is_empty() {
            return;
        }
        out.extend_from_slice(XattrHeader::default().as_bytes());
        for (name, value) in self.iter() {
            let (name_index, rest) = split(name).expect("names were checked when inserted");
            let end = out.len() + entry_size(rest, value);
            let head = XattrEntry {
                name_len: u8::try_from(rest.len()).expect("names were checked when inserted"),
                name_index,
                value_size: U16::new(u16::try_from(value.len()).expect("values were checked too")),
            };
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(rest);
            out.extend_from_slice(value);
            out.resize(end, 0);
        }
    }
}

fn entry_size(rest_of_name: &[u8], value: &[u8]) -> usize {
    (XATTR_ENTRY_SIZE + rest_of_name.len() + value.len()).next_multiple_of(XATTR_ENTRY_SIZE)
}

/// The prefix with this index, if the writer would use it.
pub(crate) fn prefix_of(index: u8) -> Option<&'static [u8]> {
    PREFIXES.iter().find(|(known, _)| *known == index).map(|(_, prefix)| *prefix)
}

fn split(name: &[u8]) -> Result<(u8, &[u8]), XattrError> {
    let found = PREFIXES.iter().find_map(|(index, prefix)| Some((*index, name.strip_prefix(*prefix)?)));
    let (index, rest) = found.ok_or(XattrError::NoPrefix)?;
    let is_whole_name = matches!(index, 2 | 3);
    if is_whole_name && !rest.is_empty() {
        return Err(XattrError::NoPrefix);
    }
    if rest.is_empty() != is_whole_name || rest.len() > 255 || rest.contains(&0) {
        return Err(XattrError::Name);
    }
    Ok((index, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_known_prefix_have_a_place() {
        let mut xattrs = Xattrs::default();
        for name in ["user.a", "security.capability", "trusted.x", "system.posix_acl_access"] {
            assert_eq!(xattrs.insert(name.as_bytes(), b"1"), Ok(()), "{name}");
        }
        for name in ["", "user", "system.nfs4_acl", "system.posix_acl_access2", "lustre.lov"] {
            assert_eq!(xattrs.insert(name.as_bytes(), b"1"), Err(XattrError::NoPrefix), "{name}");
        }
        for name in ["user.".to_owned(), "user.a\0b".to_owned(), format!("user.{}", "a".repeat(256))] {
            assert_eq!(xattrs.insert(name.as_bytes(), b"1"), Err(XattrError::Name), "{name}");
        }
    }

    #[test]
    fn a_later_value_of_the_same_name_replaces_the_earlier() {
        let mut xattrs = Xattrs::default();
        xattrs.insert(b"user.b", b"1").unwrap();
        xattrs.insert(b"user.a", b"2").unwrap();
        xattrs.insert(b"user.b", b"3").unwrap();
        let all: Vec<_> = xattrs.iter().collect();
        assert_eq!(all, [(&b"user.a"[..], &b"2"[..]), (b"user.b", b"3")]);
    }

    #[test]
    fn what_the_inode_cannot_hold_is_refused() {
        let mut xattrs = Xattrs::default();
        assert_eq!(xattrs.insert(b"user.a", &vec![0; 65_536]), Err(XattrError::TooLarge));
        for name in [b"user.a", b"user.b", b"user.c"] {
            xattrs.insert(name, &vec![0; 65_535]).unwrap();
        }
        xattrs.insert(b"user.c", &vec![1; 65_535]).unwrap();
        assert_eq!(xattrs.insert(b"user.d", &vec![0; 65_535]), Err(XattrError::TooLarge));
        assert_eq!(xattrs.iter().len(), 3);
    }
}
