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
//! The program says at its start how its reader is started ([`read_layers_in`]). One that does not, as the tests of
//! libraries, reads layers itself.

mod reader;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::OnceLock;

use confine::{Demand, Files, Filter, Launch};
use home::Limit;
use serde::{Deserialize, Serialize};

use crate::convert::{Layers, Meaning};
use crate::layer::open_blob;
use crate::{ConvertError, Converted, LayerBlob, LayerError, Limits};
pub use reader::{lock_in, read_layers};

/// What the reader finds open.
const CONTROL: i32 = 3;
const OUTPUT: i32 = 4;
const INPUT: i32 = 5;

/// What the linker needs to start it. Once it runs, it opens nothing any more.
const LIBRARIES: &[&str] = &["/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1", "/etc/ld.so.cache"];
const LIBRARY_DIRECTORIES: &[&str] =
    &["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/nix/store", "/gnu/store"];

/// Addresses beside those for names and entries, of which there may be as many as [`Limits`] say.
const ADDRESS_SPACE: u64 = 4 << 30;
const ADDRESSES_BY_ENTRY: u64 = 1 << 10;

/// Metadata behind the data of an image.
const ROOM_FOR_METADATA: u64 = 16 << 30;

/// Bytes under way to the reader.
const PIPE: usize = 1 << 20;

/// The longest line of either side: an error with a path in it.
const LONGEST_LINE: u64 = 1 << 20;

/// How this program is started as a reader of layers.
#[derive(Debug)]
pub struct ReaderProgram {
    /// Its file.
    pub program: PathBuf,
    /// The arguments that have it call [`read_layers`].
    pub arguments: Vec<OsString>,
}

static READER: OnceLock<ReaderProgram> = OnceLock::new();

/// From now on layers are read by `reader`. The first to say so counts.
pub fn read_layers_in(reader: ReaderProgram) {
    let _ = READER.set(reader);
}

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

/// The program that reads layers, if there is one.
pub(crate) fn reader() -> Option<&'static ReaderProgram> {
    READER.get()
}

/// The same as a conversion in this process.
pub(crate) fn convert(
    reader: &ReaderProgram,
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
    let descriptors = vec![(CONTROL, theirs.into()), (OUTPUT, output.into()), (INPUT, input.into())];
    let launch = Launch {
        program: reader.program.clone(),
        arguments: reader.arguments.clone(),
        descriptors,
        files: files(reader),
        limits: confine::Limits {
            descriptors: 64,
            file_size: limits.max_image_bytes + ROOM_FOR_METADATA,
            address_space: ADDRESS_SPACE
                + 4 * limits.max_metadata_bytes
                + ADDRESSES_BY_ENTRY * limits.max_entries,
            threads: 16,
        },
        share: None,
        filter: Filter::for_guests(),
        demand: Demand::WhatThereIs,
        left_out: Vec::new(),
    };
    let (mut child, stderr, _) = launch.launch().map_err(|error| failed(&error))?;
    let Layers { expected, arriving } = layers;
    // One that is gone is heard of below.
    let _ = say(&ours, &Request { meaning, limits: *limits, expected });
    std::thread::scope(|scope| {
        let feeding = scope.spawn(|| send(arriving, &ours, feed));
        let outcome = hear(&ours, progress);
        // A reader that has answered needs no more, and one that has not is gone.
        child.kill();
        match feeding.join().expect("feeding does not panic") {
            // What could not be read here says more than that it did not arrive.
            Err(error) if !matches!(outcome, Ok(Some(Ok(_)))) => Err(error),
            _ => match outcome {
                Ok(Some(outcome)) => outcome,
                Ok(None) => Err(ended(&mut child, stderr)),
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

fn say(mut to: impl Write, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    to.write_all(&line)
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
fn ended(child: &mut confine::Child, stderr: File) -> ConvertError {
    let mut said = Vec::new();
    let _ = stderr.take(4096).read_to_end(&mut said);
    let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
    let said = String::from_utf8_lossy(&said);
    let printable: String =
        said.lines().last().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let message = format!("the process that reads layers ended ({status}) {printable}");
    ConvertError::Told(Told { message: message.trim_end().to_owned(), source: None, limit: None })
}

fn files(reader: &ReaderProgram) -> Files {
    let mut files = Files::default();
    files.run(&reader.program);
    for path in LIBRARIES {
        files.run(path);
    }
    for path in LIBRARY_DIRECTORIES {
        files.read(path);
    }
    files
}
