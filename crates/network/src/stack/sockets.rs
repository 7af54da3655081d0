//! This host's sockets: made for the guest, and by those who call it.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

use super::frames::random;
use super::{MOST_CONVERSATIONS, Stack, Token};
use crate::addresses::{GATEWAY, GUEST, is_inside};
use crate::audit::Traffic;
use crate::datagrams::{self, Conversation, Kind};
use crate::named::ParcelKind;
use crate::publish::{Listener, PortProtocol};
use crate::reach::Way;
use crate::slab::Key;
use crate::tcp::{Ends, Flow, Io};
use crate::wire::{Echo, LONGEST_DATAGRAM, Unreachable, echo_reply, emit_datagram};

/// How many callers, or datagrams of one conversation, are served before others have their turn.
pub(super) const TURN: usize = 64;

impl Stack {
    pub(super) fn add_flow(&mut self, flow: Flow) {
        let ends = flow.ends;
        let key = self.flows.insert(flow);
        let Some(flow) = self.flows.get_mut(key) else { return };
        let flags =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        if let Err(error) = epoll::add(&self.epoll, flow.descriptor(), Token::Tcp(key).data(), flags) {
            tracing::warn!(%error, "a connection cannot be watched");
            self.flows.remove(key);
            return;
        }
        self.report.tcp_total += 1;
        self.flow_keys.insert(ends, key);
        self.remember(key);
    }

    pub(super) fn remove_flow(&mut self, key: Key) {
        if let Some(mut flow) = self.flows.remove(key) {
            flow.release(&mut self.pool);
            self.flow_keys.remove(&flow.ends);
        }
    }

    pub(super) fn add_listeners(&mut self, listeners: Vec<Listener>) {
        for listener in listeners {
            self.listeners.push(Some(listener));
            if self.cable.is_some() {
                self.await_callers(self.listeners.len() - 1);
            }
        }
    }

    /// Only with a guest: until then callers wait in the host's queue.
    pub(super) fn await_callers(&self, place: usize) {
        if let Some(listener) = &self.listeners[place] {
            self.listen(listener.descriptor(), Token::Listener(place));
        }
    }

    pub(super) fn ignore_callers(&self, place: usize) {
        if let Some(listener) = &self.listeners[place] {
            // One that was not watched need not be ignored.
            let _ = epoll::delete(&self.epoll, listener.descriptor());
        }
    }

    /// Somebody is at a published port.
    pub(super) fn called(&mut self, place: usize) {
        for _ in 0..TURN {
            let Some(Some(listener)) = self.listeners.get(place) else { return };
            let guest = SocketAddr::new(GUEST.into(), listener.published.guest);
            let went_on = match listener.published.protocol {
                PortProtocol::Tcp => self.accept(place, guest),
                PortProtocol::Udp => self.hear(place, guest),
            };
            if went_on.is_none() {
                return;
            }
        }
    }

    fn accept(&mut self, place: usize, guest: SocketAddr) -> Option<()> {
        let listener = self.listeners[place].as_ref()?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, client) = rustix::net::acceptfrom_with(listener.descriptor(), flags).ok()?;
        if self.flows.len() >= self.most_connections {
            self.report.limited += 1;
            return Some(());
        }
        let client = client.and_then(|client| SocketAddr::try_from(client).ok());
        // One that fails now is gone already.
        crate::tcp::prepare(&socket).ok();
        let remote =
            self.seen_as(client, |stack, remote| stack.flow_keys.contains_key(&Ends { guest, remote }))?;
        let start = random();
        let cable = self.cable.as_mut()?;
        let io = &mut Io { cable, pool: &mut self.pool, scratch: &mut self.scratch, now: Instant::now() };
        let flow = Flow::inbound(Ends { guest, remote }, socket, start, io);
        self.add_flow(flow);
        Some(())
    }

    /// How the guest sees a client: as it is, if the guest could answer that; else as the gateway.
    fn seen_as(
        &mut self,
        client: Option<SocketAddr>,
        taken: impl Fn(&Self, SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let itself = client.filter(|client| {
            let address = client.ip();
            address.is_ipv4() && !address.is_loopback() && !is_inside(address) && !taken(self, *client)
        });
        if itself.is_some() {
            return itself;
        }
        for _ in 0..=u16::MAX {
            self.next_port = self.next_port.checked_add(1).unwrap_or(1024).max(1024);
            let remote = SocketAddr::new(GATEWAY.into(), self.next_port);
            if !taken(self, remote) {
                return Some(remote);
            }
        }
        None
    }

    /// A datagram at a published port.
    fn hear(&mut self, place: usize, guest: SocketAddr) -> Option<()> {
        let listener = self.listeners[place].as_ref()?;
        let room = &mut self.scratch[..];
        let (length, _, client) =
            rustix::net::recvfrom(listener.descriptor(), room, RecvFlags::DONTWAIT).ok()?;
        let client = SocketAddr::try_from(client?).ok()?;
        let is_it = |conversation: &Conversation| matches!(&conversation.way, datagrams::Way::Published { place: its, client: who } if *its == place && *who == client);
        let known = self.conversations.iter().find(|(_, conversation)| is_it(conversation));
        let known = known.map(|(key, conversation)| (key, conversation.ends));
        let (key, ends) = if let Some(known) = known {
            known
        } else {
            let taken = |stack: &Self, remote| {
                stack.conversation_keys.contains_key(&(Kind::Udp, Ends { guest, remote }))
            };
            let ends = Ends { guest, remote: self.seen_as(Some(client), taken)? };
            (self.converse(Kind::Udp, ends, datagrams::Way::Published { place, client }), ends)
        };
        if let Some(conversation) = self.conversations.get_mut(key) {
            conversation.last = Instant::now();
        }
        self.deliver(ends, length);
        Some(())
    }

    /// Gives the guest what is in `scratch`.
    fn deliver(&mut self, ends: Ends, length: usize) {
        let Some(cable) = &mut self.cable else { return };
        if length > LONGEST_DATAGRAM || !cable.has_room() {
            self.report.dropped += 1;
            return;
        }
        let payload = &self.scratch[..length];
        cable.frame(|out, mac| emit_datagram(out, mac, ends.remote, ends.guest, payload));
    }

    /// Begins a conversation. Of too many, the one that was silent longest ends.
    fn converse(&mut self, kind: Kind, ends: Ends, way: datagrams::Way) -> Key {
        if self.conversations.len() >= MOST_CONVERSATIONS {
            self.report.limited += 1;
            let oldest = self.conversations.iter().min_by_key(|(_, conversation)| conversation.last);
            if let Some((key, _)) = oldest {
                self.fall_silent(key);
            }
        }
        let now = Instant::now();
        let key = self.conversations.insert(Conversation { kind, ends, way, last: now });
        self.conversation_keys.insert((kind, ends), key);
        self.remind(Token::Datagrams(key), now + datagrams::SILENCE);
        self.report.udp_total += 1;
        key
    }

    pub(super) fn fall_silent(&mut self, key: Key) {
        if let Some(conversation) = self.conversations.remove(key) {
            self.conversation_keys.remove(&(conversation.kind, conversation.ends));
        }
    }

    /// Says what the guest says.
    pub(super) fn speak(&mut self, kind: Kind, ends: Ends, payload: &[u8]) -> Result<(), Unreachable> {
        let key = match self.conversation_keys.get(&(kind, ends)).copied() {
            Some(key) => key,
            None => self.address(kind, ends)?,
        };
        let Some(conversation) = self.conversations.get_mut(key) else { return Ok(()) };
        conversation.last = Instant::now();
        let said = match &conversation.way {
            datagrams::Way::Own(socket) => {
                use std::os::fd::AsFd;
                datagrams::send(socket.as_fd(), payload)
            }
            datagrams::Way::Published { place, client } => match &self.listeners[*place] {
                Some(listener) => rustix::net::sendto(
                    listener.descriptor(),
                    payload,
                    SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
                    client,
                ),
                None => Err(Errno::CONNREFUSED),
            },
            datagrams::Way::Member(place) => {
                let (place, ports) = (*place, (ends.guest.port(), ends.remote.port()));
                let sent = self.send_member(place, ParcelKind::Udp, ports, payload);
                // Whether its guest listens, only that knows.
                sent.map(|()| payload.len()).map_err(|error| match error {
                    Errno::NOENT | Errno::CONNREFUSED => Errno::HOSTUNREACH,
                    other => other,
                })
            }
        };
        match said {
            // What the other side's host said of an earlier one.
            Err(Errno::CONNREFUSED) => Err(Unreachable::Port),
            Err(Errno::HOSTUNREACH | Errno::NETUNREACH) => Err(Unreachable::Host),
            // A datagram may be lost.
            _ => Ok(()),
        }
    }

    /// Begins a conversation with somebody.
    fn address(&mut self, kind: Kind, ends: Ends) -> Result<Key, Unreachable> {
        let traffic = match kind {
            Kind::Udp => Traffic::Udp,
            Kind::Ping => Traffic::Ping,
        };
        let to = match self.judge(traffic, ends.remote).ok_or(Unreachable::Forbidden)? {
            Way::Out(to) => to,
            Way::Member(place) => return Ok(self.converse(kind, ends, datagrams::Way::Member(place))),
        };
        let socket = datagrams::connect(kind, to).map_err(|error| match error {
            // Pings need a host that lets its users ping.
            Errno::ACCESS | Errno::PERM => Unreachable::Forbidden,
            _ => Unreachable::Host,
        })?;
        let key = self.converse(kind, ends, datagrams::Way::Own(socket));
        let token = Token::Datagrams(key);
        let socket = self.conversations.get_mut(key).and_then(|conversation| conversation.descriptor());
        let watched = socket.is_some_and(|socket| {
            epoll::add(&self.epoll, socket, token.data(), epoll::EventFlags::IN).is_ok()
        });
        if watched { Ok(key) } else { Err(Unreachable::Host) }
    }

    /// Somebody answers a conversation.
    pub(super) fn said(&mut self, key: Key) {
        for _ in 0..TURN {
            let Some(conversation) = self.conversations.get_mut(key) else { return };
            let (kind, ends) = (conversation.kind, conversation.ends);
            let Some(socket) = conversation.descriptor() else { return };
            let length = match datagrams::receive(socket, &mut self.scratch) {
                Ok(length) => length,
                // The error is taken with it; the guest hears of it when it speaks again.
                Err(Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH) => continue,
                Err(_) => return,
            };
            conversation.last = Instant::now();
            match kind {
                Kind::Udp => self.deliver(ends, length),
                Kind::Ping => self.deliver_echo(ends, length),
            }
        }
    }

    fn deliver_echo(&mut self, ends: Ends, length: usize) {
        let Some(cable) = &mut self.cable else { return };
        let Some((sequence, payload)) = datagrams::echo_reply_parts(&self.scratch[..length]) else { return };
        if payload.len() > LONGEST_DATAGRAM || !cable.has_room() {
            self.report.dropped += 1;
            return;
        }
        let echo = Echo { identifier: ends.guest.port(), sequence, payload };
        let (from, to): (IpAddr, IpAddr) = (ends.remote.ip(), ends.guest.ip());
        cable.frame(|out, mac| echo_reply(out, mac, from, to, echo));
    }
}
