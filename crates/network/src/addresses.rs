//! The addresses of the little network that a guest is in: the same for every guest, since each is alone in its own.
//!
//! ```text
//! 10.0.2.15   fd6d:6963:726f::f   the guest
//! 10.0.2.2    fd6d:6963:726f::2   the way out, and, where it is allowed, this host
//! 10.0.2.3    fd6d:6963:726f::3   the name server
//! ```
//!
//! They are those of QEMU's own user network, which people and images are used to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The guest.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// The default route, and this host.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The name server.
pub const NAMESERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The length of the subnet's prefix, in bits.
pub const PREFIX: u8 = 24;

/// The guest.
pub const GUEST_6: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0x6963, 0x726f, 0, 0, 0, 0, 0xf);
/// The default route.
pub const GATEWAY_6: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0x6963, 0x726f, 0, 0, 0, 0, 2);
/// The name server.
pub const NAMESERVER_6: Ipv6Addr = Ipv6Addr::new(0xfd6d, 0x6963, 0x726f, 0, 0, 0, 0, 3);
/// The length of the subnet's prefix, in bits.
pub const PREFIX_6: u8 = 64;

/// By this name the guest finds this host, where that is allowed.
pub const HOST_NAME: &str = "host.microagent.internal";

/// The longest IP packet on the cable, in bytes. Each packet costs a guest the same, however long it is.
pub const MTU: u16 = 65_520;

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// Ours; locally administered.
pub(crate) const OUR_MAC: Mac = [0x52, 0x55, 10, 0, 2, 2];

pub(crate) fn is_guest(address: IpAddr) -> bool {
    address == IpAddr::V4(GUEST) || address == IpAddr::V6(GUEST_6)
}

pub(crate) fn is_gateway(address: IpAddr) -> bool {
    address == IpAddr::V4(GATEWAY) || address == IpAddr::V6(GATEWAY_6)
}

pub(crate) fn is_nameserver(address: IpAddr) -> bool {
    address == IpAddr::V4(NAMESERVER) || address == IpAddr::V6(NAMESERVER_6)
}

/// Whether it is an address of the little network itself.
pub(crate) fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..3] == GUEST.octets()[..3],
        IpAddr::V6(address) => address.octets()[..8] == GUEST_6.octets()[..8],
    }
}
