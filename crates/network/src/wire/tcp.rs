//! TCP segments (RFC 9293, 3.1), with the two options that matter: segment size and window scale (RFC 7323).

use std::net::{IpAddr, SocketAddr};

use super::ip::{self, Packet, Protocol};
use super::{double, word};
use crate::addresses::Mac;

const HEADER: usize = 20;

/// The flags of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flags(u8);

impl Flags {
    pub(crate) const FIN: Self = Self(1);
    pub(crate) const SYN: Self = Self(2);
    pub(crate) const RST: Self = Self(4);
    pub(crate) const PSH: Self = Self(8);
    pub(crate) const ACK: Self = Self(16);

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A segment of the guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) sequence: u32,
    pub(crate) acknowledged: u32,
    pub(crate) flags: Flags,
    /// As it is written, not scaled.
    pub(crate) window: u16,
    /// Of a SYN: the longest segment that the guest takes.
    pub(crate) most: Option<u16>,
    /// Of a SYN: by how many bits its windows are to be shifted.
    pub(crate) scale: Option<u8>,
    pub(crate) payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// The segment in `packet`; `None` if it is damaged.
    pub(crate) fn parse(packet: &Packet<'a>) -> Option<Self> {
        let bytes = packet.payload;
        let header = usize::from(*bytes.get(12)? >> 4) * 4;
        if header < HEADER || header > bytes.len() || !ip::is_sound(packet) {
            return None;
        }
        let mut segment = Self {
            from: SocketAddr::new(packet.from, word(bytes, 0)?),
            to: SocketAddr::new(packet.to, word(bytes, 2)?),
            sequence: double(bytes, 4)?,
            acknowledged: double(bytes, 8)?,
            flags: Flags(bytes[13]),
            window: word(bytes, 14)?,
            most: None,
            scale: None,
            payload: &bytes[header..],
        };
        if segment.flags.has(Flags::SYN) {
            segment.read_options(&bytes[HEADER..header]);
        }
        Some(segment)
    }

    /// Options that make no sense are as good as none.
    fn read_options(&mut self, mut options: &[u8]) {
        while let [kind, rest @ ..] = options {
            match kind {
                0 => return,
                1 => {
                    options = rest;
                    continue;
                }
                _ => {}
            }
            let Some(length) = rest.first().map(|length| usize::from(*length)).filter(|length| *length >= 2)
            else {
                return;
            };
            let Some((option, further)) = options.split_at_checked(length) else { return };
            match option {
                [2, 4, high, low] => self.most = Some(u16::from_be_bytes([*high, *low])),
                // RFC 7323, 2.3: more than 14 is to be read as 14.
                [3, 3, scale] => self.scale = Some((*scale).min(14)),
                _ => {}
            }
            options = further;
        }
    }
}

/// A segment for the guest, but for its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sending {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) sequence: u32,
    pub(crate) acknowledged: u32,
    pub(crate) flags: Flags,
    pub(crate) window: u16,
    /// Of a SYN: what we take, and our scale if there is to be one.
    pub(crate) options: Option<(u16, Option<u8>)>,
}

/// Appends a frame with the segment and both parts of its payload.
pub(crate) fn emit_segment(out: &mut Vec<u8>, mac: Mac, sending: &Sending, payload: [&[u8]; 2]) {
    let options = match sending.options {
        None => 0,
        Some((_, None)) => 4,
        Some((_, Some(_))) => 8,
    };
    let length = HEADER + options + payload[0].len() + payload[1].len();
    let addresses: (IpAddr, IpAddr) = (sending.from.ip(), sending.to.ip());
    ip::headers(out, mac, addresses, Protocol::Tcp, length);
    out.extend_from_slice(&sending.from.port().to_be_bytes());
    out.extend_from_slice(&sending.to.port().to_be_bytes());
    out.extend_from_slice(&sending.sequence.to_be_bytes());
    out.extend_from_slice(&sending.acknowledged.to_be_bytes());
    out.extend_from_slice(&[(((HEADER + options) / 4) as u8) << 4, sending.flags.0]);
    out.extend_from_slice(&sending.window.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    if let Some((size, scale)) = sending.options {
        let [high, low] = size.to_be_bytes();
        out.extend_from_slice(&[2, 4, high, low]);
        if let Some(scale) = scale {
            out.extend_from_slice(&[1, 3, 3, scale]);
        }
    }
    out.extend_from_slice(payload[0]);
    out.extend_from_slice(payload[1]);
    ip::seal(out, addresses, Protocol::Tcp, length, 16);
}
