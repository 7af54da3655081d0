//! What is done with foreign bytes by a reader: taking an archive of images apart, and unpacking.

use std::io::{self, BufRead, BufReader, Read, Seek};

use reader::{Input, Job, Output, ReadError};
use serde::{Deserialize, Serialize};

use super::LoadError;
use super::tar_entries::{Entry, TarEntries};
use crate::manifest::Compression;
use crate::store::IngestError;
use crate::{MakeError, StoreError};

const BUFFER: usize = 128 << 10;

/// Takes a tar apart, compressed or not: its entries, but those that are nothing in an image archive.
pub static READ_ARCHIVE: Job<Whence, Unreadable> = Job { name: "archive", work: read_archive };

/// Unpacks what is compressed, to one item, and reads what follows to its end.
pub static UNPACK: Job<(), Unreadable> = Job { name: "packed", work: unpack };

/// Where an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whence {
    /// It comes once, front to back.
    Stream,
    /// In a file, in which whoever asked can read too.
    File,
}

/// An entry of an archive.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) entry: Entry,
    /// Where in the file its content is; it follows if absent.
    pub(super) at: Option<u64>,
}

/// Why foreign bytes could not be read, in the words of who read them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unreadable {
    /// They could not be read to their end, or not be decompressed.
    Read(String),
    /// They break the rules of their format.
    Damaged(String),
    /// Something in them is larger than in any honest archive.
    TooLarge {
        /// What.
        what: String,
        /// How much is acceptable.
        limit: u64,
    },
}

fn read_archive(whence: Whence, input: &mut Input, output: &mut Output) -> Result<(), Unreadable> {
    if whence == Whence::File && Compression::of_magic(input.fill_buf()?) == Compression::None {
        return tell_places(input, output);
    }
    let mut input = decompressed(input)?;
    let mut tar = TarEntries::new(&mut *input);
    while let Some(entry) = tar.next()? {
        if entry != Entry::Other {
            output.item(&Told { entry, at: None }, &mut tar)?;
        }
    }
    Ok(())
}

/// Of a file that is not compressed, whoever asked can read the content where it is.
fn tell_places(input: &mut Input, output: &mut Output) -> Result<(), Unreadable> {
    let mut tar = TarEntries::new(input);
    while let Some(entry) = tar.next()? {
        if entry != Entry::Other {
            let at = Some(tar.input().stream_position()?);
            output.item(&Told { entry, at }, &mut io::empty())?;
        }
    }
    Ok(())
}

fn unpack((): (), input: &mut Input, output: &mut Output) -> Result<(), Unreadable> {
    output.item(&(), &mut *decompressed(&mut *input)?)?;
    // What is behind the end is part of the blob.
    io::copy(input, &mut io::sink())?;
    Ok(())
}

fn decompressed<'a>(mut packed: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut first = Vec::new();
    packed.by_ref().take(4).read_to_end(&mut first)?;
    let compression = Compression::of_magic(&first);
    let whole = BufReader::with_capacity(BUFFER, io::Cursor::new(first).chain(packed));
    Ok(match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
    })
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Read(error.to_string())
    }
}

impl From<LoadError> for Unreadable {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Damaged(what) => Self::Damaged(what.into_owned()),
            LoadError::TooLarge { what, limit } => Self::TooLarge { what: what.into_owned(), limit },
            LoadError::Read(error) => error.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<ReadError<Unreadable>> for LoadError {
    fn from(error: ReadError<Unreadable>) -> Self {
        match error {
            ReadError::Input(error) => Self::Read(error),
            ReadError::Failed(Unreadable::Read(said)) => Self::Read(io::Error::other(printable(&said))),
            ReadError::Failed(Unreadable::Damaged(what)) => Self::Damaged(printable(&what).into()),
            ReadError::Failed(Unreadable::TooLarge { what, limit }) => {
                Self::TooLarge { what: printable(&what).into(), limit }
            }
            other => Self::Read(io::Error::other(other)),
        }
    }
}

impl From<ReadError<Unreadable>> for MakeError {
    fn from(error: ReadError<Unreadable>) -> Self {
        let read = |error| Self::Ingest(IngestError::Read(error));
        match error {
            // What failed to be written on the way is no fault of what is read.
            ReadError::Input(error) => match error.downcast::<StoreError>() {
                Ok(error) => error.into(),
                Err(error) => read(error),
            },
            ReadError::Failed(Unreadable::Read(said) | Unreadable::Damaged(said)) => {
                read(io::Error::other(printable(&said)))
            }
            ReadError::Failed(Unreadable::TooLarge { limit, .. }) => Self::TooLarge { limit },
            other => read(io::Error::other(other)),
        }
    }
}

/// The words of a reader that may have been taken over, for a terminal.
fn printable(said: &str) -> String {
    said.chars().filter(|c| !c.is_control()).take(1024).collect()
}
