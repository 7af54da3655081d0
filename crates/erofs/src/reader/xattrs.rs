//! Extended attributes read back.

use zerocopy::{FromBytes, IntoBytes};

use super::{FileInode, ReadError, Reader, Source};
use crate::Xattrs;
use crate::format::{XATTR_ENTRY_SIZE, XATTR_HEADER_SIZE, XattrEntry, XattrHeader};
use crate::xattr::prefix_of;

impl<S: Source + ?Sized> Reader<'_, S> {
    /// The extended attributes of an inode.
    pub fn xattrs(&self, inode: &FileInode) -> Result<Xattrs, ReadError> {
        let mut raw = vec![0; inode.xattr_size as usize];
        self.source.read_exact_at(&mut raw, self.behind_inode(inode))?;
        parse(&raw).map_err(|problem| ReadError::Inode { nid: inode.nid, problem })
    }
}

fn parse(raw: &[u8]) -> Result<Xattrs, &'static str> {
    let mut xattrs = Xattrs::default();
    if raw.is_empty() {
        return Ok(xattrs);
    }
    let (header, mut rest) =
        raw.split_at_checked(XATTR_HEADER_SIZE).ok_or("no header of extended attributes")?;
    if header != XattrHeader::default().as_bytes() {
        return Err("shared extended attributes");
    }
    let mut count = 0;
    while !rest.is_empty() {
        rest = parse_one(rest, &mut xattrs)?;
        count += 1;
    }
    if count == 0 || xattrs.iter().len() != count {
        return Err("an extended attribute given twice, or none");
    }
    Ok(xattrs)
}

fn parse_one<'r>(raw: &'r [u8], xattrs: &mut Xattrs) -> Result<&'r [u8], &'static str> {
    const OUTSIDE: &str = "an extended attribute beyond its inode";
    let (entry, rest) = XattrEntry::read_from_prefix(raw).map_err(|_| OUTSIDE)?;
    let (rest_of_name, rest) = rest.split_at_checked(usize::from(entry.name_len)).ok_or(OUTSIDE)?;
    let (value, rest) = rest.split_at_checked(usize::from(entry.value_size.get())).ok_or(OUTSIDE)?;
    let prefix = prefix_of(entry.name_index).ok_or("an extended attribute with an unknown prefix")?;
    let name = [prefix, rest_of_name].concat();
    xattrs.insert(&name, value).map_err(|_| "an invalid extended attribute")?;
    let used = raw.len() - rest.len();
    let (padding, rest) =
        rest.split_at_checked(used.next_multiple_of(XATTR_ENTRY_SIZE) - used).ok_or(OUTSIDE)?;
    if padding.iter().any(|&byte| byte != 0) {
        return Err("bytes between extended attributes");
    }
    Ok(rest)
}
