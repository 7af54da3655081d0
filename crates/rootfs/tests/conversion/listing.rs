//! All that can be seen of a tree of files, from an image or from a directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use erofs::{FileInode, FileType, Reader};
use sha2::{Digest, Sha256};

pub(crate) type Listing = BTreeMap<String, Seen>;

/// A file as it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: FileType,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, i64),
    pub(crate) size: u64,
    pub(crate) device: Option<(u32, u32)>,
    /// What is in a file or link.
    pub(crate) content: String,
    pub(crate) xattrs: Vec<(String, Vec<u8>)>,
    /// The first name of the inode and the number of all of them, for what is not a directory.
    pub(crate) links: Option<(String, u64)>,
}

pub(crate) fn of_image(image: &File) -> Listing {
    let reader = Reader::open(image).unwrap();
    reader.check().unwrap();
    let mut listing = Listing::new();
    let mut first_names = BTreeMap::new();
    list_image(&reader, reader.root(), "/", &mut listing, &mut first_names);
    listing
}

fn list_image(
    reader: &Reader<'_, File>,
    nid: u64,
    path: &str,
    listing: &mut Listing,
    first_names: &mut BTreeMap<u64, String>,
) {
    let inode = reader.inode(nid).unwrap();
    let is_directory = inode.file_type == FileType::Directory;
    let first = first_names.entry(nid).or_insert_with(|| path.to_owned()).clone();
    let xattrs = reader.xattrs(&inode).unwrap();
    let attributes = inode.attributes;
    let seen = Seen {
        kind: inode.file_type,
        mode: u32::from(attributes.mode),
        owner: (attributes.uid, attributes.gid),
        mtime: (attributes.mtime.seconds, i64::from(attributes.mtime.nanoseconds)),
        size: if is_directory { 0 } else { inode.size },
        device: inode.device.map(|device| (device.major(), device.minor())),
        content: content_in_image(reader, &inode),
        xattrs: xattrs.iter().map(|(name, value)| (printable(name), value.to_vec())).collect(),
        links: (!is_directory).then(|| (first, u64::from(inode.links))),
    };
    listing.insert(path.to_owned(), seen);
    if is_directory {
        for entry in reader.entries(&inode).unwrap() {
            if !matches!(&entry.name[..], b"." | b"..") {
                list_image(reader, entry.nid, &below(path, &entry.name), listing, first_names);
            }
        }
    }
}

fn content_in_image(reader: &Reader<'_, File>, inode: &FileInode) -> String {
    match inode.file_type {
        FileType::Symlink => printable(&reader.target(inode).unwrap()),
        FileType::Regular => {
            let mut hash = Sha256::new();
            let mut buffer = vec![0; 1 << 20];
            for offset in (0..inode.size).step_by(buffer.len()) {
                let count = reader.read_at(inode, offset, &mut buffer).unwrap();
                hash.update(&buffer[..count]);
            }
            crate::image::hex(&hash.finalize())
        }
        _ => String::new(),
    }
}

pub(crate) fn of_directory(root: &Path) -> Listing {
    let mut listing = Listing::new();
    list_directory(root, "/", &mut listing, &mut BTreeMap::new());
    listing
}

fn list_directory(real: &Path, path: &str, listing: &mut Listing, first_names: &mut BTreeMap<u64, String>) {
    let metadata = real.symlink_metadata().unwrap();
    let kind = kind(metadata.file_type());
    let is_directory = kind == FileType::Directory;
    let is_device = matches!(kind, FileType::CharDevice | FileType::BlockDevice);
    let first = first_names.entry(metadata.ino()).or_insert_with(|| path.to_owned()).clone();
    let device = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    let seen = Seen {
        kind,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        size: if is_directory { 0 } else { metadata.len() },
        device: is_device.then_some(device),
        content: match kind {
            FileType::Symlink => printable(real.read_link().unwrap().as_os_str().as_bytes()),
            FileType::Regular => crate::image::hex(&Sha256::digest(std::fs::read(real).unwrap())),
            _ => String::new(),
        },
        xattrs: xattrs(real),
        links: (!is_directory).then(|| (first, metadata.nlink())),
    };
    listing.insert(path.to_owned(), seen);
    if is_directory {
        let mut names: Vec<_> = real.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            list_directory(&real.join(&name), &below(path, name.as_bytes()), listing, first_names);
        }
    }
}

fn kind(file_type: std::fs::FileType) -> FileType {
    match () {
        () if file_type.is_dir() => FileType::Directory,
        () if file_type.is_symlink() => FileType::Symlink,
        () if file_type.is_char_device() => FileType::CharDevice,
        () if file_type.is_block_device() => FileType::BlockDevice,
        () if file_type.is_fifo() => FileType::Fifo,
        () => FileType::Regular,
    }
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let mut found: Vec<_> = names
        .map(|name| {
            let mut value = vec![0; 1 << 16];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            (printable(name), value[..length].to_vec())
        })
        .collect();
    found.sort();
    found
}

fn below(path: &str, name: &[u8]) -> String {
    format!("{}/{}", path.trim_end_matches('/'), printable(name))
}

fn printable(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
