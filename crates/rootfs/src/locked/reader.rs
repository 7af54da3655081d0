//! The reader's side: it locks itself in before the first foreign byte, and answers once.
#![allow(unsafe_code, reason = "descriptors that were inherited are only known by number")]

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{FromRawFd, RawFd};

use confine::{Files, Filter};

use serde::de::DeserializeOwned;

use super::{Announced, Answer, CONTROL, INPUT, LONGEST_LINE, OUTPUT, Request, Told, say};
use crate::convert::{Layers, read_and_write};
use crate::{ConvertError, Converted, LayerBlob};

/// Reads the layers that whoever started this process sends, and converts them. It is for a process that was started
/// for that, in which nothing else runs.
///
/// # Errors
///
/// Where the process was not started so, or cannot be locked in.
pub fn read_layers() -> io::Result<()> {
    // SAFETY: whoever starts a reader has these open, nothing in this process has them yet, and where they are not open
    // each use fails.
    let [control, output, input] =
        [CONTROL, OUTPUT, INPUT].map(|number: RawFd| unsafe { File::from_raw_fd(number) });
    let mut lines = BufReader::new(control.try_clone()?);
    let request: Request = read_line(&mut lines)?;
    lock_in()?;
    let answer = match convert(&request, lines, &output, &input, &control) {
        Ok(converted) => Answer::Done(converted),
        Err(ConvertError::Layer { digest, source }) => {
            Answer::Failed(Some(digest), Told::of(&source).because_of(source.limit()))
        }
        Err(error) => Answer::Failed(None, Told::of(&error).because_of(error.limit())),
    };
    say(&control, &answer)
}

fn read_line<T: DeserializeOwned>(lines: &mut impl BufRead) -> io::Result<T> {
    let mut line = Vec::new();
    lines.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}

/// From here on this process works on what it has open, with threads, and nothing else.
pub fn lock_in() -> io::Result<()> {
    confine::no_new_privileges()?;
    if confine::landlock_version().is_some() {
        confine::restrict_files(&Files::default())?;
    }
    Filter::for_readers().install()
}

fn convert(
    request: &Request,
    mut lines: impl BufRead + Send,
    output: &File,
    input: &File,
    control: &File,
) -> Result<Converted, ConvertError> {
    // No further line is no further layer.
    let next = || read_line::<Announced>(&mut lines).ok();
    let arriving = std::iter::from_fn(next).map(|Announced { digest, diff_id, size }| LayerBlob {
        path: "the layer".into(),
        digest,
        diff_id,
        size,
    });
    let layers = Layers { expected: request.expected, arriving: arriving.take(request.expected) };
    let open = |layer: &LayerBlob| {
        let rest = input.try_clone().map_err(|source| layer.unreadable(source))?;
        Ok(Box::new(rest.take(layer.size)) as Box<dyn Read + Send>)
    };
    // Nobody hears it where it cannot be said.
    let progress = &mut |bytes| drop(say(control, &Answer::Progress(bytes)));
    read_and_write(layers, request.meaning, output, &request.limits, progress, &open)
}
