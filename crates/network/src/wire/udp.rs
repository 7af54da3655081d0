//! UDP datagrams.

use std::net::SocketAddr;

use super::ip::{self, Packet, Protocol};
use super::word;
use crate::addresses::{MTU, Mac};

const HEADER: usize = 8;

/// The most that a datagram carries without being cut into fragments, over IPv6, in bytes.
pub(crate) const LONGEST_DATAGRAM: usize = MTU as usize - 40 - HEADER;

/// A datagram of the guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Datagram<'a> {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// The datagram in `packet`; `None` if it is damaged.
    pub(crate) fn parse(packet: &Packet<'a>) -> Option<Self> {
        let length = usize::from(word(packet.payload, 4)?);
        let whole = packet.payload.get(..length).filter(|whole| whole.len() >= HEADER)?;
        // Over IPv4 there need not be a checksum.
        let unsummed = packet.from.is_ipv4() && word(whole, 6)? == 0;
        if !unsummed && !ip::is_sound(&Packet { payload: whole, ..*packet }) {
            return None;
        }
        Some(Self {
            from: SocketAddr::new(packet.from, word(whole, 0)?),
            to: SocketAddr::new(packet.to, word(whole, 2)?),
            payload: &whole[HEADER..],
        })
    }
}

/// Appends a frame with a datagram of at most [`LONGEST_DATAGRAM`] bytes.
pub(crate) fn emit_datagram(out: &mut Vec<u8>, mac: Mac, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
    let length = HEADER + payload.len();
    let addresses = (from.ip(), to.ip());
    ip::headers(out, mac, addresses, Protocol::Udp, length);
    out.extend_from_slice(&from.port().to_be_bytes());
    out.extend_from_slice(&to.port().to_be_bytes());
    out.extend_from_slice(&(length as u16).to_be_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(payload);
    ip::seal(out, addresses, Protocol::Udp, length, 6);
}
