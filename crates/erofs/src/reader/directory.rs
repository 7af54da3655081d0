//! Directories read back.

use std::ops::Range;

use zerocopy::FromBytes;

use super::{FileInode, ReadError, Reader, Source};
use crate::format::{BLOCK, BLOCK_SIZE, DIRENT_SIZE, Dirent};
use crate::{FileType, NAME_MAX};

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The name.
    pub name: Vec<u8>,
    /// The number of the inode.
    pub nid: u64,
    /// Its kind, which its inode repeats.
    pub file_type: FileType,
}

impl<S: Source + ?Sized> Reader<'_, S> {
    /// The names in a directory, sorted, with `.` and `..`.
    pub fn entries(&self, inode: &FileInode) -> Result<Vec<DirectoryEntry>, ReadError> {
        let damaged = |problem| ReadError::Inode { nid: inode.nid, problem };
        if inode.file_type != FileType::Directory {
            return Err(damaged("not a directory"));
        }
        let mut entries = Vec::new();
        let mut block = [0; BLOCK_SIZE];
        for start in (0..inode.size).step_by(BLOCK_SIZE) {
            let length = self.read_at(inode, start, &mut block)?;
            let is_last = inode.size - start <= BLOCK;
            parse_block(&block[..length], is_last, &mut entries).map_err(damaged)?;
        }
        if !entries.is_sorted_by(|left, right| left.name < right.name) {
            return Err(damaged("names out of order"));
        }
        Ok(entries)
    }
}

fn parse_block(block: &[u8], is_last: bool, entries: &mut Vec<DirectoryEntry>) -> Result<(), &'static str> {
    let names_start = usize::from(dirent(block, 0)?.nameoff.get());
    if names_start == 0 || names_start % DIRENT_SIZE != 0 {
        return Err("a directory block without entries");
    }
    let count = names_start / DIRENT_SIZE;
    for index in 0..count {
        let entry = dirent(block, index)?;
        let start = usize::from(entry.nameoff.get());
        let end = if index + 1 < count {
            usize::from(dirent(block, index + 1)?.nameoff.get())
        } else {
            end_of_last_name(block, start, is_last)?
        };
        entries.push(DirectoryEntry {
            name: parse_name(block, start..end)?.to_vec(),
            nid: entry.nid.get(),
            file_type: FileType::from_disk(entry.file_type).ok_or("an entry of unknown type")?,
        });
    }
    Ok(())
}

fn dirent(block: &[u8], index: usize) -> Result<Dirent, &'static str> {
    let from = block.get(index * DIRENT_SIZE..).ok_or("an entry outside its block")?;
    Dirent::read_from_prefix(from).map(|(dirent, _)| dirent).map_err(|_| "an entry outside its block")
}

/// The last name ends with the directory, or at the zeros that fill its block.
fn end_of_last_name(block: &[u8], start: usize, is_last: bool) -> Result<usize, &'static str> {
    let rest = block.get(start..).ok_or("a name outside its block")?;
    let length = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
    if rest[length..].iter().any(|&byte| byte != 0) || (is_last && length < rest.len()) {
        return Err("bytes behind the last name");
    }
    Ok(start + length)
}

fn parse_name(block: &[u8], range: Range<usize>) -> Result<&[u8], &'static str> {
    let name = block.get(range).ok_or("a name outside its block")?;
    let has_bad_byte = name.iter().any(|&byte| matches!(byte, 0 | b'/'));
    if name.is_empty() || name.len() > NAME_MAX || has_bad_byte {
        return Err("an invalid name");
    }
    Ok(name)
}
