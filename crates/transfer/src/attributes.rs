//! Extended attributes that are worth keeping.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// The most that a file may have of them; `xattr(7)`: lists and values are at most 64 KiB.
pub(crate) const LONGEST: usize = 64 * 1024;

/// Whether an extended attribute goes along: users' own, a program's capabilities, and access control lists. The
/// others belong to the file system that a file is in.
pub fn is_kept(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name == b"security.capability"
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
}

/// Whether `name` is the user's own affair, and gives nobody rights.
pub(crate) fn is_users(name: &[u8]) -> bool {
    name.starts_with(b"user.")
}

/// Those of an open file, by name.
pub(crate) fn list(file: impl AsFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let file = file.as_fd();
    let mut names = vec![0; LONGEST];
    let length = match rustix::fs::flistxattr(file, &mut names[..]) {
        Ok(length) => length,
        // A file system without them has none.
        Err(Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut attributes = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| is_kept(name)) {
        let mut value = vec![0; LONGEST];
        match rustix::fs::fgetxattr(file, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                attributes.push((name.to_vec(), value));
            }
            // It went meanwhile.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(attributes)
}

/// The mark of a directory that shows nothing of those below it;
/// <https://docs.kernel.org/filesystems/overlayfs.html>.
pub const OPAQUE: &str = "trusted.overlay.opaque";

/// The value that the mark has then.
pub(crate) const YES: &[u8] = b"y";

/// Marks of files that are not all there: the rest is elsewhere in the layers below.
const PARTIAL: [&str; 2] = ["trusted.overlay.redirect", "trusted.overlay.metacopy"];

/// Whether an open directory of an overlay's upper layer shows nothing of those below it.
pub(crate) fn is_opaque(directory: impl AsFd) -> io::Result<bool> {
    let mut value = [0; 8];
    match rustix::fs::fgetxattr(directory, OPAQUE, &mut value[..]) {
        Ok(length) => Ok(&value[..length] == YES),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether an open file of an overlay's upper layer needs the layers below.
pub(crate) fn is_partial(file: impl AsFd) -> bool {
    let file = file.as_fd();
    let empty: &mut [u8] = &mut [];
    // Without room, the answer is the length.
    PARTIAL.iter().any(|name| rustix::fs::fgetxattr(file, *name, &mut *empty).is_ok())
}

/// Gives an open file one.
pub(crate) fn set(file: impl AsFd, name: &[u8], value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())?)
}
