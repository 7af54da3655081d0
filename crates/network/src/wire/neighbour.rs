//! Who has which address: ARP, and IPv6's neighbour discovery.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ethernet;
use super::ip::{self, Packet, Protocol};
use crate::addresses::{Mac, OUR_MAC, is_gateway, is_nameserver};

/// Appends the answer to the ARP request in `content`, if it is one for an address of ours.
pub(crate) fn arp_reply(out: &mut Vec<u8>, content: &[u8]) -> Option<()> {
    let request = content.get(..28)?;
    // Ethernet and IPv4, with addresses of their lengths; a request.
    if request[..8] != [0, 1, 8, 0, 6, 4, 0, 1] {
        return None;
    }
    let wanted = Ipv4Addr::from(<[u8; 4]>::try_from(&request[24..28]).ok()?);
    if !is_gateway(wanted.into()) && !is_nameserver(wanted.into()) {
        return None;
    }
    ethernet(out, request[8..14].try_into().ok()?, 0x0806);
    out.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, 2]);
    out.extend_from_slice(&OUR_MAC);
    out.extend_from_slice(&wanted.octets());
    out.extend_from_slice(&request[8..18]);
    Some(())
}

/// Appends the answer to the neighbour solicitation in `packet` (RFC 4861, 4.3), if it is one for an address of
/// ours.
pub(crate) fn neighbour_reply(out: &mut Vec<u8>, mac: Mac, packet: &Packet<'_>) -> Option<()> {
    let request = packet.payload.get(..24)?;
    if packet.from.is_ipv4() || request[..2] != [135, 0] || !ip::is_sound(packet) {
        return None;
    }
    let wanted = IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&request[8..24]).ok()?));
    // One that has no address yet only wants to know whether it may have it.
    if packet.from.is_unspecified() || !is_gateway(wanted) && !is_nameserver(wanted) {
        return None;
    }
    let addresses = (wanted, packet.from);
    ip::headers(out, mac, addresses, Protocol::Icmp, 32);
    // Solicited, and overriding what was known.
    out.extend_from_slice(&[136, 0, 0, 0, 0x60, 0, 0, 0]);
    out.extend_from_slice(&request[8..24]);
    out.extend_from_slice(&[2, 1]);
    out.extend_from_slice(&OUR_MAC);
    ip::seal(out, addresses, Protocol::Icmp, 32, 2);
    Some(())
}
