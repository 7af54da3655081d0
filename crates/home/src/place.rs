//! Where the state directory is: on which kind of file system, with how much room, and whether that serves.

use std::fs::File;
use std::io::{self, Write};

use rustix::fs::SeekFrom;

use crate::Home;

/// What the state directory is on.
#[derive(Debug)]
pub struct Place {
    /// The kind of file system, as `mount` calls it; a number where it is not known here.
    pub file_system: String,
    /// Where its files are.
    pub keeps: Keeps,
    /// What can still be written, in bytes.
    pub free: u64,
    /// What it holds in all, in bytes.
    pub size: u64,
    /// How many more files it takes; none where it does not count them.
    pub free_files: Option<u64>,
}

/// Where a file system keeps its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// On a disk of this host, as far as can be told.
    OnDisk,
    /// In memory.
    InMemory,
    /// On another host, or with another program.
    Elsewhere,
}

/// Magic numbers of statfs(2), with what each keeps where.
const KNOWN: [(i64, &str, Keeps); 18] = [
    (0xEF53, "ext4", Keeps::OnDisk),
    (0x5846_5342, "xfs", Keeps::OnDisk),
    (0x9123_683E, "btrfs", Keeps::OnDisk),
    (0xF2F5_2010, "f2fs", Keeps::OnDisk),
    (0x2FC1_2FC1, "zfs", Keeps::OnDisk),
    (0xCA45_1A4E, "bcachefs", Keeps::OnDisk),
    (0x794C_7630, "overlay", Keeps::OnDisk),
    (0xF15F, "ecryptfs", Keeps::OnDisk),
    (0x0102_1994, "tmpfs", Keeps::InMemory),
    (0x8584_58F6, "ramfs", Keeps::InMemory),
    (0x6969, "nfs", Keeps::Elsewhere),
    (0xFF53_4D42, "cifs", Keeps::Elsewhere),
    (0xFE53_4D42, "smb", Keeps::Elsewhere),
    (0x0102_1997, "9p", Keeps::Elsewhere),
    (0x6573_5546, "fuse", Keeps::Elsewhere),
    (0x00C3_6400, "ceph", Keeps::Elsewhere),
    (0x5346_414F, "afs", Keeps::Elsewhere),
    (0x786F_4256, "vboxsf", Keeps::Elsewhere),
];

impl Place {
    /// Asks the file system of `home`.
    pub fn of(home: &Home) -> io::Result<Self> {
        let found = rustix::fs::statfs(home.root())?;
        let (file_system, keeps) = kind(found.f_type);
        let block = u64::try_from(found.f_bsize).unwrap_or(0);
        Ok(Self {
            file_system,
            keeps,
            free: found.f_bavail.saturating_mul(block),
            size: found.f_blocks.saturating_mul(block),
            free_files: (found.f_files > 0).then_some(found.f_ffree),
        })
    }
}

fn kind(magic: i64) -> (String, Keeps) {
    let known = KNOWN.iter().find(|(number, _, _)| *number == magic);
    match known {
        Some((_, name, keeps)) => ((*name).to_owned(), *keeps),
        None => (format!("{magic:#x}"), Keeps::OnDisk),
    }
}

/// Does once in `home` what state needs: a file with a hole is written, flushed, renamed and removed. True if the hole
/// takes no room.
pub fn try_files(home: &Home) -> io::Result<bool> {
    let directory = tempfile::Builder::new().prefix("trial-").tempdir_in(home.tmp())?;
    let (first, second) = (directory.path().join("first"), directory.path().join("second"));
    let mut file = File::create_new(&first)?;
    file.set_len(64 << 20)?;
    file.write_all(b"data")?;
    file.sync_all()?;
    std::fs::rename(&first, &second)?;
    crate::sync_directory(directory.path())?;
    let gap = rustix::fs::seek(&file, SeekFrom::Hole(0))?;
    directory.close()?;
    Ok(gap < 32 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_file_systems_are_told_apart() {
        assert_eq!(kind(0xEF53), ("ext4".to_owned(), Keeps::OnDisk));
        assert_eq!(kind(0x0102_1994), ("tmpfs".to_owned(), Keeps::InMemory));
        assert_eq!(kind(0x6969), ("nfs".to_owned(), Keeps::Elsewhere));
        assert_eq!(kind(0x1234), ("0x1234".to_owned(), Keeps::OnDisk));
    }

    #[test]
    fn a_directory_is_tried_and_left_as_it_was() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::open(Some(parent.path())).unwrap();
        let place = Place::of(&home).unwrap();
        assert!(place.size >= place.free && place.size > 0, "{place:?}");
        assert!(try_files(&home).unwrap(), "the file systems of test hosts have holes");
        assert_eq!(std::fs::read_dir(home.tmp()).unwrap().count(), 0);
    }

    #[test]
    fn memory_is_told_from_disks() {
        let parent = tempfile::tempdir_in("/dev/shm").unwrap();
        let home = Home::open(Some(parent.path())).unwrap();
        assert_eq!(Place::of(&home).unwrap().keeps, Keeps::InMemory);
    }
}
