//! From the socket to the guest.

use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::{Fate, Flow, Io, LARGEST_BUFFER, SCALE, allowance, consume};
use crate::wire::{Flags, Sending, emit_segment};

impl Flow {
    /// Reads from the socket what the guest has room for. Tells whether it brought anything.
    pub(super) fn fill(&mut self, io: &mut Io<'_>) -> Result<bool, Errno> {
        if !self.readable || self.host_done {
            return Ok(false);
        }
        let kept = self.to_guest.len();
        let room = allowance(kept, *io.pool).min(self.window.saturating_sub(kept)).min(io.scratch.len());
        if room == 0 {
            return Ok(false);
        }
        match rustix::net::recv(&self.socket, &mut io.scratch[..room], RecvFlags::DONTWAIT) {
            // Who ends a connection between members properly does so on both ways, and only then goes.
            Ok((0, _)) if self.member.is_some() && !self.shut && is_gone(&self.socket) => {
                return Err(Errno::CONNRESET);
            }
            Ok((0, _)) => self.host_done = true,
            Ok((length, _)) => {
                self.to_guest.extend(&io.scratch[..length]);
                *io.pool += length;
                self.received += length as u64;
                return Ok(true);
            }
            Err(Errno::AGAIN) => self.readable = false,
            Err(Errno::INTR) => return Ok(true),
            Err(error) => return Err(error),
        }
        Ok(false)
    }

    /// Sends what is there and fits the guest's window.
    pub(super) fn transmit(&mut self, io: &mut Io<'_>) -> Fate {
        loop {
            let under_way = self.next.wrapping_sub(self.unacknowledged) as usize;
            let under_way = under_way.min(self.to_guest.len());
            let open = self.window.saturating_sub(under_way);
            let length = (self.to_guest.len() - under_way).min(open).min(self.segment_size);
            let last = under_way + length == self.to_guest.len();
            let fin = last && self.host_done && !self.fin_sent;
            if length == 0 && !fin {
                return Fate::Waits;
            }
            if !io.cable.has_room() {
                return Fate::Eager;
            }
            let mut flags = Flags::ACK;
            if last {
                flags = flags.and(Flags::PSH);
            }
            if fin {
                flags = flags.and(Flags::FIN);
                self.fin_sent = true;
            }
            let sequence = self.next;
            self.next = self.next.wrapping_add(length as u32 + u32::from(fin));
            if self.next.wrapping_sub(self.furthest).cast_signed() > 0 {
                self.furthest = self.next;
            }
            self.emit(io, sequence, flags, under_way..under_way + length);
        }
    }

    /// Sends a segment with this part of what the guest is to have.
    pub(super) fn emit(&mut self, io: &mut Io<'_>, sequence: u32, flags: Flags, part: Range<usize>) {
        self.owes = false;
        let room = LARGEST_BUFFER.saturating_sub(self.to_host.len());
        let shift = if self.scaled { SCALE } else { 0 };
        let window = u16::try_from(room >> shift).unwrap_or(u16::MAX);
        self.edge = self.expected.wrapping_add(u32::from(window) << shift);
        let sending = Sending {
            from: self.ends.remote,
            to: self.ends.guest,
            sequence,
            acknowledged: self.expected,
            flags,
            window,
            options: None,
        };
        let (first, second) = self.to_guest.as_slices();
        let cut = first.len();
        let front = &first[part.start.min(cut)..part.end.min(cut)];
        let back = &second[part.start.saturating_sub(cut)..part.end.saturating_sub(cut)];
        io.cable.frame(|out, mac| emit_segment(out, mac, &sending, [front, back]));
    }

    /// Acknowledges what was received.
    pub(crate) fn acknowledge(&mut self, io: &mut Io<'_>) {
        self.emit(io, self.next, Flags::ACK, 0..0);
    }

    /// The guest has everything up to `acknowledged`.
    pub(super) fn acknowledged(&mut self, acknowledged: u32, io: &mut Io<'_>) {
        let length = acknowledged.wrapping_sub(self.unacknowledged) as usize;
        let data = length.min(self.to_guest.len());
        consume(&mut self.to_guest, data, io.pool);
        self.fin_acknowledged |= length > data && self.host_done;
        self.fin_sent |= self.fin_acknowledged;
        self.unacknowledged = acknowledged;
        if self.next.wrapping_sub(acknowledged).cast_signed() < 0 {
            self.next = acknowledged;
        }
        self.duplicates = 0;
        self.tries = 0;
        self.deadline = None;
    }

    /// Begins again with what is not acknowledged.
    pub(super) fn rewind(&mut self) {
        self.next = self.unacknowledged;
        self.fin_sent = self.fin_acknowledged;
        self.duplicates = 0;
    }
}

/// Whether nobody has the other end of a socket any more.
fn is_gone(socket: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec::default())).is_ok() && polled[0].revents().contains(PollFlags::HUP)
}
