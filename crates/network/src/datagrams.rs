//! Conversations in datagrams: UDP, and pings.
//!
//! Each conversation of the guest's has a socket that is connected, so that only whom it speaks to can answer; one
//! through a published port has the port's own. They end when nothing was said for a while, and the one that was
//! silent longest gives way when there are too many.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};

use crate::reach::Place;
use crate::tcp::Ends;

/// How long a conversation may be silent.
pub(crate) const SILENCE: Duration = Duration::from_secs(90);

/// What a conversation is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Datagrams.
    Udp,
    /// Echo requests; the guest's port is their identifier.
    Ping,
}

/// A conversation.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) kind: Kind,
    pub(crate) ends: Ends,
    pub(crate) way: Way,
    pub(crate) last: Instant,
}

/// How the other side is reached.
#[derive(Debug)]
pub(crate) enum Way {
    /// Through a socket that is connected to it.
    Own(OwnedFd),
    /// Through the socket of a published port, at this place among them.
    Published { place: usize, client: SocketAddr },
    /// Through the network that it is a member of.
    Member(Place),
}

impl Conversation {
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.way {
            Way::Own(socket) => Some(socket.as_fd()),
            Way::Published { .. } | Way::Member(_) => None,
        }
    }
}

/// A socket that is connected to `to`.
pub(crate) fn connect(kind: Kind, to: SocketAddr) -> Result<OwnedFd, Errno> {
    let (family, any): (_, IpAddr) = match to.ip() {
        IpAddr::V4(_) => (AddressFamily::INET, Ipv4Addr::UNSPECIFIED.into()),
        IpAddr::V6(_) => (AddressFamily::INET6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let protocol = match kind {
        Kind::Udp => None,
        Kind::Ping => Some(if to.is_ipv4() { ipproto::ICMP } else { ipproto::ICMPV6 }),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, protocol)?;
    if kind == Kind::Ping {
        rustix::net::bind(&socket, &SocketAddr::new(any, 0))?;
    }
    rustix::net::connect(&socket, &to)?;
    Ok(socket)
}

/// Sends a datagram. One that does not go is lost, as datagrams may be.
pub(crate) fn send(socket: BorrowedFd<'_>, payload: &[u8]) -> Result<usize, Errno> {
    rustix::net::send(socket, payload, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
}

/// Receives a datagram.
pub(crate) fn receive(socket: BorrowedFd<'_>, room: &mut [u8]) -> Result<usize, Errno> {
    Ok(rustix::net::recv(socket, room, RecvFlags::DONTWAIT)?.0)
}

/// An echo request, as a ping socket takes it; the kernel puts identifier and checksum in.
pub(crate) fn echo_request(to: IpAddr, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let kind = if to.is_ipv4() { 8 } else { 128 };
    let mut message = vec![kind, 0, 0, 0, 0, 0];
    message.extend_from_slice(&sequence.to_be_bytes());
    message.extend_from_slice(payload);
    message
}

/// Number and payload of the echo reply that a ping socket gave.
pub(crate) fn echo_reply_parts(message: &[u8]) -> Option<(u16, &[u8])> {
    let (header, payload) = message.split_first_chunk::<8>()?;
    matches!(header[0], 0 | 129).then(|| (u16::from_be_bytes([header[6], header[7]]), payload))
}
