//! From the guest to the socket.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};

use super::{Fate, Flow, Io, LARGEST_BUFFER, State, allowance, consume};
use crate::wire::{Flags, Segment};

/// How much room a guest is told of by itself, in bytes.
const WORTH_TELLING: i32 = 128 * 1024;

impl Flow {
    /// Takes a segment of the guest's.
    pub(crate) fn receive(&mut self, segment: &Segment<'_>, io: &mut Io<'_>) -> Fate {
        if segment.flags.has(Flags::RST) {
            return self.guest_reset(segment);
        }
        match self.state {
            // It is patient, or sends its SYN again.
            State::Connecting => return Fate::Waits,
            State::Calling => return self.called(segment, io),
            State::Answered | State::Open => {}
        }
        if segment.flags.has(Flags::SYN) {
            // The same once more, or one that makes no sense: both are told how things are (RFC 9293, 3.10.7.4).
            if self.state == State::Answered {
                self.answer(io);
            } else {
                self.owes = true;
            }
            return Fate::Waits;
        }
        if !segment.flags.has(Flags::ACK) || !self.heed_acknowledgement(segment, io) {
            return Fate::Waits;
        }
        if self.take(segment, io).is_err() {
            return self.reset(io);
        }
        if self.is_over(io) { Fate::Over } else { Fate::Eager }
    }

    /// The guest's reset, if it is meant: it is for what is expected, or near.
    fn guest_reset(&self, segment: &Segment<'_>) -> Fate {
        let meant = match self.state {
            State::Calling => segment.flags.has(Flags::ACK) && segment.acknowledged == self.next,
            _ => segment.sequence.wrapping_sub(self.expected) <= self.edge.wrapping_sub(self.expected),
        };
        if !meant {
            return Fate::Waits;
        }
        self.abort();
        Fate::Over
    }

    /// The guest answers our SYN.
    fn called(&mut self, segment: &Segment<'_>, io: &mut Io<'_>) -> Fate {
        let flags = segment.flags;
        if !flags.has(Flags::SYN) || !flags.has(Flags::ACK) || segment.acknowledged != self.next {
            return Fate::Waits;
        }
        self.heed_syn(segment);
        self.unacknowledged = self.next;
        if self.member.is_some() {
            // The first byte on an empty socket goes. If its other end is gone, that is seen soon.
            let _ = rustix::net::send(&self.socket, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
        self.open();
        self.acknowledge(io);
        Fate::Eager
    }

    fn open(&mut self) {
        self.state = State::Open;
        self.deadline = None;
        self.tries = 0;
    }

    /// What the guest has, and how much more it takes. Tells whether the segment is worth reading on.
    fn heed_acknowledgement(&mut self, segment: &Segment<'_>, io: &mut Io<'_>) -> bool {
        let ahead = segment.acknowledged.wrapping_sub(self.unacknowledged);
        if ahead > self.furthest.wrapping_sub(self.unacknowledged) {
            // What was never sent is answered, what was acknowledged long ago is not (RFC 9293, 3.10.7.4).
            let old = ahead.cast_signed() < 0;
            self.owes |= !old;
            return old && self.state == State::Open;
        }
        if self.state == State::Answered {
            if ahead == 0 {
                return false;
            }
            self.unacknowledged = segment.acknowledged;
            self.open();
        } else if ahead > 0 {
            self.acknowledged(segment.acknowledged, io);
        }
        let window = usize::from(segment.window) << self.scale;
        let same = ahead == 0 && window == self.window && segment.payload.is_empty();
        if same && self.next != self.unacknowledged && !segment.flags.has(Flags::FIN) {
            self.duplicates += 1;
            if self.duplicates == 3 {
                self.rewind();
            }
        }
        if self.window == 0 && window > 0 {
            self.deadline = None;
            self.tries = 0;
        }
        self.window = window;
        true
    }

    /// Takes the data, and the end of it.
    fn take(&mut self, segment: &Segment<'_>, io: &mut Io<'_>) -> Result<(), Errno> {
        let fin = segment.flags.has(Flags::FIN);
        let length = segment.payload.len();
        if length == 0 && !fin {
            // A probe wants to know how things are.
            self.owes |= segment.sequence != self.expected;
            return Ok(());
        }
        self.owes = true;
        let known = self.expected.wrapping_sub(segment.sequence) as usize;
        if known >= length + usize::from(fin) || self.guest_done {
            // Known already, or ahead of what is expected.
            return Ok(());
        }
        let new = &segment.payload[known.min(length)..];
        let taken = self.hand_over(new, io)?;
        self.expected = self.expected.wrapping_add(taken as u32);
        self.sent += taken as u64;
        if fin && taken == new.len() {
            self.expected = self.expected.wrapping_add(1);
            self.guest_done = true;
        }
        self.flush(io)
    }

    /// Gives `data` to the socket, or keeps what it does not take; how much of it was taken.
    fn hand_over(&mut self, data: &[u8], io: &mut Io<'_>) -> Result<usize, Errno> {
        let mut taken = 0;
        if self.to_host.is_empty() {
            taken = write(&self.socket, &mut self.writable, data)?;
        }
        let rest = &data[taken..];
        let kept = rest.len().min(allowance(self.to_host.len(), *io.pool));
        self.to_host.extend(&rest[..kept]);
        *io.pool += kept;
        Ok(taken + kept)
    }

    /// Gives the socket what was kept, and the end if it is there.
    pub(super) fn flush(&mut self, io: &mut Io<'_>) -> Result<(), Errno> {
        let before = self.to_host.len();
        while self.writable && !self.to_host.is_empty() {
            let length = write(&self.socket, &mut self.writable, self.to_host.as_slices().0)?;
            consume(&mut self.to_host, length, io.pool);
        }
        if self.to_host.len() < before {
            // The guest hears of room that is worth a segment.
            let room = self.expected.wrapping_add((LARGEST_BUFFER - self.to_host.len()) as u32);
            self.owes |= room.wrapping_sub(self.edge).cast_signed() >= WORTH_TELLING;
        }
        if self.guest_done && self.to_host.is_empty() && !self.shut {
            self.shut = true;
            match rustix::net::shutdown(&self.socket, Shutdown::Write) {
                // One that is not connected any more has ended by itself.
                Ok(()) | Err(Errno::NOTCONN) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Writes as much of `data` as the socket takes.
fn write(socket: &OwnedFd, writable: &mut bool, data: &[u8]) -> Result<usize, Errno> {
    let mut written = 0;
    while written < data.len() && *writable {
        match rustix::net::send(socket, &data[written..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(length) => written += length,
            Err(Errno::AGAIN) => *writable = false,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
