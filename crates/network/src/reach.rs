//! What a guest may reach: the one place where that is decided, for each connection by itself.
//!
//! Every address that a guest can name comes here, also those that it made up: the host's loopback and own
//! addresses, link-local ones (among them those from which clouds hand out credentials), multicast. Whatever name
//! led to an address, it is the address that counts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::addresses::{is_gateway, is_inside};

/// Whether a guest may reach this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostAccess {
    /// Not at all.
    #[default]
    Refused,
    /// Its loopback interface, as `host.microagent.internal`.
    Allowed,
}

/// Why a guest may not reach something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It is this host.
    Host,
    /// Addresses of this kind are for one link only, and services that trust it.
    LinkLocal,
    /// It is no address of one machine.
    NotOne,
    /// Nobody has it.
    Nobody,
}

/// Where a connection to `to` leads on this host, or why nowhere.
pub(crate) fn decide(to: SocketAddr, access: HostAccess) -> Result<SocketAddr, Refusal> {
    let address = to.ip().to_canonical();
    if is_inside(address) {
        if !is_gateway(address) {
            return Err(Refusal::Nobody);
        }
        return match access {
            HostAccess::Allowed => Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), to.port())),
            HostAccess::Refused => Err(Refusal::Host),
        };
    }
    refused_range(address)?;
    if is_own(address) {
        return Err(Refusal::Host);
    }
    Ok(SocketAddr::new(address, to.port()))
}

/// Addresses that are refused wherever they lead.
fn refused_range(address: IpAddr) -> Result<(), Refusal> {
    let refusal = match address {
        IpAddr::V4(address) => refused_4(address),
        IpAddr::V6(address) => refused_6(address),
    };
    refusal.map_or(Ok(()), Err)
}

fn refused_4(address: Ipv4Addr) -> Option<Refusal> {
    let [first, ..] = address.octets();
    match address {
        _ if first == 127 || first == 0 => Some(Refusal::Host),
        _ if address.is_link_local() => Some(Refusal::LinkLocal),
        // The credentials of two clouds that do not use link-local addresses.
        _ if address == Ipv4Addr::new(100, 100, 100, 200) || address == Ipv4Addr::new(192, 0, 0, 192) => {
            Some(Refusal::LinkLocal)
        }
        // Multicast, reserved, and broadcast.
        _ if first >= 224 => Some(Refusal::NotOne),
        _ => None,
    }
}

fn refused_6(address: Ipv6Addr) -> Option<Refusal> {
    let segments = address.segments();
    let (high, low) = (segments[6].to_be_bytes(), segments[7].to_be_bytes());
    let embedded = Ipv4Addr::new(high[0], high[1], low[0], low[1]);
    match segments {
        // Unspecified, loopback, and IPv4 addresses in their old clothes.
        [0, 0, 0, 0, 0, 0, ..] => Some(Refusal::Host),
        [0xff00..=0xffff, ..] => Some(Refusal::NotOne),
        // The second is where a cloud hands out credentials.
        [0xfe80..=0xfeff, ..] | [0xfd00, 0x0ec2, ..] => Some(Refusal::LinkLocal),
        // Translated to IPv4 somewhere (RFC 6052, RFC 3056).
        [0x64, 0xff9b, ..] => refused_4(embedded),
        [0x2002, high, low, ..] => {
            let (high, low) = (high.to_be_bytes(), low.to_be_bytes());
            refused_4(Ipv4Addr::new(high[0], high[1], low[0], low[1]))
        }
        _ => None,
    }
}

/// Whether it is an address of this host now: to itself a host speaks from the very address that it speaks to.
fn is_own(address: IpAddr) -> bool {
    source_for(address).is_some_and(|source| source == address || source.is_loopback())
}

/// Whether this host has a way to addresses of the Internet over IPv6.
pub(crate) fn has_ipv6() -> bool {
    source_for(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888).into()).is_some()
}

/// The address from which this host would speak to `address`; no packet is sent to find out.
fn source_for(address: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((address, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(address: &str, access: HostAccess) -> Result<SocketAddr, Refusal> {
        decide(SocketAddr::new(address.parse().unwrap(), 80), access)
    }

    #[test]
    fn this_host_is_reached_by_one_address_and_only_when_that_is_allowed() {
        assert_eq!(asked("10.0.2.2", HostAccess::Refused), Err(Refusal::Host));
        assert_eq!(asked("10.0.2.2", HostAccess::Allowed), Ok("127.0.0.1:80".parse().unwrap()));
        for access in [HostAccess::Refused, HostAccess::Allowed] {
            for own in ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::127.0.0.1"] {
                assert_eq!(asked(own, access), Err(Refusal::Host), "{own}");
            }
        }
    }

    #[test]
    fn what_serves_one_link_or_many_machines_is_refused() {
        for address in ["169.254.169.254", "169.254.0.1", "fe80::1", "fd00:ec2::254", "100.100.100.200"] {
            assert_eq!(asked(address, HostAccess::Allowed), Err(Refusal::LinkLocal), "{address}");
        }
        for address in ["64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::ffff:169.254.169.254"] {
            assert_eq!(asked(address, HostAccess::Allowed), Err(Refusal::LinkLocal), "{address}");
        }
        for address in ["224.0.0.1", "255.255.255.255", "240.0.0.1", "ff02::1"] {
            assert_eq!(asked(address, HostAccess::Allowed), Err(Refusal::NotOne), "{address}");
        }
        for address in ["10.0.2.3", "10.0.2.77", "fd6d:6963:726f::9"] {
            assert_eq!(asked(address, HostAccess::Allowed), Err(Refusal::Nobody), "{address}");
        }
    }

    #[test]
    fn what_is_elsewhere_is_reached() {
        assert_eq!(asked("198.51.100.7", HostAccess::Refused), Ok("198.51.100.7:80".parse().unwrap()));
        assert_eq!(asked("2001:db8::7", HostAccess::Refused), Ok("[2001:db8::7]:80".parse().unwrap()));
    }
}
