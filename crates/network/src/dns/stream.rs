//! Questions in a stream (RFC 1035, 4.2.2): each after its length as two bytes, and so their answers.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// The most that waits to be read by the guest, in bytes.
const MOST_WAITING: usize = 256 * 1024;

/// Our end of a stream that the guest asks in.
#[derive(Debug)]
pub(crate) struct NameStream {
    stream: UnixStream,
    input: Vec<u8>,
    out: Vec<u8>,
}

/// What comes next in a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A question.
    Question(Vec<u8>),
    /// Nothing yet.
    Nothing,
    /// It is over.
    Over,
}

impl NameStream {
    /// A stream, and its other end.
    pub(crate) fn pair() -> io::Result<(Self, UnixStream)> {
        let (stream, other) = UnixStream::pair()?;
        stream.set_nonblocking(true)?;
        other.set_nonblocking(true)?;
        Ok((Self { stream, input: Vec::new(), out: Vec::new() }, other))
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// The next question. One that is longer than any message cannot be: its length has two bytes.
    pub(crate) fn next(&mut self) -> Next {
        loop {
            if let Some(question) = self.take() {
                return Next::Question(question);
            }
            let mut room = [0; 4096];
            match self.stream.read(&mut room) {
                Ok(0) => return Next::Over,
                Ok(length) => self.input.extend_from_slice(&room[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Nothing,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Next::Over,
            }
        }
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let (prefix, rest) = self.input.split_first_chunk::<2>()?;
        let question = rest.get(..usize::from(u16::from_be_bytes(*prefix)))?.to_vec();
        self.input.drain(..2 + question.len());
        Some(question)
    }

    /// Sends an answer. Whether the stream goes on: a guest that asks and does not listen is not served for ever.
    pub(crate) fn tell(&mut self, answer: &[u8]) -> bool {
        let Ok(length) = u16::try_from(answer.len()) else { return false };
        self.out.extend_from_slice(&length.to_be_bytes());
        self.out.extend_from_slice(answer);
        self.flush() && self.out.len() <= MOST_WAITING
    }

    /// Writes what goes. Whether the stream goes on.
    pub(crate) fn flush(&mut self) -> bool {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(length) => drop(self.out.drain(..length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_cut_where_their_lengths_say_and_answers_have_theirs() {
        let (mut ours, mut guest) = NameStream::pair().unwrap();
        guest.write_all(b"\0\x03abc\0\0\0").unwrap();
        assert_eq!(ours.next(), Next::Question(b"abc".to_vec()));
        assert_eq!(ours.next(), Next::Question(Vec::new()));
        assert_eq!(ours.next(), Next::Nothing);
        assert!(ours.tell(b"de"));
        let mut heard = [0; 8];
        assert_eq!(guest.read(&mut heard).unwrap(), 4);
        assert_eq!(heard[..4], *b"\0\x02de");
        drop(guest);
        assert_eq!(ours.next(), Next::Over);
        assert!(!ours.tell(b"x"));
    }

    #[test]
    fn a_guest_that_does_not_listen_is_given_up() {
        let (mut ours, _guest) = NameStream::pair().unwrap();
        let answer = vec![0; 60_000];
        let told = (0..100).take_while(|_| ours.tell(&answer)).count();
        assert!((4..90).contains(&told), "{told}");
    }
}
