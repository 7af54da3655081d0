//! The other members of the named networks that the guest is on.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags};

use super::frames::random;
use super::sockets::TURN;
use super::{Stack, Token};
use crate::addresses::GUEST;
use crate::named::{Call, Parcel, ParcelKind};
use crate::reach::Place;
use crate::slab::Key;
use crate::tcp::{Ends, Flow, Io};
use crate::wire::{Echo, LONGEST_DATAGRAM, echo_reply, echo_request, emit_datagram};

/// Members that have connected and said nothing yet, and how long they may take.
const MOST_CALLERS: usize = 256;
const CALL: Duration = Duration::from_secs(5);

/// The length of a datagram's header.
const HEADER: usize = crate::named::HEADER;

/// Somebody who has connected, and not said yet to what.
#[derive(Debug)]
pub(super) struct Caller {
    socket: OwnedFd,
    network: usize,
}

impl Stack {
    /// Only with a guest: until then members wait in the sockets' queues.
    pub(super) fn await_members(&self) {
        for (network, membership) in self.reach.memberships.iter().enumerate() {
            let (streams, datagrams) = membership.sockets();
            self.listen(streams, Token::Members(network));
            self.listen(datagrams, Token::Parcels(network));
        }
    }

    pub(super) fn ignore_members(&self) {
        for membership in &self.reach.memberships {
            let (streams, datagrams) = membership.sockets();
            // Those that were not watched need not be ignored.
            let _ = epoll::delete(&self.epoll, streams);
            let _ = epoll::delete(&self.epoll, datagrams);
        }
    }

    /// A connection to a member, whose guest has not answered yet.
    pub(super) fn call_member(&self, place: Place, ends: Ends) -> Option<OwnedFd> {
        let membership = self.reach.memberships.get(place.network)?;
        let call = Call { number: membership.number(), from: ends.guest.port(), to: ends.remote.port() };
        membership.call(place.number, call).ok()
    }

    /// Members connect.
    pub(super) fn member_called(&mut self, network: usize) {
        for _ in 0..TURN {
            let Some(membership) = self.reach.memberships.get(network) else { return };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Ok(socket) = rustix::net::accept_with(membership.sockets().0, flags) else { return };
            if self.callers.len() >= MOST_CALLERS || self.flows.len() >= self.most_connections {
                self.report.limited += 1;
                continue;
            }
            let key = self.callers.insert(Caller { socket, network });
            let Some(caller) = self.callers.get_mut(key) else { return };
            if epoll::add(&self.epoll, &caller.socket, Token::Caller(key).data(), epoll::EventFlags::IN)
                .is_err()
            {
                self.callers.remove(key);
                continue;
            }
            self.remind(Token::Caller(key), Instant::now() + CALL);
        }
    }

    /// A member that connected says to what, or goes.
    pub(super) fn caller_said(&mut self, key: Key) {
        let Some(caller) = self.callers.get_mut(key) else { return };
        let mut header = [0; HEADER];
        match rustix::net::recv(&caller.socket, &mut header, RecvFlags::DONTWAIT | RecvFlags::PEEK) {
            Ok((HEADER, _)) => {}
            Ok((1.., _)) | Err(Errno::AGAIN | Errno::INTR) => return,
            _ => return drop(self.callers.remove(key)),
        }
        let taken = rustix::net::recv(&caller.socket, &mut header, RecvFlags::DONTWAIT);
        let Some(Caller { socket, network }) = self.callers.remove(key) else { return };
        if taken.is_ok()
            && epoll::delete(&self.epoll, &socket).is_ok()
            && self.take_call(socket, network, &header).is_none()
        {
            self.report.dropped += 1;
        }
    }

    fn take_call(&mut self, socket: OwnedFd, network: usize, header: &[u8]) -> Option<()> {
        let call = Call::parse(header)?;
        let remote = SocketAddr::new(self.reach.memberships.get(network)?.address_of(call.number), call.from);
        let ends = Ends { guest: (GUEST, call.to).into(), remote };
        if self.flow_keys.contains_key(&ends) || self.flows.len() >= self.most_connections {
            return None;
        }
        let cable = self.cable.as_mut()?;
        let io = &mut Io { cable, pool: &mut self.pool, scratch: &mut self.scratch, now: Instant::now() };
        let flow = Flow::inbound(ends, socket, random(), io).called_by_member();
        self.add_flow(flow);
        Some(())
    }

    pub(super) fn caller_is_due(&mut self, key: Key) {
        self.callers.remove(key);
    }

    /// Sends a member what the guest says.
    pub(super) fn send_member(
        &self,
        place: Place,
        kind: ParcelKind,
        (from, to): (u16, u16),
        payload: &[u8],
    ) -> Result<(), Errno> {
        let Some(membership) = self.reach.memberships.get(place.network) else { return Err(Errno::NOENT) };
        let parcel = Parcel { kind, number: membership.number(), from, to };
        membership.send(place.number, &parcel.bytes(payload))
    }

    /// Members send datagrams.
    pub(super) fn members_sent(&mut self, network: usize) {
        for _ in 0..TURN {
            let Some(membership) = self.reach.memberships.get(network) else { return };
            let received =
                rustix::net::recv(membership.sockets().1, &mut self.scratch[..], RecvFlags::DONTWAIT);
            let Ok((length, _)) = received else { return };
            if self.take_parcel(network, length).is_none() {
                self.report.dropped += 1;
            }
        }
    }

    /// Gives the guest the datagram in `scratch`.
    fn take_parcel(&mut self, network: usize, length: usize) -> Option<()> {
        let bytes = self.scratch.get(..length)?;
        let Parcel { kind, number, from, to } = Parcel::parse(bytes)?;
        let payload = bytes.get(HEADER..).filter(|payload| payload.len() <= LONGEST_DATAGRAM)?;
        let address = self.reach.memberships.get(network)?.address_of(number);
        let cable = self.cable.as_mut().filter(|cable| cable.has_room())?;
        let echo = Echo { identifier: from, sequence: to, payload };
        match kind {
            ParcelKind::Udp => cable.frame(|out, mac| {
                emit_datagram(out, mac, SocketAddr::new(address, from), (GUEST, to).into(), payload);
            }),
            ParcelKind::EchoRequest => {
                cable.frame(|out, mac| echo_request(out, mac, address, GUEST.into(), echo));
            }
            ParcelKind::EchoReply => {
                cable.frame(|out, mac| echo_reply(out, mac, address, GUEST.into(), echo));
            }
        }
        Some(())
    }
}
