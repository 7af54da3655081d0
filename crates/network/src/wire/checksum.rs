//! The Internet checksum (RFC 1071).

use std::net::IpAddr;

/// The sum of `bytes` as big-endian words, added to `sum`; an odd last byte is the high one of a word.
pub(super) fn add(sum: u64, bytes: &[u8]) -> u64 {
    // Words of any width may be added, since carries go around in the end (RFC 1071, 2).
    let (chunks, rest) = bytes.as_chunks::<4>();
    let mut total = sum;
    for chunk in chunks {
        total += u64::from(u32::from_be_bytes(*chunk));
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    total + u64::from(u32::from_be_bytes(last))
}

/// The checksum of what was summed up.
pub(super) fn finish(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The sum of the pseudo header (RFC 9293, 3.1; RFC 8200, 8.1).
pub(super) fn pseudo(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> u64 {
    let addresses = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => add(add(0, &from.octets()), &to.octets()),
        (IpAddr::V6(from), IpAddr::V6(to)) => add(add(0, &from.octets()), &to.octets()),
        _ => 0,
    };
    addresses + u64::from(protocol) + length as u64
}
