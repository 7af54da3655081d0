//! What a stream says of a file, without what it borrows from the stream.

use rustix::fs::{FileType, Timespec, Timestamps, UTIME_OMIT};

use crate::stream::{Header, Kind, Time};

/// An entry that no longer borrows from the stream.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) path: Vec<u8>,
    pub(super) kind: HeadKind,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) modified: Time,
}

#[derive(Debug, Clone)]
pub(super) enum HeadKind {
    Directory,
    Content,
    File(u64),
    Symlink(Vec<u8>),
    Link(Vec<u8>),
    Fifo,
    Device(FileType, u32, u32),
}

impl Head {
    pub(super) fn of(entry: &crate::Entry<'_>) -> Self {
        let kind = match entry.kind {
            Kind::Directory => HeadKind::Directory,
            Kind::Content => HeadKind::Content,
            Kind::File { size } => HeadKind::File(size),
            Kind::Symlink { target } => HeadKind::Symlink(target.to_vec()),
            Kind::Link { to } => HeadKind::Link(to.to_vec()),
            Kind::Fifo => HeadKind::Fifo,
            Kind::Character { major, minor } => HeadKind::Device(FileType::CharacterDevice, major, minor),
            Kind::Block { major, minor } => HeadKind::Device(FileType::BlockDevice, major, minor),
        };
        let path = entry.path.to_vec();
        Self { path, kind, mode: entry.mode, uid: entry.uid, gid: entry.gid, modified: entry.modified }
    }

    pub(super) fn times(&self) -> Timestamps {
        Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: self.modified.seconds,
                tv_nsec: self.modified.nanoseconds.into(),
            },
        }
    }
}

/// What follows an entry, without what it borrows.
pub(super) enum Next {
    Entry(Head),
    Attribute(Vec<u8>, Vec<u8>),
    Data,
    End,
}

impl Header<'_> {
    pub(super) fn into_owned_entry(self) -> Next {
        match self {
            Self::Entry(entry) => Next::Entry(Head::of(&entry)),
            Self::Attribute { name, value } => Next::Attribute(name.to_vec(), value.to_vec()),
            // Both belong to a file, which is read elsewhere.
            Self::Data { .. } | Self::Exchanged { .. } | Self::Segments(_) => Next::Data,
            Self::End | Self::Failed(_) => Next::End,
        }
    }
}
