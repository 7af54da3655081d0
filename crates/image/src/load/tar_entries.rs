//! A tar, entry by entry, as far as image archives use it.
//!
//! ```text
//! 512 bytes of header │ content, padded to 512 │ header │ …      POSIX ustar, GNU long names (L, K),
//!                                                                pax records path, linkpath and size
//! ```
//!
//! Names and records are bounded, checksums verified, and an archive that ends in the middle is an error.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};

use tar::{EntryType, Header, PaxExtensions};

use super::LoadError;
use serde::{Deserialize, Serialize};

const BLOCK: u64 = 512;
/// Of a long name or of the pax records of one entry, in bytes.
const MAX_RECORDS: u64 = 64 << 10;
/// Of a path, in bytes; those of image archives have some 80.
pub(super) const MAX_PATH: usize = 1024;

/// Something that content which nobody wants is passed by in.
pub(super) trait Pass: Read {
    /// Passes by `length` bytes, or as many as there are, and tells how many.
    fn pass(&mut self, length: u64) -> io::Result<u64>;
}

/// What can only be read is read.
impl Pass for dyn Read + '_ {
    fn pass(&mut self, length: u64) -> io::Result<u64> {
        io::copy(&mut self.take(length), &mut io::sink())
    }
}

/// In a file there is a shorter way.
impl Pass for BufReader<File> {
    fn pass(&mut self, length: u64) -> io::Result<u64> {
        let left = self.get_ref().metadata()?.len().saturating_sub(self.stream_position()?);
        let length = length.min(left);
        self.seek_relative(length.cast_signed())?;
        Ok(length)
    }
}

/// The entries of a tar that is read once.
pub(super) struct TarEntries<'i, R: ?Sized> {
    input: &'i mut R,
    unread: u64,
    padding: u64,
}

/// One entry. Its content is read from [`TarEntries`] before the next entry is asked for, as far as it is wanted.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Entry {
    /// A file.
    File {
        /// As written in the archive.
        path: String,
        /// In bytes.
        size: u64,
    },
    /// A symbolic link, whose target is relative to its own directory.
    Symlink {
        /// As written in the archive.
        path: String,
        /// As written in the archive.
        target: String,
    },
    /// Another name of a file in the archive.
    HardLink {
        /// As written in the archive.
        path: String,
        /// As written in the archive.
        target: String,
    },
    /// A directory, a device, or what has no readable name.
    Other,
}

impl Entry {
    /// Of its content, in bytes.
    pub(super) fn size(&self) -> u64 {
        if let Self::File { size, .. } = self { *size } else { 0 }
    }

    /// In bytes, of the paths in it.
    pub(super) fn longest_path(&self) -> usize {
        match self {
            Self::File { path, .. } => path.len(),
            Self::Symlink { path, target } | Self::HardLink { path, target } => path.len().max(target.len()),
            Self::Other => 0,
        }
    }
}

/// What extension headers say about the entry after them.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<'i, R: Pass + ?Sized> TarEntries<'i, R> {
    /// Starts at the beginning of a tar.
    pub(super) fn new(input: &'i mut R) -> Self {
        Self { input, unread: 0, padding: 0 }
    }

    /// What is read from, at the content of the entry that was returned last.
    pub(super) fn input(&mut self) -> &mut R {
        self.input
    }

    /// The next entry; `None` at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, LoadError> {
        let mut extension = Extension::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(|_| damaged("an entry has no size"))?;
            match header.entry_type() {
                EntryType::GNULongName => extension.path = Some(self.long_name(size)?),
                EntryType::GNULongLink => extension.target = Some(self.long_name(size)?),
                EntryType::XHeader => self.pax_records(size, &mut extension)?,
                EntryType::XGlobalHeader => self.start(size)?,
                _ => return self.entry(&header, size, extension).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &Header, size: u64, extension: Extension) -> Result<Entry, LoadError> {
        let path = text(extension.path.unwrap_or_else(|| header.path_bytes().into_owned()))?;
        let link = header.link_name_bytes().unwrap_or_default().into_owned();
        let target = text(extension.target.unwrap_or(link))?;
        let kind = header.entry_type();
        let size = extension.size.unwrap_or(size);
        self.start(if kind.is_file() || kind.is_contiguous() { size } else { 0 })?;
        Ok(match (kind, path, target) {
            (EntryType::Regular | EntryType::Continuous, Some(path), _) => Entry::File { path, size },
            (EntryType::Symlink, Some(path), Some(target)) => Entry::Symlink { path, target },
            (EntryType::Link, Some(path), Some(target)) => Entry::HardLink { path, target },
            (EntryType::GNUSparse, ..) => return Err(damaged("a sparse file is in it")),
            _ => Entry::Other,
        })
    }

    /// Passes by what is left of the content before.
    fn skip(&mut self) -> Result<(), LoadError> {
        let left = self.unread + self.padding;
        let skipped = self.input.pass(left).map_err(LoadError::Read)?;
        (self.unread, self.padding) = (0, 0);
        if skipped == left { Ok(()) } else { Err(damaged("it ends in the middle of a file")) }
    }

    fn header(&mut self) -> Result<Option<Header>, LoadError> {
        let mut header = Header::new_old();
        let mut block = Vec::with_capacity(BLOCK as usize);
        (&mut *self.input).take(BLOCK).read_to_end(&mut block).map_err(LoadError::Read)?;
        if block.is_empty() || block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if block.len() as u64 != BLOCK {
            return Err(damaged("it ends in the middle of a header"));
        }
        header.as_mut_bytes().copy_from_slice(&block);
        if header.cksum().ok() == Some(checksum(&block)) {
            return Ok(Some(header));
        }
        Err(damaged("the checksum of a header is wrong"))
    }

    /// What follows are `size` bytes of content.
    fn start(&mut self, size: u64) -> Result<(), LoadError> {
        self.padding = size.wrapping_neg() % BLOCK;
        self.unread = size;
        let end = size.checked_add(self.padding);
        end.map(drop).ok_or(damaged("an entry is larger than anything"))
    }

    fn records(&mut self, size: u64) -> Result<Vec<u8>, LoadError> {
        if size > MAX_RECORDS {
            return Err(LoadError::TooLarge { what: "a name".into(), limit: MAX_RECORDS });
        }
        self.start(size)?;
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map_err(LoadError::Read)?;
        Ok(bytes)
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, LoadError> {
        let mut name = self.records(size)?;
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        Ok(name)
    }

    fn pax_records(&mut self, size: u64, extension: &mut Extension) -> Result<(), LoadError> {
        let bytes = self.records(size)?;
        for record in PaxExtensions::new(&bytes) {
            let record = record.map_err(|_| damaged("a pax record is malformed"))?;
            let value = record.value_bytes();
            match record.key_bytes() {
                b"path" => extension.path = Some(value.to_vec()),
                b"linkpath" => extension.target = Some(value.to_vec()),
                b"size" => {
                    let size = record.value().ok().and_then(|text| text.parse().ok());
                    extension.size = Some(size.ok_or(damaged("an entry has no size"))?);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The content of the entry that was returned last.
impl<R: Pass + ?Sized> Read for TarEntries<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = self.unread.min(buffer.len() as u64) as usize;
        // Not every reader can be asked for nothing.
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.input.read(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends in the middle of a file"));
        }
        self.unread -= read as u64;
        Ok(read)
    }
}

/// The sum of all bytes of a header, with the checksum itself as eight spaces.
pub(crate) fn checksum(block: &[u8]) -> u32 {
    let byte = |(at, byte): (usize, &u8)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) };
    block.iter().enumerate().map(byte).sum()
}

pub(super) fn damaged(what: &'static str) -> LoadError {
    LoadError::Damaged(what.into())
}

/// Nothing in an archive refers to a name that is not UTF-8.
fn text(bytes: Vec<u8>) -> Result<Option<String>, LoadError> {
    if bytes.len() > MAX_PATH {
        return Err(LoadError::TooLarge { what: "a path".into(), limit: MAX_PATH as u64 });
    }
    Ok(String::from_utf8(bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries(mut bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, LoadError> {
        let input: &mut dyn Read = &mut bytes;
        let mut tar = TarEntries::new(input);
        let mut all = Vec::new();
        while let Some(entry) = tar.next()? {
            let mut content = Vec::new();
            tar.read_to_end(&mut content).map_err(LoadError::Read)?;
            all.push((entry, content));
        }
        Ok(all)
    }

    fn sample(path: &str) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(3);
        builder.append_data(&mut header, path, &b"abc"[..]).unwrap();
        header.set_size(0);
        header.set_entry_type(EntryType::Symlink);
        builder.append_link(&mut header, "link", path).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn short_and_long_names_are_read() {
        for path in ["a/b".to_owned(), "d/".repeat(150) + "file"] {
            let file = Entry::File { path: path.clone(), size: 3 };
            let link = Entry::Symlink { path: "link".into(), target: path.clone() };
            assert_eq!(entries(&sample(&path)).unwrap(), [(file, b"abc".to_vec()), (link, vec![])]);
        }
    }

    #[test]
    fn pax_records_overrule_the_header() {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions([("path", &b"p/q"[..]), ("size", b"2")]).unwrap();
        let mut header = Header::new_ustar();
        header.set_size(0);
        header.set_path("short").unwrap();
        header.set_cksum();
        let mut bytes = builder.into_inner().unwrap();
        bytes.truncate(bytes.len() - 1024);
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(b"hi");
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        let file = Entry::File { path: "p/q".into(), size: 2 };
        assert_eq!(entries(&bytes).unwrap(), [(file, b"hi".to_vec())]);
    }

    #[test]
    fn a_tar_that_ends_too_early_is_damaged() {
        let whole = sample("file");
        for length in [1, 511, 513, 514, 1500] {
            assert!(entries(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_name_of_many_megabytes_is_refused_unread() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(u64::MAX >> 2);
        header.set_cksum();
        assert!(matches!(entries(header.as_bytes()), Err(LoadError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn damage_never_makes_the_reader_panic(at in 0_usize..1536, byte: u8, sum in any::<bool>()) {
            let mut bytes = sample("file");
            bytes[at] = byte;
            if sum && at < 512 {
                let right = checksum(&bytes[..512]);
                bytes[148..156].copy_from_slice(format!("{right:06o}\0 ").as_bytes());
            }
            let _ = entries(&bytes);
        }
    }
}
