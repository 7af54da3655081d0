//! What small images lack and this program makes in the root file system: mount points, and files to bind others over.
//!
//! They land in the layer that takes changes, and are no changes of the workload's. So they are made without a trace in
//! the directory that they are in, and left out of a layer that is made of the changes.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timestamps};
use transfer::Scaffold;

/// Everything of that kind; what is in another one stands behind it.
pub(crate) const SCAFFOLDS: [Scaffold<'static>; 9] = [
    Scaffold::Directory { path: "proc", mode: 0o755 },
    Scaffold::Directory { path: "sys", mode: 0o755 },
    Scaffold::Directory { path: "dev", mode: 0o755 },
    Scaffold::Directory { path: "tmp", mode: 0o1777 },
    Scaffold::Directory { path: "etc", mode: 0o755 },
    Scaffold::File { path: "etc/hosts" },
    Scaffold::File { path: "etc/hostname" },
    Scaffold::File { path: "etc/resolv.conf" },
    Scaffold::File { path: "etc/machine-id" },
];

/// Makes a directory of this mode where nothing is.
pub(crate) fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    if std::fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    untraced(path, || {
        std::fs::create_dir(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
    })
}

/// Makes an empty file where no file is. A link that leads nowhere is no place to put one, and goes.
pub(crate) fn make_file(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path).is_ok() {
        return Ok(());
    }
    untraced(path, || {
        if std::fs::symlink_metadata(path).is_ok() {
            std::fs::remove_file(path)?;
        }
        std::fs::write(path, "")?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
    })
}

/// Does what changes the directory that `path` is in, whose times stay as they are.
fn untraced(path: &Path, make: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let before = std::fs::metadata(directory)?;
    make()?;
    Ok(rustix::fs::utimensat(CWD, directory, &times(&before), AtFlags::empty())?)
}

/// When a file was read and modified.
pub(crate) fn times(metadata: &std::fs::Metadata) -> Timestamps {
    use std::os::unix::fs::MetadataExt;
    let time = |tv_sec, tv_nsec| rustix::fs::Timespec { tv_sec, tv_nsec };
    Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec()),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_leaves_no_trace_in_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
        std::fs::write(at("there"), "content").unwrap();
        let old = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 5);
        std::fs::File::open(directory.path()).unwrap().set_modified(old).unwrap();
        make_directory(&at("tmp"), 0o1777).unwrap();
        for name in ["link", "there", "new"] {
            make_file(&at(name)).unwrap();
        }
        assert_eq!(std::fs::metadata(directory.path()).unwrap().modified().unwrap(), old);
        assert_eq!(std::fs::metadata(at("tmp")).unwrap().permissions().mode() & 0o7777, 0o1777);
        assert_eq!(std::fs::read(at("there")).unwrap(), b"content");
        assert!(std::fs::symlink_metadata(at("link")).unwrap().is_file());
        assert!(std::fs::read(at("new")).unwrap().is_empty());
    }
}
