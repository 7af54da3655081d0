//! A TCP connection of the guest's, whose other side is a socket of this host.
//!
//! ```text
//! guest ◀─ segments ─▶ Flow ◀─ bytes ─▶ socket ─▶ whoever it is connected to
//!
//! outbound   Connecting ─ the socket is connected ─▶ Answered ─ ACK ─▶ Open
//! inbound    Calling ─ SYN-ACK ─▶ Open
//! ```
//!
//! The cable loses nothing and keeps the order, so segments out of order are dropped, and retransmission is the
//! exception: go-back-N by timer or three duplicates (RFC 9293, 3.8). There is no congestion on it either.
//!
//! Back-pressure goes through both ways: what the socket does not take fills a buffer, which closes the window; and
//! nothing is read from the socket that the guest's window has no room for. Buffers are bounded each and in sum.

mod receive;
mod transmit;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt};

use crate::addresses::MTU;
use crate::cable::Cable;
use crate::wire::{Flags, Segment, Sending, emit_segment};

/// The most that one connection keeps for either side, in bytes.
const LARGEST_BUFFER: usize = 512 * 1024;

/// The most that all connections keep, in bytes; then each has only [`TRICKLE`] more.
const POOL: usize = 32 << 20;
const TRICKLE: usize = 2 * 1024;

/// How our windows are scaled (RFC 7323).
const SCALE: u8 = 7;

/// The first time-out; it doubles up to the longest. A guest on a loaded host may be slow.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a member's guest may take to answer; it is asked for about as long as a guest asks.
const MEMBER_PATIENCE: Duration = Duration::from_secs(150);

/// How often a guest that does not answer at all is asked.
const MOST_TRIES: u32 = 6;

/// The two ends of a connection, as the guest sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ends {
    pub(crate) guest: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// What a connection works with.
pub(crate) struct Io<'a> {
    pub(crate) cable: &'a mut Cable,
    /// Bytes that all connections keep.
    pub(crate) pool: &'a mut usize,
    /// Room to read into.
    pub(crate) scratch: &'a mut [u8],
    pub(crate) now: Instant,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It waits for something to happen.
    Waits,
    /// It could go on if the cable had room.
    Eager,
    /// It is over.
    Over,
}

/// Which side of a connection between members this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemberSide {
    /// The other one was called.
    Called,
    /// The other one calls.
    Caller,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Outbound: the socket is not connected yet.
    Connecting,
    /// Outbound: the guest has our SYN-ACK, or will.
    Answered,
    /// Inbound: the guest has our SYN, or will.
    Calling,
    /// Both know of each other.
    Open,
}

/// A connection.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one side's news, in any combination")]
pub(crate) struct Flow {
    pub(crate) ends: Ends,
    socket: OwnedFd,
    state: State,
    /// What the socket said last.
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The socket has no more.
    host_done: bool,
    /// The guest has no more.
    guest_done: bool,
    /// The socket knows that the guest has no more.
    shut: bool,

    /// Sent and not acknowledged; to be sent next; the most that was ever sent. RFC 9293's SND.UNA and SND.NXT.
    unacknowledged: u32,
    next: u32,
    furthest: u32,
    /// The guest's window, in bytes, and how it is scaled.
    window: usize,
    scale: u8,
    segment_size: usize,
    /// From `unacknowledged` on.
    to_guest: VecDeque<u8>,
    fin_sent: bool,
    fin_acknowledged: bool,
    duplicates: u32,

    /// RFC 9293's RCV.NXT, and the right edge that the guest was told.
    expected: u32,
    edge: u32,
    /// Whether our windows are scaled.
    scaled: bool,
    to_host: VecDeque<u8>,
    /// The guest is owed an acknowledgement.
    pub(crate) owes: bool,

    /// The other side is a member of a network, and what that means.
    member: Option<MemberSide>,

    /// When to act if nothing happens.
    pub(crate) deadline: Option<Instant>,
    /// The deadline that its owner remembers; it may be an older one.
    pub(crate) remembered: Option<Instant>,
    tries: u32,
    /// Bytes that went each way.
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl Flow {
    /// A connection that the guest asks for with `syn`; the socket is being connected.
    pub(crate) fn outbound(ends: Ends, socket: OwnedFd, syn: &Segment<'_>, start: u32) -> Self {
        let mut flow = Self::new(ends, socket, State::Connecting, start);
        flow.heed_syn(syn);
        flow
    }

    /// A connection that somebody made to a published port, for the guest to accept.
    pub(crate) fn inbound(ends: Ends, socket: OwnedFd, start: u32, io: &mut Io<'_>) -> Self {
        let mut flow = Self::new(ends, socket, State::Calling, start);
        flow.next = start.wrapping_add(1);
        flow.furthest = flow.next;
        flow.call(io);
        flow
    }

    /// The same to a member of a network: it is open once the member's guest has answered.
    pub(crate) fn calling_member(self, now: Instant) -> Self {
        Self { member: Some(MemberSide::Called), deadline: Some(now + MEMBER_PATIENCE), ..self }
    }

    /// The same from a member of a network, which hears when the guest has answered.
    pub(crate) fn called_by_member(self) -> Self {
        Self { member: Some(MemberSide::Caller), ..self }
    }

    fn new(ends: Ends, socket: OwnedFd, state: State, start: u32) -> Self {
        Self {
            ends,
            socket,
            state,
            readable: false,
            writable: false,
            host_done: false,
            guest_done: false,
            shut: false,
            unacknowledged: start,
            next: start,
            furthest: start,
            window: 0,
            scale: 0,
            segment_size: 536,
            to_guest: VecDeque::new(),
            fin_sent: false,
            fin_acknowledged: false,
            duplicates: 0,
            expected: 0,
            edge: 0,
            scaled: false,
            to_host: VecDeque::new(),
            owes: false,
            member: None,
            deadline: None,
            remembered: None,
            tries: 0,
            sent: 0,
            received: 0,
        }
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether the two know of each other.
    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// What a guest's SYN says of the guest.
    fn heed_syn(&mut self, syn: &Segment<'_>) {
        self.expected = syn.sequence.wrapping_add(1);
        self.edge = self.expected;
        self.window = usize::from(syn.window);
        self.scaled = syn.scale.is_some();
        self.scale = syn.scale.unwrap_or(0);
        let size = usize::from(syn.most.unwrap_or(536));
        self.segment_size = size.clamp(64, usize::from(self.our_segment_size()));
    }

    fn our_segment_size(&self) -> u16 {
        MTU - if self.ends.guest.is_ipv4() { 40 } else { 60 }
    }

    /// Does what can be done.
    pub(crate) fn pump(&mut self, io: &mut Io<'_>) -> Fate {
        match self.state {
            State::Connecting => return self.finish_connecting(io),
            State::Answered | State::Calling => return Fate::Waits,
            State::Open => {}
        }
        if self.flush(io).is_err() {
            return self.reset(io);
        }
        let fate = loop {
            let Ok(more) = self.fill(io) else { return self.reset(io) };
            if self.transmit(io) == Fate::Eager {
                break Fate::Eager;
            }
            if !more {
                break Fate::Waits;
            }
        };
        self.arm(io.now);
        if self.is_over(io) { Fate::Over } else { fate }
    }

    /// Whether both sides have said everything. The guest knows it then, too.
    fn is_over(&mut self, io: &mut Io<'_>) -> bool {
        let over = self.fin_acknowledged && self.guest_done && self.to_host.is_empty();
        if over && self.owes {
            self.acknowledge(io);
        }
        over
    }

    fn finish_connecting(&mut self, io: &mut Io<'_>) -> Fate {
        if !self.writable {
            return Fate::Waits;
        }
        if !matches!(rustix::net::sockopt::socket_error(&self.socket), Ok(Ok(()))) {
            return self.reset(io);
        }
        if self.member == Some(MemberSide::Called) {
            match rustix::net::recv(&self.socket, &mut [0], RecvFlags::DONTWAIT) {
                Ok((1, _)) => {}
                Err(Errno::AGAIN | Errno::INTR) => return Fate::Waits,
                // Its guest does not listen there, or it is gone.
                _ => return self.reset(io),
            }
        }
        self.state = State::Answered;
        self.next = self.unacknowledged.wrapping_add(1);
        self.furthest = self.next;
        self.answer(io);
        Fate::Waits
    }

    /// Sends our SYN-ACK.
    fn answer(&mut self, io: &mut Io<'_>) {
        let scale = self.scaled.then_some(SCALE);
        self.emit_syn(io, Flags::SYN.and(Flags::ACK), scale);
    }

    /// Sends our SYN.
    fn call(&mut self, io: &mut Io<'_>) {
        self.emit_syn(io, Flags::SYN, Some(SCALE));
    }

    fn emit_syn(&mut self, io: &mut Io<'_>, flags: Flags, scale: Option<u8>) {
        // The window of a SYN is never scaled.
        let window = u16::MAX;
        self.edge = self.expected.wrapping_add(u32::from(window));
        let sending = Sending {
            from: self.ends.remote,
            to: self.ends.guest,
            sequence: self.unacknowledged,
            acknowledged: if flags.has(Flags::ACK) { self.expected } else { 0 },
            flags,
            window,
            options: Some((self.our_segment_size(), scale)),
        };
        io.cable.frame(|out, mac| emit_segment(out, mac, &sending, [&[], &[]]));
        self.deadline = Some(io.now + self.timeout());
    }

    fn timeout(&self) -> Duration {
        FIRST_TIMEOUT.saturating_mul(1 << self.tries.min(10)).min(LONGEST_TIMEOUT)
    }

    /// Sets the time-out if something is on the way, or the guest's window is closed and something waits.
    fn arm(&mut self, now: Instant) {
        let on_the_way = self.next != self.unacknowledged;
        let stuck = self.window == 0 && (self.readable || !self.to_guest.is_empty());
        if !on_the_way && !stuck {
            self.deadline = None;
            self.tries = 0;
        } else if self.deadline.is_none() {
            self.deadline = Some(now + self.timeout());
        }
    }

    /// The deadline has passed.
    pub(crate) fn late(&mut self, io: &mut Io<'_>) -> Fate {
        self.deadline = None;
        if !io.cable.is_empty() {
            // The guest has not even seen what was sent, as one that is frozen.
            self.deadline = Some(io.now + self.timeout());
            return Fate::Waits;
        }
        self.tries += 1;
        match self.state {
            State::Answered | State::Calling if self.tries > MOST_TRIES => return self.reset(io),
            State::Answered => self.answer(io),
            State::Calling => self.call(io),
            State::Connecting if self.member.is_some() => return self.reset(io),
            State::Connecting => {}
            State::Open if self.window == 0 => {
                // One that is behind the times is told how things are (RFC 9293, 3.8.4).
                self.emit(io, self.unacknowledged.wrapping_sub(1), Flags::ACK, 0..0);
                self.deadline = Some(io.now + self.timeout());
            }
            State::Open => {
                self.rewind();
                return self.pump(io);
            }
        }
        Fate::Waits
    }

    /// Ends it, with a reset for both sides.
    pub(crate) fn reset(&mut self, io: &mut Io<'_>) -> Fate {
        let flags = Flags::RST.and(Flags::ACK);
        self.emit(io, self.next, flags, 0..0);
        self.abort();
        Fate::Over
    }

    /// Has the other side of the socket see a reset.
    fn abort(&self) {
        // Where it fails, the other side sees an end instead.
        let _ = rustix::net::sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }

    /// Gives back what it keeps.
    pub(crate) fn release(&mut self, pool: &mut usize) {
        *pool = pool.saturating_sub(self.to_guest.len() + self.to_host.len());
        self.to_guest = VecDeque::new();
        self.to_host = VecDeque::new();
    }
}

/// A socket that is on its way to `to`.
pub(crate) fn connect(to: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    prepare(&socket)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// When to send is the guest's affair; that the other side is gone is noticed here.
pub(crate) fn prepare(socket: &OwnedFd) -> Result<(), Errno> {
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_keepalive(socket, true)
}

/// How much more a buffer with so much in it may take.
fn allowance(kept: usize, pool: usize) -> usize {
    let own = LARGEST_BUFFER.saturating_sub(kept);
    own.min(POOL.saturating_sub(pool)).max(TRICKLE.saturating_sub(kept))
}

/// Removes from the front, and lets go of memory that is not needed.
fn consume(buffer: &mut VecDeque<u8>, length: usize, pool: &mut usize) {
    buffer.drain(..length);
    *pool = pool.saturating_sub(length);
    if buffer.is_empty() && buffer.capacity() > 4096 {
        *buffer = VecDeque::new();
    }
}
