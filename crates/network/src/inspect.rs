//! A guest's bytes, taken apart and not acted upon: what a fuzzer looks at.

use crate::addresses::Mac;
use crate::cable::split_frame;
use crate::dns::{Question, answer, found};
use crate::egress::EgressRule;
use crate::named::{Call, Parcel};
use crate::resolv_conf::ResolvConf;
use crate::wire::{self, Content, Datagram, Packet, Protocol, Segment, arp_reply, neighbour_reply};

/// Takes `bytes` for what comes over a cable, and takes every frame apart as the stack does; how many made sense.
///
/// The same bytes are also taken for what members of a network say, for a rule, and for a resolv.conf.
pub fn inspect(mut bytes: &[u8]) -> usize {
    let _ = (Call::parse(bytes), Parcel::parse(bytes));
    if let Some(rule) = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<EgressRule>().ok()) {
        assert_eq!(rule.to_string().parse(), Ok(rule), "a rule is what it shows");
    }
    for domain in ResolvConf::parse(&String::from_utf8_lossy(bytes)).search {
        assert_eq!(domain.to_string().parse(), Ok(domain), "a domain is what it shows");
    }
    let mut sensible = 0;
    while let Ok(Some((frame, length))) = split_frame(bytes) {
        sensible += usize::from(inspect_frame(frame).is_some());
        bytes = &bytes[length..];
    }
    sensible
}

fn inspect_frame(frame: &[u8]) -> Option<()> {
    let frame = wire::parse(frame)?;
    match frame.content {
        Content::Arp(content) => arp_reply(&mut Vec::new(), content),
        Content::Ip(packet) => inspect_packet(frame.from, &packet),
        Content::Other => None,
    }
}

fn inspect_packet(from: Mac, packet: &Packet<'_>) -> Option<()> {
    match packet.protocol {
        Protocol::Tcp => drop(Segment::parse(packet)?),
        Protocol::Icmp => {
            let out = &mut Vec::new();
            match wire::echo(packet) {
                Some(echo) => wire::echo_reply(out, from, packet.to, packet.from, echo),
                None if wire::echo_replied(packet).is_some() => {}
                None => neighbour_reply(out, from, packet)?,
            }
        }
        Protocol::Udp => {
            let datagram = Datagram::parse(packet)?;
            if let Some(question) = Question::parse(datagram.payload) {
                answer(datagram.payload, &question, 0, &[packet.from], 1);
                found(datagram.payload, &question);
            }
        }
    }
    Some(())
}
