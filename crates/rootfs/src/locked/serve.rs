//! The reader's side: it locks itself in before the first foreign byte, and answers once.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use reader::{Descriptors, lock_in, read_line, say};

use super::{Announced, Answer, Request, Told};
use crate::convert::{Layers, read_and_write};
use crate::{ConvertError, Converted, LayerBlob};

/// Reads the layers that whoever started this process sends, and converts them. It is for a process that was started
/// for that, in which nothing else runs.
///
/// # Errors
///
/// Where the process was not started so, or cannot be locked in.
pub fn read_layers() -> io::Result<()> {
    let Descriptors { control, output, input } = Descriptors::inherited();
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
