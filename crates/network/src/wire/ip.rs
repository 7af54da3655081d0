//! IPv4 and IPv6 headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{checksum, ethernet, word};
use crate::addresses::Mac;

const HEADER_4: usize = 20;
const HEADER_6: usize = 40;

/// A packet of a protocol that we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) payload: &'a [u8],
    /// The packet from its own header on, for answers that quote it.
    pub(crate) whole: &'a [u8],
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

impl Protocol {
    pub(super) fn number(self, address: IpAddr) -> u8 {
        match (self, address) {
            (Self::Tcp, _) => 6,
            (Self::Udp, _) => 17,
            (Self::Icmp, IpAddr::V4(_)) => 1,
            (Self::Icmp, IpAddr::V6(_)) => 58,
        }
    }
}

/// Takes a packet apart; `None` if it is damaged, nothing inside if it is of no concern.
#[expect(clippy::option_option, reason = "damaged and uninteresting are counted apart")]
pub(super) fn parse(bytes: &[u8]) -> Option<Option<Packet<'_>>> {
    match bytes.first()? >> 4 {
        4 => parse_4(bytes),
        6 => parse_6(bytes),
        _ => None,
    }
}

#[expect(clippy::option_option, reason = "as above")]
fn parse_4(bytes: &[u8]) -> Option<Option<Packet<'_>>> {
    let header = usize::from(bytes[0] & 0xf) * 4;
    let total = usize::from(word(bytes, 2)?);
    if header < HEADER_4 || total < header {
        return None;
    }
    let whole = bytes.get(..total)?;
    if checksum::finish(checksum::add(0, &whole[..header])) != 0 {
        return None;
    }
    // More fragments to come, or not the first one: with the cable's MTU a guest has no reason for any.
    if word(whole, 6)? & 0x3fff != 0 {
        return None;
    }
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(whole.get(at..at + 4)?).ok()?));
    let (from, to) = (IpAddr::V4(address(12)?), IpAddr::V4(address(16)?));
    let protocol = match whole[9] {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        1 => Protocol::Icmp,
        _ => return Some(None),
    };
    Some(Some(Packet { from, to, protocol, payload: &whole[header..], whole }))
}

#[expect(clippy::option_option, reason = "as above")]
fn parse_6(bytes: &[u8]) -> Option<Option<Packet<'_>>> {
    let length = usize::from(word(bytes, 4)?);
    let whole = bytes.get(..HEADER_6 + length)?;
    let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(whole.get(at..at + 16)?).ok()?));
    let (from, to) = (IpAddr::V6(address(8)?), IpAddr::V6(address(24)?));
    let protocol = match whole[6] {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        58 => Protocol::Icmp,
        _ => return Some(None),
    };
    Some(Some(Packet { from, to, protocol, payload: &whole[HEADER_6..], whole }))
}

/// Appends Ethernet and IP headers for `length` bytes of `protocol`. Both addresses are of one family.
pub(super) fn headers(
    out: &mut Vec<u8>,
    mac: Mac,
    addresses: (IpAddr, IpAddr),
    protocol: Protocol,
    length: usize,
) {
    let number = protocol.number(addresses.0);
    match addresses {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            ethernet(out, mac, 0x0800);
            let start = out.len();
            let total = ((HEADER_4 + length) as u16).to_be_bytes();
            // No fragments, so no identification is needed (RFC 6864, 4.1); 64 hops.
            out.extend_from_slice(&[0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, number, 0, 0]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
            let sum = checksum::finish(checksum::add(0, &out[start..]));
            out[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            ethernet(out, mac, 0x86dd);
            let length = (length as u16).to_be_bytes();
            // Neighbour discovery demands 255 hops (RFC 4861, 7.1), and nothing minds them.
            out.extend_from_slice(&[0x60, 0, 0, 0, length[0], length[1], number, 255]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        _ => unreachable!("both addresses are of one family"),
    }
}

/// Puts the checksum of the `length` bytes at the end of `out` into them, at `at`.
pub(super) fn seal(
    out: &mut [u8],
    addresses: (IpAddr, IpAddr),
    protocol: Protocol,
    length: usize,
    at: usize,
) {
    let start = out.len() - length;
    // ICMP for IPv4 has no pseudo header (RFC 792).
    let pseudo = match (protocol, addresses.0) {
        (Protocol::Icmp, IpAddr::V4(_)) => 0,
        _ => checksum::pseudo(addresses.0, addresses.1, protocol.number(addresses.0), length),
    };
    let mut sum = checksum::finish(checksum::add(pseudo, &out[start..]));
    if sum == 0 && protocol == Protocol::Udp {
        // Zero says that there is none (RFC 768).
        sum = 0xffff;
    }
    out[start + at..start + at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Whether the checksum in a packet's payload is right.
pub(super) fn is_sound(packet: &Packet<'_>) -> bool {
    let number = packet.protocol.number(packet.from);
    let pseudo = match (packet.protocol, packet.from) {
        (Protocol::Icmp, IpAddr::V4(_)) => 0,
        _ => checksum::pseudo(packet.from, packet.to, number, packet.payload.len()),
    };
    checksum::finish(checksum::add(pseudo, packet.payload)) == 0
}
