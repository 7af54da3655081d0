//! Standard streams between a process in the guest and whoever runs it.
//!
//! Each direction has a thread of its own, since reading and writing a terminal, a pipe or a file may block
//! for any time, and one that blocks must not hold up another. Credit goes back to the guest only when data
//! was written, so what is on the way is bounded.

use std::io::{Read, Write};
use std::sync::mpsc as blocking;

use proto::{MAX_DATA, OutputStream};
use tokio::sync::{mpsc, oneshot};

use crate::agent::ProcessHandle;

/// Where a process's streams lead.
pub struct Streams {
    /// Its input.
    pub input: Input,
    /// Its standard output, or its terminal's.
    pub stdout: Box<dyn Write + Send>,
    /// Its standard error.
    pub stderr: Box<dyn Write + Send>,
}

/// What a process reads.
pub enum Input {
    /// Nothing.
    None,
    /// Bytes until they end.
    Stream(Box<dyn Read + Send>),
}

/// Feeds `source` to the process until one of them ends. The reading thread ends with its next read.
pub(crate) fn feed(mut source: Box<dyn Read + Send>, process: ProcessHandle) {
    let (sender, mut chunks) = mpsc::channel::<Vec<u8>>(2);
    std::thread::spawn(move || {
        let mut buffer = vec![0; MAX_DATA];
        loop {
            let length = match source.read(&mut buffer) {
                // An input that cannot be read has ended.
                Ok(0) => return,
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            if sender.blocking_send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some(chunk) = chunks.recv().await {
            process.input(&chunk).await;
        }
        process.end_input();
    });
}

/// Writes what the process writes.
pub(crate) struct Sink {
    chunks: blocking::Sender<Vec<u8>>,
    finished: oneshot::Receiver<()>,
}

impl Sink {
    pub(crate) fn new(target: Box<dyn Write + Send>, stream: OutputStream, process: ProcessHandle) -> Self {
        let (sender, chunks) = blocking::channel();
        let (finish, finished) = oneshot::channel();
        std::thread::spawn(move || {
            write_all(target, stream, &process, &chunks);
            // Whoever waits may have gone.
            let _ = finish.send(());
        });
        Self { chunks: sender, finished }
    }

    /// Takes the next chunk. Never blocks: the process's credit bounds what piles up.
    pub(crate) fn push(&self, chunk: Vec<u8>) {
        // The thread ends only with this value.
        let _ = self.chunks.send(chunk);
    }

    /// Waits until everything is written.
    pub(crate) async fn finish(self) {
        drop(self.chunks);
        let _ = self.finished.await;
    }
}

fn write_all(
    mut target: Box<dyn Write + Send>,
    stream: OutputStream,
    process: &ProcessHandle,
    chunks: &blocking::Receiver<Vec<u8>>,
) {
    let mut broken = false;
    for chunk in chunks {
        if !broken && target.write_all(&chunk).and_then(|()| target.flush()).is_err() {
            // The reader is gone: so is the process's, which then gets its SIGPIPE.
            broken = true;
            process.close_output(stream);
        }
        process.credit(stream, chunk.len());
    }
}
