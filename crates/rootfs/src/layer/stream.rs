//! One archive as it comes from the reading thread, hashed, and counted against the limit of all.

use std::sync::mpsc::{Receiver, Sender};

use sha2::{Digest, Sha256};

use super::LayerError;
use super::inflate::Message;
use crate::chain::hex;

/// Both ends of the way to the reading thread, and what all layers share.
pub(crate) struct Feed<'p> {
    pub(crate) messages: Receiver<Message>,
    pub(crate) spare: Sender<Vec<u8>>,
    pub(crate) progress: &'p mut dyn FnMut(u64),
    /// Bytes of archives received so far, and how many there may be.
    pub(crate) received: u64,
    pub(crate) limit: u64,
}

impl Feed<'_> {
    /// The digest and the diff ID of the layer whose archive follows; none if there are no more.
    pub(crate) fn next_layer(&mut self) -> Option<([u8; 32], [u8; 32])> {
        match self.messages.recv() {
            Ok(Message::Layer { digest, diff_id }) => Some((digest, diff_id)),
            _ => None,
        }
    }
}

/// An archive that is being read.
pub(crate) struct Stream<'f, 'p> {
    feed: &'f mut Feed<'p>,
    current: Vec<u8>,
    at: usize,
    hash: Sha256,
    has_ended: bool,
}

impl<'f, 'p> Stream<'f, 'p> {
    pub(crate) fn new(feed: &'f mut Feed<'p>) -> Self {
        Self { feed, current: Vec::new(), at: 0, hash: Sha256::new(), has_ended: false }
    }

    /// Bytes that are there to be consumed; none at the end of the archive.
    pub(crate) fn available(&mut self) -> Result<&[u8], LayerError> {
        while self.at == self.current.len() && !self.has_ended {
            self.receive()?;
        }
        Ok(&self.current[self.at..])
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.at += count;
        debug_assert!(self.at <= self.current.len(), "consumed what was available");
    }

    /// Hands the next `length` bytes to `sink`, in pieces as they come.
    pub(crate) fn pass<E: From<LayerError>>(
        &mut self,
        mut length: u64,
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while length > 0 {
            let available = self.available()?;
            if available.is_empty() {
                return Err(LayerError::Truncated.into());
            }
            let count = available.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            sink(&available[..count])?;
            self.consume(count);
            length -= count as u64;
        }
        Ok(())
    }

    /// Reads the next `length` bytes, which the caller has bounded.
    pub(crate) fn read(&mut self, length: usize) -> Result<Vec<u8>, LayerError> {
        let mut bytes = Vec::with_capacity(length);
        self.pass(length as u64, |piece| {
            bytes.extend_from_slice(piece);
            Ok::<_, LayerError>(())
        })?;
        Ok(bytes)
    }

    pub(crate) fn skip(&mut self, length: u64) -> Result<(), LayerError> {
        self.pass(length, |_| Ok(()))
    }

    /// Reads what is behind the archive's end, and checks that all of it hashes to `diff_id`, if that is known.
    pub(crate) fn finish(mut self, diff_id: Option<&[u8; 32]>) -> Result<(), LayerError> {
        while !self.has_ended {
            self.receive()?;
        }
        let Some(expected) = diff_id else { return Ok(()) };
        let found: [u8; 32] = self.hash.finalize().into();
        if found != *expected {
            return Err(LayerError::DiffId { expected: hex(expected), found: hex(&found) });
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), LayerError> {
        self.at = 0;
        // Nobody takes it back once the reading thread is done.
        let _ = self.feed.spare.send(std::mem::take(&mut self.current));
        match self.feed.messages.recv().expect("the reading thread ends each archive or reports a failure") {
            Message::Data { bytes, consumed } => {
                self.feed.received += bytes.len() as u64;
                if self.feed.received > self.feed.limit {
                    return Err(LayerError::TooLarge { limit: self.feed.limit });
                }
                self.hash.update(&bytes);
                self.current = bytes;
                (self.feed.progress)(consumed);
            }
            Message::End => self.has_ended = true,
            Message::Failed(error) => return Err(error),
            Message::Layer { .. } | Message::Done => unreachable!("archives end before others begin"),
        }
        Ok(())
    }
}
