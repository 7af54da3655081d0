//! The guest's frames: whose they are, and what each leads to.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use rustix::io::Errno;

use super::{Stack, with_flow};
use crate::addresses::{is_gateway, is_guest, is_nameserver};
use crate::audit::{Decision, Traffic};
use crate::cable::split_frame;
use crate::datagrams::Kind;
use crate::named::ParcelKind;
use crate::reach::{Refusal, Way};
use crate::tcp::{Ends, Fate, Flow};
use crate::wire::{
    self, Content, Datagram, Flags, Packet, Protocol, Segment, Sending, Unreachable, arp_reply, emit_segment,
    neighbour_reply,
};

impl Stack {
    /// Takes the frames that were read.
    pub(super) fn take_frames(&mut self) {
        let Some(cable) = &mut self.cable else { return };
        let input = cable.take_input();
        let mut used = 0;
        let broken = loop {
            match split_frame(&input[used..]) {
                Ok(Some((frame, length))) => {
                    used += length;
                    self.report.frames_sent += 1;
                    self.report.bytes_sent += frame.len() as u64;
                    if let Some(cable) = &self.cable {
                        cable.note(frame);
                    }
                    if wire::is_fragment(frame) {
                        self.report.fragments += 1;
                    } else if self.take_frame(frame).is_none() {
                        self.report.dropped += 1;
                    }
                }
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        if let Some(cable) = &mut self.cable {
            cable.took(input, used);
        }
        if broken {
            tracing::error!("the monitor sends no frames; the guest's network is cut");
            self.unplug();
        }
    }

    /// `None` if it makes no sense.
    fn take_frame(&mut self, frame: &[u8]) -> Option<()> {
        let frame = wire::parse(frame)?;
        let cable = self.cable.as_mut()?;
        cable.mac = frame.from;
        match frame.content {
            Content::Arp(content) => {
                cable.frame(|out, _| arp_reply(out, content));
                Some(())
            }
            Content::Other => Some(()),
            Content::Ip(packet) => self.take_packet(&packet),
        }
    }

    fn take_packet(&mut self, packet: &Packet<'_>) -> Option<()> {
        if packet.protocol == Protocol::Icmp && packet.from.is_ipv6() {
            let cable = self.cable.as_mut()?;
            if cable.frame(|out, mac| neighbour_reply(out, mac, packet)).is_some() {
                return Some(());
            }
        }
        if packet.to.is_multicast() || packet.from.is_unspecified() {
            // What a kernel says to its neighbours, of which there are none.
            return Some(());
        }
        if !is_guest(packet.from) || packet.from.is_ipv4() != packet.to.is_ipv4() {
            return None;
        }
        match packet.protocol {
            Protocol::Tcp => self.take_segment(&Segment::parse(packet)?),
            Protocol::Udp => self.take_datagram(packet, &Datagram::parse(packet)?),
            Protocol::Icmp => {
                if let Some(echo) = wire::echo(packet) {
                    self.take_echo(packet, echo);
                } else if let Some(reply) = wire::echo_replied(packet) {
                    self.answer_member(packet, reply);
                }
            }
        }
        Some(())
    }

    fn take_segment(&mut self, segment: &Segment<'_>) {
        let ends = Ends { guest: segment.from, remote: segment.to };
        if let Some(key) = self.flow_keys.get(&ends).copied() {
            if let Some(fate) = with_flow!(self, key, |flow, io| flow.receive(segment, io)) {
                self.after(key, fate);
            }
            return;
        }
        let opening = segment.flags.has(Flags::SYN) && !segment.flags.has(Flags::ACK);
        if !opening || self.open(ends, segment).is_none() {
            self.refuse_segment(segment);
        }
    }

    /// Opens the connection that the guest asks for; `None` if it cannot be.
    fn open(&mut self, ends: Ends, syn: &Segment<'_>) -> Option<()> {
        let to_names = is_nameserver(ends.remote.ip()) && ends.remote.port() == 53;
        let to = if to_names { None } else { Some(self.judge(Traffic::Tcp, ends.remote)?) };
        if self.flows.len() >= self.most_connections {
            self.report.limited += 1;
            return None;
        }
        let flow = |socket| Flow::outbound(ends, socket, syn, random());
        let flow = match to {
            None => flow(self.name_stream()?),
            Some(Way::Out(to)) => flow(crate::tcp::connect(to).ok()?),
            Some(Way::Member(place)) => flow(self.call_member(place, ends)?).calling_member(Instant::now()),
        };
        self.add_flow(flow);
        Some(())
    }

    /// Decides about what the guest wants, and tells whoever listens; where it leads on this host.
    pub(super) fn judge(&mut self, traffic: Traffic, to: SocketAddr) -> Option<Way> {
        let verdict = self.reach.decide(to, traffic, Instant::now());
        self.note(traffic, Some(to), verdict.name, verdict.way.err());
        verdict.way.ok()
    }

    /// Tells of a decision.
    pub(super) fn note(
        &mut self,
        traffic: Traffic,
        to: Option<SocketAddr>,
        name: Option<String>,
        refusal: Option<Refusal>,
    ) {
        if let Some(refusal) = refusal {
            tracing::debug!(?traffic, ?to, ?name, ?refusal, "the guest is refused");
            self.report.refused += 1;
        }
        let told = self.audit.tell(Decision { time: SystemTime::now(), traffic, to, name, refusal });
        self.report.unheard += u64::from(!told);
    }

    /// Nobody listens there (RFC 9293, 3.10.7.1).
    fn refuse_segment(&mut self, segment: &Segment<'_>) {
        if segment.flags.has(Flags::RST) {
            return;
        }
        let Some(cable) = &mut self.cable else { return };
        let (sequence, flags) = if segment.flags.has(Flags::ACK) {
            (segment.acknowledged, Flags::RST)
        } else {
            (0, Flags::RST.and(Flags::ACK))
        };
        let length = segment.payload.len() as u32
            + u32::from(segment.flags.has(Flags::SYN))
            + u32::from(segment.flags.has(Flags::FIN));
        let sending = Sending {
            from: segment.to,
            to: segment.from,
            sequence,
            acknowledged: segment.sequence.wrapping_add(length),
            flags,
            window: 0,
            options: None,
        };
        cable.frame(|out, mac| emit_segment(out, mac, &sending, [&[], &[]]));
    }

    fn take_datagram(&mut self, packet: &Packet<'_>, datagram: &Datagram<'_>) {
        if is_nameserver(datagram.to.ip()) {
            if datagram.to.port() == 53 {
                self.asked(datagram);
            } else {
                self.unreachable(packet, Unreachable::Port);
            }
            return;
        }
        let ends = Ends { guest: datagram.from, remote: datagram.to };
        match self.speak(Kind::Udp, ends, datagram.payload) {
            Ok(()) => {}
            Err(why) => self.unreachable(packet, why),
        }
    }

    fn take_echo(&mut self, packet: &Packet<'_>, echo: wire::Echo<'_>) {
        if is_gateway(packet.to) || is_nameserver(packet.to) {
            if let Some(cable) = &mut self.cable {
                cable.frame(|out, mac| wire::echo_reply(out, mac, packet.to, packet.from, echo));
            }
            return;
        }
        if let Some(place) = self.reach.place_of(packet.to) {
            let allowed = self.judge(Traffic::Ping, (packet.to, 0).into()).is_some();
            let ids = (echo.identifier, echo.sequence);
            let sent = allowed.then(|| self.send_member(place, ParcelKind::EchoRequest, ids, echo.payload));
            match sent {
                None => self.unreachable(packet, Unreachable::Forbidden),
                Some(Err(Errno::NOENT | Errno::CONNREFUSED)) => self.unreachable(packet, Unreachable::Host),
                Some(_) => {}
            }
            return;
        }
        let guest = (packet.from, echo.identifier).into();
        let ends = Ends { guest, remote: (packet.to, 0).into() };
        let message = crate::datagrams::echo_request(packet.to, echo.sequence, echo.payload);
        if let Err(why) = self.speak(Kind::Ping, ends, &message) {
            self.unreachable(packet, why);
        }
    }

    /// The guest answers a ping of a member's; who asks for none makes nothing of it.
    fn answer_member(&mut self, packet: &Packet<'_>, reply: wire::Echo<'_>) {
        if let Some(place) = self.reach.place_of(packet.to) {
            // One that is gone needs no answer.
            let _ = self.send_member(
                place,
                ParcelKind::EchoReply,
                (reply.identifier, reply.sequence),
                reply.payload,
            );
        }
    }

    fn unreachable(&mut self, packet: &Packet<'_>, why: Unreachable) {
        let Some(cable) = &mut self.cable else { return };
        // In the name of whom it was for: the guest believes it, and nobody else is there.
        let ends = (packet.to, packet.from);
        cable.frame(|out, mac| wire::unreachable(out, mac, ends, packet.whole, why));
    }

    /// Notes what a connection wants next.
    pub(super) fn after(&mut self, key: crate::slab::Key, fate: Fate) {
        match fate {
            Fate::Over => self.remove_flow(key),
            Fate::Eager => self.eager.push_back(key),
            Fate::Waits => {}
        }
        let Some(flow) = self.flows.get_mut(key) else { return };
        if flow.owes {
            self.owing.push(key);
        }
        self.remember(key);
    }
}

/// A number that nobody can guess.
pub(super) fn random() -> u32 {
    let mut bytes = [0; 4];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    filled.expect("a kernel that runs has randomness");
    u32::from_ne_bytes(bytes)
}
