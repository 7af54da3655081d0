//! Our end of the guest's Ethernet cable: a byte stream to the machine monitor, each frame after its length as four
//! bytes, big-endian, as QEMU's `-netdev stream` has it.
//!
//! What goes in is bounded: who writes bulk asks for room first, and nothing is read while there is none, so that
//! answers cannot pile up.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendFlags};

use crate::addresses::Mac;
use crate::capture::Tap;
use crate::wire::LONGEST_FRAME;

/// Bytes on their way from which on no more are wanted.
const ENOUGH: usize = 256 * 1024;

/// How much is read at once, in bytes.
const READ: usize = 256 * 1024;

/// How much room is kept for what comes and for what goes, in bytes. Room costs no memory before it was used once, but time
/// each time it is made.
const ROOM: usize = READ + ENOUGH;

/// Where a guest's frames come from and go to.
#[derive(Debug)]
pub(crate) struct Cable {
    stream: OwnedFd,
    /// The guest's own address, as its last frame had it.
    pub(crate) mac: Mac,
    out: Vec<u8>,
    /// How much of `out` is gone already.
    gone: usize,
    input: Vec<u8>,
    /// Frames and bytes for the guest so far.
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    tap: Option<Tap>,
}

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Bytes.
    Some,
    /// Nothing for now.
    Nothing,
    /// The other end is gone, or speaks no frames.
    Over,
}

impl Cable {
    pub(crate) fn new(stream: OwnedFd, tap: Option<Tap>) -> Self {
        let (out, input) = (Vec::new(), Vec::new());
        Self {
            stream,
            mac: [0xff; 6],
            out,
            gone: 0,
            input,
            frames: 0,
            bytes: 0,
            readable: true,
            writable: true,
            tap,
        }
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Whether more frames are welcome.
    pub(crate) fn has_room(&self) -> bool {
        self.out.len() - self.gone < ENOUGH
    }

    /// Whether something waits to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.out.len() == self.gone
    }

    /// Adds the frame that `emit` appends, for the guest's address; none if it appends nothing.
    pub(crate) fn frame<T>(&mut self, emit: impl FnOnce(&mut Vec<u8>, Mac) -> T) -> T {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        let result = emit(&mut self.out, self.mac);
        let length = self.out.len() - start - 4;
        if length == 0 {
            self.out.truncate(start);
            return result;
        }
        self.frames += 1;
        self.bytes += length as u64;
        if let Some(tap) = &self.tap {
            tap.frame(&self.out[start + 4..]);
        }
        if let Some(prefix) = self.out.get_mut(start..start + 4) {
            prefix.copy_from_slice(&(length as u32).to_be_bytes());
        }
        result
    }

    /// Captures a frame of the guest's, if frames are captured.
    pub(crate) fn note(&self, frame: &[u8]) {
        if let Some(tap) = &self.tap {
            tap.frame(frame);
        }
    }

    /// Reads what there is, up to a bound.
    pub(crate) fn read(&mut self) -> Read {
        self.input.reserve(READ);
        match rustix::net::recv(&self.stream, spare_capacity(&mut self.input), RecvFlags::DONTWAIT) {
            Ok((0, _)) => Read::Over,
            Ok(_) | Err(rustix::io::Errno::INTR) => Read::Some,
            Err(rustix::io::Errno::AGAIN) => {
                self.readable = false;
                Read::Nothing
            }
            Err(_) => Read::Over,
        }
    }

    /// The frames that were read whole. They are handed out, so that they can be answered on the same cable, and
    /// are to be given back with [`Cable::took`].
    pub(crate) fn take_input(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.input)
    }

    /// Gives back what was taken, of which `used` bytes are done.
    pub(crate) fn took(&mut self, mut input: Vec<u8>, used: usize) {
        input.drain(..used);
        if input.is_empty() {
            input.shrink_to(ROOM);
        }
        self.input = input;
    }

    /// Writes as much as goes.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        while self.writable && !self.is_empty() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(&self.stream, &self.out[self.gone..], flags) {
                Ok(length) => self.gone += length,
                Err(rustix::io::Errno::AGAIN) => self.writable = false,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.is_empty() {
            self.out.clear();
            self.out.shrink_to(ROOM);
            self.gone = 0;
        } else if self.gone > ENOUGH {
            self.out.drain(..self.gone);
            self.gone = 0;
        }
        Ok(())
    }
}

/// The first frame in `bytes`, and how much it takes with its length; `None` if it is not whole.
pub(crate) fn split_frame(bytes: &[u8]) -> io::Result<Option<(&[u8], usize)>> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*prefix) as usize;
    // VLAN tags and the like may make one longer than ours.
    if length > LONGEST_FRAME + 64 {
        return Err(io::Error::from(ErrorKind::InvalidData));
    }
    Ok(rest.get(..length).map(|frame| (frame, 4 + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_where_their_lengths_say() {
        assert_eq!(split_frame(b"\0\0\0").unwrap(), None);
        assert_eq!(split_frame(b"\0\0\0\x02ab\0").unwrap(), Some((&b"ab"[..], 6)));
        assert_eq!(split_frame(b"\0\0\0\x03ab").unwrap(), None);
        assert!(split_frame(b"\x01\0\0\0ab").is_err());
    }

    #[test]
    fn an_answer_that_is_none_leaves_no_frame() {
        let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut cable = Cable::new(stream.into(), None);
        cable.frame(|_, _| ());
        assert!(cable.is_empty());
        cable.frame(|out, _| out.push(7));
        assert_eq!(cable.out, b"\0\0\0\x01\x07");
    }
}
