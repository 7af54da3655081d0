//! ICMP: echo, and that something cannot be reached.

use std::net::IpAddr;

use super::ip::{self, Packet, Protocol};
use super::word;
use crate::addresses::Mac;

/// An echo request of the guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Echo<'a> {
    pub(crate) identifier: u16,
    pub(crate) sequence: u16,
    pub(crate) payload: &'a [u8],
}

/// Why something is not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreachable {
    /// Nobody listens there.
    Port,
    /// There is no way.
    Host,
    /// It is not allowed.
    Forbidden,
}

/// The echo request in `packet`, if it is a sound one.
pub(crate) fn echo<'a>(packet: &Packet<'a>) -> Option<Echo<'a>> {
    let request = if packet.from.is_ipv4() { 8 } else { 128 };
    parse(packet, request)
}

/// The echo reply in `packet`, if it is a sound one.
pub(crate) fn echo_replied<'a>(packet: &Packet<'a>) -> Option<Echo<'a>> {
    let reply = if packet.from.is_ipv4() { 0 } else { 129 };
    parse(packet, reply)
}

fn parse<'a>(packet: &Packet<'a>, kind: u8) -> Option<Echo<'a>> {
    let bytes = packet.payload;
    if *bytes.first()? != kind || !ip::is_sound(packet) {
        return None;
    }
    Some(Echo { identifier: word(bytes, 4)?, sequence: word(bytes, 6)?, payload: &bytes[8..] })
}

/// Appends a frame with the answer to an echo request that went to `from`.
pub(crate) fn echo_reply(out: &mut Vec<u8>, mac: Mac, from: IpAddr, to: IpAddr, echo: Echo<'_>) {
    let kind = if from.is_ipv4() { 0 } else { 129 };
    emit(out, mac, (from, to), kind, echo);
}

/// Appends a frame with an echo request of somebody else's.
pub(crate) fn echo_request(out: &mut Vec<u8>, mac: Mac, from: IpAddr, to: IpAddr, echo: Echo<'_>) {
    let kind = if from.is_ipv4() { 8 } else { 128 };
    emit(out, mac, (from, to), kind, echo);
}

fn emit(out: &mut Vec<u8>, mac: Mac, (from, to): (IpAddr, IpAddr), kind: u8, echo: Echo<'_>) {
    let length = 8 + echo.payload.len();
    ip::headers(out, mac, (from, to), Protocol::Icmp, length);
    out.extend_from_slice(&[kind, 0, 0, 0]);
    out.extend_from_slice(&echo.identifier.to_be_bytes());
    out.extend_from_slice(&echo.sequence.to_be_bytes());
    out.extend_from_slice(echo.payload);
    ip::seal(out, (from, to), Protocol::Icmp, length, 2);
}

/// Appends a frame that says that the packet `quoted`, of the guest's, did not arrive.
pub(crate) fn unreachable(
    out: &mut Vec<u8>,
    mac: Mac,
    addresses: (IpAddr, IpAddr),
    quoted: &[u8],
    why: Unreachable,
) {
    let (kind, code) = match (addresses.0, why) {
        (IpAddr::V4(_), Unreachable::Port) => (3, 3),
        (IpAddr::V4(_), Unreachable::Host) => (3, 1),
        (IpAddr::V4(_), Unreachable::Forbidden) => (3, 13),
        (IpAddr::V6(_), Unreachable::Port) => (1, 4),
        (IpAddr::V6(_), Unreachable::Host) => (1, 0),
        (IpAddr::V6(_), Unreachable::Forbidden) => (1, 1),
    };
    // Enough of it to tell which one it was; RFC 1812, 4.3.2.3.
    let quoted = &quoted[..quoted.len().min(512)];
    let length = 8 + quoted.len();
    ip::headers(out, mac, addresses, Protocol::Icmp, length);
    out.extend_from_slice(&[kind, code, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(quoted);
    ip::seal(out, addresses, Protocol::Icmp, length, 2);
}
