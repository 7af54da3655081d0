//! Streams between the thread that reads or writes files and the task that speaks to the guest.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as blocking;

use proto::{MAX_DATA, OutputStream};
use tokio::sync::mpsc;
use transfer::{Receiving, Sending};

use crate::agent::ProcessHandle;

/// What a process wrote, to be read by a thread. Credit goes back as it is read, which bounds what waits.
pub(crate) struct Chunks {
    waiting: blocking::Receiver<Vec<u8>>,
    current: Vec<u8>,
    read: usize,
    process: ProcessHandle,
}

impl Chunks {
    pub(super) fn new(process: ProcessHandle) -> (blocking::Sender<Vec<u8>>, Self) {
        let (sender, waiting) = blocking::channel();
        (sender, Self { waiting, current: Vec::new(), read: 0, process })
    }
}

/// All that comes from a process that packs.
pub(crate) struct Incoming {
    pub(crate) chunks: Chunks,
    /// Where what is large comes.
    pub(crate) exchange: Option<Receiving>,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.current.len() {
            let Ok(next) = self.waiting.recv() else { return Ok(0) };
            // What is being read counts as read: at most a window more is on the way.
            self.process.credit(OutputStream::Stdout, next.len());
            (self.current, self.read) = (next, 0);
        }
        let length = buffer.len().min(self.current.len() - self.read);
        buffer[..length].copy_from_slice(&self.current[self.read..self.read + length]);
        self.read += length;
        Ok(length)
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        // Whoever still writes learns that nobody reads.
        self.process.close_output(OutputStream::Stdout);
    }
}

/// What a thread writes, for a process's input.
pub(super) struct Outlet<P> {
    chunks: mpsc::Sender<Vec<u8>>,
    written: u64,
    /// What does not come this way.
    exchanged: Option<Arc<AtomicU64>>,
    progress: P,
}

impl<P: FnMut(u64)> Outlet<P> {
    pub(super) fn new(progress: P, exchange: Option<&Sending>) -> (Self, mpsc::Receiver<Vec<u8>>) {
        let (sender, chunks) = mpsc::channel(2);
        let exchanged = exchange.map(Sending::sent);
        (Self { chunks: sender, written: 0, exchanged, progress }, chunks)
    }
}

impl<P: FnMut(u64)> Write for Outlet<P> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = bytes[..bytes.len().min(MAX_DATA)].to_vec();
        let length = chunk.len();
        self.chunks.blocking_send(chunk).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.written += length as u64;
        let exchanged = self.exchanged.as_ref().map_or(0, |bytes| bytes.load(Ordering::Relaxed));
        (self.progress)(self.written + exchanged);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
