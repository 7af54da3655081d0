//! A job: what is asked, how it is done by a reader, and what comes of it.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use confine::{LaunchError, Limits};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::program::{Descriptors, Reader, lock_in, program};
use crate::wire::{Frames, Output, read_line, say};

/// Bytes under way in either direction.
const PIPE: usize = 1 << 20;
const BUFFER: usize = 256 << 10;

/// A reader writes no files, and has room for the windows of decompressors.
const LIMITS: Limits = Limits { descriptors: 64, file_size: 0, address_space: 4 << 30, threads: 16 };

/// How long what feeds a reader that is gone has to notice. It may be waiting for a terminal, for ever.
const PATIENCE: Duration = Duration::from_millis(100);

/// Something that a reader does with foreign bytes: `R` is what it is asked, `F` how it can fail.
#[derive(Debug)]
pub struct Job<R, F> {
    /// The argument by which the program knows it.
    pub name: &'static str,
    /// What is done.
    pub work: fn(R, &mut Input, &mut Output) -> Result<(), F>,
}

/// Foreign bytes. They can be sought in if they are those of [`ask_of_file`].
pub type Input = BufReader<File>;

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<F: std::fmt::Debug> {
    /// The foreign bytes could not be had.
    #[error("failed to read")]
    Input(#[source] io::Error),
    /// The reader says so.
    #[error("cannot be read")]
    Failed(F),
    /// There is no reader.
    #[error("failed to start the process that reads it")]
    Start(#[source] Box<LaunchError>),
    /// It ended before it had done its work, or spoke nonsense.
    #[error("the process that reads it ended {0}")]
    Ended(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome<F> {
    Done,
    Failed(F),
}

/// What came of a job, and what it was fed with.
#[derive(Debug)]
pub struct Asked<T, I> {
    /// What came of it.
    pub taken: T,
    /// What it was fed with.
    pub fed: Fed<I>,
}

/// What a reader was fed with.
#[derive(Debug)]
pub struct Fed<I>(Feeding<I>);

#[derive(Debug)]
enum Feeding<I> {
    Goes(Receiver<(I, io::Result<()>)>),
    Over(I, io::Result<()>),
}

/// The items that a reader makes of its input; it reads as the content of the last.
pub struct Items(Frames);

enum Worker {
    Process(Reader),
    Thread(JoinHandle<io::Result<()>>),
}

impl<I> Fed<I> {
    /// The input, all of which was read.
    pub fn all(self) -> io::Result<I> {
        let (input, outcome) = match self.0 {
            Feeding::Over(input, outcome) => (input, outcome),
            Feeding::Goes(over) => over.recv().map_err(|_| io::Error::other("it was not read to its end"))?,
        };
        outcome.map(|()| input)
    }

    /// Waits a moment for its end: the reader is gone, and there are things to clear away.
    fn wait(self) -> Self {
        let Feeding::Goes(over) = self.0 else { return self };
        let ended = over.recv_timeout(PATIENCE);
        Self(ended.map_or(Feeding::Goes(over), |(input, outcome)| Feeding::Over(input, outcome)))
    }

    /// Whether the input could not be read. That nobody wanted all of it is no failure.
    fn failed(self) -> Result<Self, io::Error> {
        match self.0 {
            Feeding::Over(_, Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            other => Ok(Self(other)),
        }
    }
}

impl Items {
    /// The head of the next item; none after the last.
    pub fn next_item<H: DeserializeOwned>(&mut self) -> io::Result<Option<H>> {
        self.0.next()
    }
}

impl Read for Items {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

/// Has a reader do `job` with `input`, and `take` have what it makes of it, to the end. What `take` made counts only once
/// this returns.
///
/// It must be called on a thread that lives until it returns.
pub fn ask<R, F, I, T, E>(
    job: &'static Job<R, F>,
    request: &R,
    input: I,
    take: impl FnOnce(&mut Items) -> Result<T, E>,
) -> Result<Asked<T, I>, E>
where
    R: Serialize + DeserializeOwned,
    F: Serialize + DeserializeOwned + std::fmt::Debug + 'static,
    I: Read + Send + 'static,
    E: From<ReadError<F>>,
{
    let pipe = || {
        let (theirs, feed) = io::pipe()?;
        widen(&feed);
        Ok((theirs, feed))
    };
    let (theirs, feed) = pipe().map_err(|error: io::Error| ReadError::Start(Box::new(error.into())))?;
    let begun = begin(job, request, theirs.into())?;
    let feeding = pump(input, feed);
    let over = || feeding.wait().failed();
    begun.conclude(take, over).map(|(taken, fed)| Asked { taken, fed })
}

/// The same for a file, which the reader reads itself, through a descriptor of it: so it must be open for nothing else. Its
/// position becomes the reader's.
pub fn ask_of_file<R, F, T, E>(
    job: &'static Job<R, F>,
    request: &R,
    file: &File,
    take: impl FnOnce(&mut Items) -> Result<T, E>,
) -> Result<T, E>
where
    R: Serialize + DeserializeOwned,
    F: Serialize + DeserializeOwned + std::fmt::Debug + 'static,
    E: From<ReadError<F>>,
{
    let theirs = file.try_clone().map_err(ReadError::Input)?;
    begin(job, request, theirs.into())?.conclude(take, || Ok(())).map(|(taken, ())| taken)
}

/// A reader that was asked.
struct Begun {
    worker: Worker,
    control: UnixStream,
    items: Items,
}

fn begin<R, F>(job: &'static Job<R, F>, request: &R, input: OwnedFd) -> Result<Begun, ReadError<F>>
where
    R: Serialize + DeserializeOwned,
    F: Serialize + std::fmt::Debug + 'static,
{
    let made = || -> io::Result<_> { Ok((UnixStream::pair()?, io::pipe()?)) };
    let failed = |error: LaunchError| ReadError::Start(Box::new(error));
    let ((control, theirs), (items, output)) = made().map_err(|error| failed(error.into()))?;
    widen(&output);
    let theirs = Descriptors { control: OwnedFd::from(theirs), output: output.into(), input };
    let worker = match program() {
        Some(program) => Worker::Process(program.launch(job.name, theirs, LIMITS).map_err(failed)?),
        None => Worker::Thread(std::thread::spawn(move || work(job, theirs.into_files(), || Ok(())))),
    };
    // One that is gone is heard of later.
    let _ = say(&control, request);
    Ok(Begun { worker, control, items: Items(Frames::new(OwnedFd::from(items).into())) })
}

/// A smaller pipe is slower, and nothing else.
fn widen(pipe: &io::PipeWriter) {
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE);
}

impl Begun {
    /// Takes what comes, and hears how it went; `over` tells of the input, once nobody reads it any more.
    fn conclude<F, T, U, E>(
        self,
        take: impl FnOnce(&mut Items) -> Result<T, E>,
        over: impl FnOnce() -> io::Result<U>,
    ) -> Result<(T, U), E>
    where
        F: DeserializeOwned + std::fmt::Debug,
        E: From<ReadError<F>>,
    {
        let Self { mut worker, control, mut items } = self;
        let taken = take(&mut items);
        let (all_came, broken) = (items.0.have_ended(), items.0.are_broken());
        if !items.0.have_stopped() {
            // Whoever takes has had enough; or it talks nonsense, and may never come to an outcome.
            worker.end();
        }
        drop(items);
        let taken = match taken {
            Err(error) if !broken => {
                let _ = over();
                return Err(error);
            }
            taken => taken,
        };
        let outcome: io::Result<Outcome<F>> = read_line(&mut BufReader::new(&control));
        worker.end();
        // What could not be read here says more than what became of that there.
        let over = over().map_err(ReadError::Input)?;
        match (outcome, taken) {
            (Ok(Outcome::Done), Ok(taken)) if all_came => Ok((taken, over)),
            (Ok(Outcome::Failed(failure)), _) => Err(ReadError::Failed(failure).into()),
            _ => Err(ReadError::Ended(worker.last_words()).into()),
        }
    }
}

impl Descriptors<OwnedFd> {
    fn into_files(self) -> Descriptors<File> {
        Descriptors { control: self.control.into(), output: self.output.into(), input: self.input.into() }
    }
}

/// Feeds a reader, and gives the input back when it has read all of it or reads no more.
fn pump<I: Read + Send + 'static>(mut input: I, mut pipe: impl Write + Send + 'static) -> Fed<I> {
    let (back, fed) = channel();
    std::thread::spawn(move || {
        let outcome = copy(&mut input, &mut pipe);
        // It is sent before the reader hears of the end, so it is there when the reader has ended.
        let _ = back.send((input, outcome));
        drop(pipe);
    });
    Fed(Feeding::Goes(fed))
}

fn copy(input: &mut impl Read, pipe: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => pipe.write_all(&buffer[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Worker {
    /// Nothing more is wanted of it.
    fn end(&mut self) {
        if let Self::Process(reader) = self {
            reader.kill();
        }
    }

    fn last_words(self) -> String {
        match self {
            Self::Process(mut reader) => reader.last_words(),
            Self::Thread(thread) => match thread.join() {
                Ok(outcome) => outcome.err().map_or_else(String::new, |error| error.to_string()),
                Err(panic) => std::panic::resume_unwind(panic),
            },
        }
    }
}

/// The reader's side: does `job` for whoever started this process. It is for a process that was started for that, in which
/// nothing else runs.
///
/// # Errors
///
/// Where the process was not started so, or cannot be locked in.
pub fn serve<R, F>(job: &Job<R, F>) -> io::Result<()>
where
    R: DeserializeOwned,
    F: Serialize,
{
    work(job, Descriptors::inherited(), lock_in)
}

/// Locks itself in before the first foreign byte, and says once how it went.
fn work<R, F>(
    job: &Job<R, F>,
    descriptors: Descriptors<File>,
    lock_in: impl FnOnce() -> io::Result<()>,
) -> io::Result<()>
where
    R: DeserializeOwned,
    F: Serialize,
{
    let Descriptors { control, output, input } = descriptors;
    let request = read_line(&mut BufReader::new(&control))?;
    lock_in()?;
    let mut output = Output::new(output);
    let mut input = BufReader::with_capacity(BUFFER, input);
    let outcome = match (job.work)(request, &mut input, &mut output) {
        Ok(()) => Outcome::Done,
        Err(failure) => Outcome::Failed(failure),
    };
    drop(output);
    say(&control, &outcome)
}
