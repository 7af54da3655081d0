//! Conversion in a process that may do nothing else.
//!
//! Layers are the largest thing here that strangers wrote, and go through decompressors that are not all Rust. So they are
//! read by this very program, started again, under all that confines QEMU and less: it opens no file, starts nothing and
//! speaks to nobody. Whoever takes it over has the bytes that came in, and can choose those that go out.
//!
//! ```text
//!  blobs ──read──▶ here ──pipe──▶ the reader ──▶ the EROFS file, an open descriptor
//!                    └─ request, layers ▶ │
//!                    ◀── progress, outcome: a line of JSON each
//! ```
//!
//! [`reader`] says how it is started. In a program that has none, as the tests of libraries, layers are read here.

mod serve;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use home::Limit;
use reader::{Descriptors, LONGEST_LINE, Program, Reader, say};
use serde::{Deserialize, Serialize};

use crate::convert::{Layers, Meaning};
use crate::layer::open_blob;
use crate::{ConvertError, Converted, LayerBlob, LayerError, Limits};
pub use serve::read_layers;

/// The job that this is.
pub const READ_LAYERS: &str = "layers";

/// Addresses beside those for names and entries, of which there may be as many as [`Limits`] say.
const ADDRESS_SPACE: u64 = 4 << 30;
const ADDRESSES_BY_ENTRY: u64 = 1 << 10;

/// Metadata behind the data of an image.
const ROOM_FOR_METADATA: u64 = 16 << 30;

/// Bytes under way to the reader.
const PIPE: usize = 1 << 20;

/// What became of a conversion elsewhere, in its words.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Told {
    message: String,
    source: Option<Box<Told>>,
    /// The limit that was passed, if that is why.
    limit: Option<Limit>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    meaning: Meaning,
    limits: Limits,
    /// How many layers will come, a line for each, with its bytes through the pipe.
    expected: usize,
}

/// A layer whose bytes follow.
#[derive(Debug, Serialize, Deserialize)]
struct Announced {
    digest: [u8; 32],
    diff_id: [u8; 32],
    size: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// Bytes of blobs read so far.
    Progress(u64),
    Done(Converted),
    /// A layer, by its digest, or something else failed.
    Failed(Option<String>, Told),
}

impl Told {
    pub(crate) fn of(error: &dyn std::error::Error) -> Self {
        let source = error.source().map(|source| Box::new(Self::of(source)));
        Self { message: error.to_string(), source, limit: None }
    }

    fn because_of(self, limit: Option<Limit>) -> Self {
        Self { limit, ..self }
    }

    /// The limit that was passed, if that is why.
    pub fn limit(&self) -> Option<Limit> {
        self.limit
    }
}

/// The same as a conversion in this process.
pub(crate) fn convert(
    program: &Program,
    layers: Layers<impl Iterator<Item = LayerBlob> + Send>,
    meaning: Meaning,
    output: &File,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<Converted, ConvertError> {
    let failed = |error: &dyn std::error::Error| ConvertError::Told(Told::of(error));
    let (ours, theirs) = UnixStream::pair().map_err(|error| failed(&error))?;
    let (input, feed) = io::pipe().map_err(|error| failed(&error))?;
    // A smaller pipe is slower, and nothing else.
    let _ = rustix::pipe::fcntl_setpipe_size(&feed, PIPE);
    let output = output.try_clone().map_err(|error| failed(&error))?;
    let theirs = Descriptors { control: theirs.into(), output: output.into(), input: input.into() };
    let may_use = confine::Limits {
        descriptors: 64,
        file_size: limits.max_image_bytes + ROOM_FOR_METADATA,
        address_space: ADDRESS_SPACE
            + 4 * limits.max_metadata_bytes
            + ADDRESSES_BY_ENTRY * limits.max_entries,
        threads: 16,
    };
    let mut reader = program.launch(READ_LAYERS, theirs, may_use).map_err(|error| failed(&error))?;
    let Layers { expected, arriving } = layers;
    // One that is gone is heard of below.
    let _ = say(&ours, &Request { meaning, limits: *limits, expected });
    std::thread::scope(|scope| {
        let feeding = scope.spawn(|| send(arriving, &ours, feed));
        let outcome = hear(&ours, progress);
        // A reader that has answered needs no more, and one that has not is gone.
        reader.kill();
        match feeding.join().expect("feeding does not panic") {
            // What could not be read here says more than that it did not arrive.
            Err(error) if !matches!(outcome, Ok(Some(Ok(_)))) => Err(error),
            _ => match outcome {
                Ok(Some(outcome)) => outcome,
                Ok(None) => Err(ended(&mut reader)),
                Err(error) => Err(failed(&error)),
            },
        }
    })
}

/// Hands over the blobs, one after the other, until all are sent or nobody reads them.
fn send(
    arriving: impl Iterator<Item = LayerBlob>,
    control: &UnixStream,
    mut feed: impl Write,
) -> Result<(), ConvertError> {
    let mut buffer = vec![0; PIPE];
    for layer in arriving {
        let layer_error = |source| ConvertError::of_layer(&layer.digest, source);
        let mut blob = open_blob(&layer).map_err(layer_error)?;
        let LayerBlob { digest, diff_id, size, .. } = layer;
        if say(control, &Announced { digest, diff_id, size }).is_err() {
            return Ok(());
        }
        loop {
            let length = match blob.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(layer_error(layer.unreadable(source)));
                }
            };
            if feed.write_all(&buffer[..length]).is_err() {
                return Ok(());
            }
        }
    }
    // A reader that waits for another layer hears that there is none.
    let _ = control.shutdown(Shutdown::Write);
    Ok(())
}

/// Hears the answers; none if the reader went away.
fn hear(
    control: &UnixStream,
    progress: &mut dyn FnMut(u64),
) -> io::Result<Option<Result<Converted, ConvertError>>> {
    let mut lines = BufReader::new(control);
    loop {
        let mut line = Vec::new();
        match (&mut lines).take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(0) => return Ok(None),
            // It went away before it read all that it was told.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            outcome => outcome?,
        };
        match serde_json::from_slice(&line)? {
            Answer::Progress(bytes) => progress(bytes),
            Answer::Done(converted) => return Ok(Some(Ok(converted))),
            Answer::Failed(None, told) => return Ok(Some(Err(ConvertError::Told(told)))),
            Answer::Failed(Some(digest), told) => {
                return Ok(Some(Err(ConvertError::Layer { digest, source: LayerError::Told(told) })));
            }
        }
    }
}

/// Why a reader ended that was not asked to.
fn ended(reader: &mut Reader) -> ConvertError {
    let message = format!("the process that reads layers ended {}", reader.last_words());
    ConvertError::Told(Told { message, source: None, limit: None })
}
