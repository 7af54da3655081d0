//! Frames: what a guest sends, taken apart, and what it is sent, put together. Nothing here keeps anything.
//!
//! ```text
//! Ethernet (IEEE 802.3)  to 6 | from 6 | type 2
//!   ARP   (RFC 826)      answered for the gateway and the name server
//!   IPv4  (RFC 791)      no fragments; checksum of the header verified
//!   IPv6  (RFC 8200)     without extension headers
//!     TCP (RFC 9293)  UDP (RFC 768)  ICMP (RFC 792, 4443) with echo and neighbour discovery (RFC 4861)
//! ```
//!
//! Every byte is the guest's: what does not parse, or whose checksum is wrong, is nothing.

mod checksum;
mod icmp;
mod ip;
mod neighbour;
mod tcp;
mod udp;

use crate::addresses::{Mac, OUR_MAC};

pub(crate) use icmp::{Echo, Unreachable, echo, echo_replied, echo_reply, echo_request, unreachable};
pub(crate) use ip::{Packet, Protocol};
pub(crate) use neighbour::{arp_reply, neighbour_reply};
pub(crate) use tcp::{Flags, Segment, Sending, emit_segment};
pub(crate) use udp::{Datagram, LONGEST_DATAGRAM, emit_datagram};

/// The length of an Ethernet header.
const ETHERNET: usize = 14;

/// The longest frame: that of the longest packet.
pub(crate) const LONGEST_FRAME: usize = ETHERNET + crate::addresses::MTU as usize;

/// A frame, taken apart as far as its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) from: Mac,
    pub(crate) content: Content<'a>,
}

/// What is in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    Arp(&'a [u8]),
    Ip(Packet<'a>),
    /// Nothing that we would answer.
    Other,
}

/// Takes a frame apart; `None` if it is none.
pub(crate) fn parse(frame: &[u8]) -> Option<Frame<'_>> {
    let (header, rest) = frame.split_at_checked(ETHERNET)?;
    let from = header[6..12].try_into().ok()?;
    let content = match [header[12], header[13]] {
        [0x08, 0x06] => Content::Arp(rest),
        [0x08, 0x00] | [0x86, 0xdd] => ip::parse(rest)?.map_or(Content::Other, Content::Ip),
        _ => Content::Other,
    };
    Some(Frame { from, content })
}

/// Whether it is a part of a packet. With the cable's MTU a guest has no reason to cut any.
pub(crate) fn is_fragment(frame: &[u8]) -> bool {
    let Some((header, packet)) = frame.split_at_checked(ETHERNET) else { return false };
    match [header[12], header[13]] {
        // More to come, or not the first one.
        [0x08, 0x00] => word(packet, 6).is_some_and(|fragment| fragment & 0x3fff != 0),
        // RFC 8200, 4.5.
        [0x86, 0xdd] => packet.get(6) == Some(&44),
        _ => false,
    }
}

/// The big-endian number at `at`.
fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The same, of four bytes.
fn double(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Appends the Ethernet header of a frame to `to`.
fn ethernet(out: &mut Vec<u8>, to: Mac, kind: u16) {
    out.extend_from_slice(&to);
    out.extend_from_slice(&OUR_MAC);
    out.extend_from_slice(&kind.to_be_bytes());
}

#[cfg(test)]
mod tests;
