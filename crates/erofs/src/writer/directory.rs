//! The blocks of a directory.

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U64};

use crate::Directory;
use crate::format::{BLOCK_SIZE, DIRENT_SIZE};

/// An entry as it will be on disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed<'t> {
    pub(super) name: &'t [u8],
    pub(super) nid: u64,
    pub(super) file_type: u8,
}

/// Bytes of the directory on disk.
pub(super) fn size(directory: &Directory) -> u64 {
    let mut names: Vec<&[u8]> = directory.iter().map(|(name, _)| name).collect();
    insert_sorted(&mut names, b".", |name| name);
    insert_sorted(&mut names, b"..", |name| name);
    let (mut full, mut last) = (0, 0);
    for name in names {
        let entry = DIRENT_SIZE + name.len();
        if last + entry > BLOCK_SIZE {
            full += BLOCK_SIZE;
            last = 0;
        }
        last += entry;
    }
    (full + last) as u64
}

/// The directory on disk; `entries` are sorted but for `.` and `..`, which come separately.
pub(super) fn encode<'t>(mut entries: Vec<Listed<'t>>, dots: [Listed<'t>; 2]) -> Vec<u8> {
    for dot in dots {
        insert_sorted(&mut entries, dot, |listed| listed.name);
    }
    let mut out = Vec::new();
    let mut rest = &entries[..];
    while !rest.is_empty() {
        let (block, later) = rest.split_at(entries_in_block(rest));
        encode_block(block, &mut out);
        if !later.is_empty() {
            out.resize(out.len().next_multiple_of(BLOCK_SIZE), 0);
        }
        rest = later;
    }
    out
}

fn insert_sorted<'t, T: Copy>(sorted: &mut Vec<T>, item: T, key: impl Fn(T) -> &'t [u8]) {
    let at = sorted.partition_point(|&known| key(known) < key(item));
    sorted.insert(at, item);
}

fn entries_in_block(entries: &[Listed<'_>]) -> usize {
    let mut used = 0;
    let fits = |listed: &&Listed<'_>| {
        used += DIRENT_SIZE + listed.name.len();
        used <= BLOCK_SIZE
    };
    entries.iter().take_while(fits).count()
}

fn encode_block(entries: &[Listed<'_>], out: &mut Vec<u8>) {
    let mut name_offset = entries.len() * DIRENT_SIZE;
    for listed in entries {
        let dirent = crate::format::Dirent {
            nid: U64::new(listed.nid),
            nameoff: U16::new(u16::try_from(name_offset).expect("an offset in a block")),
            file_type: listed.file_type,
            reserved: 0,
        };
        out.extend_from_slice(dirent.as_bytes());
        name_offset += listed.name.len();
    }
    for listed in entries {
        out.extend_from_slice(listed.name);
    }
}
