//! The bytes between a reader and whoever asked it: lines on the socket, frames on the pipe.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Of either side, in bytes: an error with a path in it.
pub const LONGEST_LINE: u64 = 1 << 20;

/// Of a head, in bytes: two paths, with each of their bytes escaped.
const LONGEST_HEAD: usize = 64 << 10;
/// Of a piece of content, in bytes.
const LONGEST_PIECE: usize = 1 << 20;
/// Bytes that are read before they are sent on.
const PIECE: usize = 256 << 10;

/// Writes `what` as a line.
pub fn say(mut to: impl Write, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// Reads a line.
pub fn read_line<T: DeserializeOwned>(lines: &mut impl BufRead) -> io::Result<T> {
    let mut line = Vec::new();
    lines.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}

/// Items on their way out.
#[derive(Debug)]
pub struct Output {
    frames: BufWriter<File>,
    buffer: Vec<u8>,
}

impl Output {
    pub(crate) fn new(pipe: File) -> Self {
        Self { frames: BufWriter::with_capacity(64 << 10, pipe), buffer: vec![0; PIECE] }
    }

    /// An item of all that `content` gives. What fails is the reading, since whoever writes to nobody is not heard.
    pub fn item(&mut self, head: &impl Serialize, content: &mut dyn Read) -> io::Result<()> {
        self.frame(&serde_json::to_vec(head)?)?;
        loop {
            let mut buffer = std::mem::take(&mut self.buffer);
            let read = content.read(&mut buffer);
            let sent = match &read {
                Ok(length) => self.frame(&buffer[..*length]),
                Err(_) => Ok(()),
            };
            self.buffer = buffer;
            sent?;
            match read {
                // Whoever waits for the item is not to wait for the next.
                Ok(0) => return self.frames.flush(),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }

    fn frame(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.frames.write_all(&length.to_le_bytes())?;
        self.frames.write_all(bytes)
    }
}

/// Items as they come.
pub(crate) struct Frames {
    pipe: BufReader<File>,
    /// Of the piece that is being read.
    left: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A head comes, or the end.
    Between,
    /// The content of an item.
    Content,
    /// All has come.
    Ended,
    /// It ended in the middle.
    Cut,
    /// What came makes no sense.
    Broken,
}

impl Frames {
    pub(crate) fn new(pipe: File) -> Self {
        Self { pipe: BufReader::with_capacity(64 << 10, pipe), left: 0, state: State::Between }
    }

    pub(crate) fn are_broken(&self) -> bool {
        matches!(self.state, State::Cut | State::Broken)
    }

    /// Whether nothing more comes.
    pub(crate) fn have_stopped(&self) -> bool {
        matches!(self.state, State::Ended | State::Cut)
    }

    pub(crate) fn have_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// The next head, after what is left of the content before.
    pub(crate) fn next<H: DeserializeOwned>(&mut self) -> io::Result<Option<H>> {
        if self.state == State::Content {
            io::copy(self, &mut io::sink())?;
        }
        if self.state == State::Between && self.pipe.fill_buf().is_ok_and(<[u8]>::is_empty) {
            self.state = State::Ended;
        }
        if self.state == State::Ended {
            return Ok(None);
        }
        if self.are_broken() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let head = self.length(LONGEST_HEAD).and_then(|length| {
            let mut head = vec![0; length];
            self.pipe.read_exact(&mut head)?;
            serde_json::from_slice(&head).map_err(|_| io::ErrorKind::InvalidData.into())
        });
        self.unless_broken(head, State::Content).map(Some)
    }

    fn length(&mut self, longest: usize) -> io::Result<usize> {
        let mut length = [0; 4];
        self.pipe.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > longest { Err(io::ErrorKind::InvalidData.into()) } else { Ok(length) }
    }

    fn unless_broken<T>(&mut self, outcome: io::Result<T>, state: State) -> io::Result<T> {
        self.state = match &outcome {
            Ok(_) => state,
            // It is asked again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.state,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => State::Cut,
            Err(_) => State::Broken,
        };
        outcome
    }
}

/// The content of the item whose head came last.
impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.are_broken() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if self.state != State::Content || buffer.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            let length = self.length(LONGEST_PIECE);
            self.left = self.unless_broken(length, State::Content)?;
            if self.left == 0 {
                self.state = State::Between;
                return Ok(0);
            }
        }
        let wanted = self.left.min(buffer.len());
        let read = match self.pipe.read(&mut buffer[..wanted]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            other => other,
        };
        let read = self.unless_broken(read, State::Content)?;
        self.left -= read;
        Ok(read)
    }
}
