//! Published ports: what is wanted, and the sockets that listen for it.
//!
//! They are bound before anything boots, so that a port that is taken is known at once, and they outlive the
//! machine, so that a guest may restart behind them.

mod withdraw;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::str::FromStr;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use serde::{Deserialize, Serialize};

pub use withdraw::withdraw;

/// How many connections may wait to be accepted; the host may allow less.
const BACKLOG: i32 = 4096;

/// The most ports that one range may name.
const LONGEST_RANGE: u16 = 1024;

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for PortProtocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Ports to publish, in Docker's words: `[IP:][HOST:]GUEST[/tcp|udp]`, where both ports may be ranges of one length, or
/// the host's a range to choose from for one port of the guest's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishSpec {
    /// Where on this host; everywhere if absent.
    pub address: Option<IpAddr>,
    /// The first port of this host; 0 for any that is free.
    pub host: u16,
    /// How many ports of this host there are to choose from, for each of the guest's.
    pub choices: u16,
    /// The first port of the guest.
    pub guest: u16,
    /// How many ports.
    pub number: u16,
    /// Of which protocol.
    pub protocol: PortProtocol,
}

/// A text that names no ports to publish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` names no ports to publish: {why}; write it like `8080:80`, `127.0.0.1:8080:80` or `5000-5009:5000-5009/udp`"
)]
pub struct InvalidPublish {
    text: String,
    why: &'static str,
}

impl FromStr for PublishSpec {
    type Err = InvalidPublish;

    fn from_str(text: &str) -> Result<Self, InvalidPublish> {
        Self::parse(text).map_err(|why| InvalidPublish { text: text.to_owned(), why })
    }
}

impl PublishSpec {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (ports, protocol) = match text.rsplit_once('/') {
            None => (text, PortProtocol::Tcp),
            Some((ports, "tcp")) => (ports, PortProtocol::Tcp),
            Some((ports, "udp")) => (ports, PortProtocol::Udp),
            Some(_) => return Err("the protocol is neither `tcp` nor `udp`"),
        };
        let (host_side, guest) =
            ports.rsplit_once(':').map_or((None, ports), |(host, guest)| (Some(host), guest));
        let (guest, number) = range(guest)?;
        if guest == 0 {
            return Err("the guest's port is 0");
        }
        let (address, host) = match host_side {
            None => (None, ""),
            Some(side) => match side.rsplit_once(':') {
                None => (None, side),
                Some((address, host)) => (Some(parse_address(address)?), host),
            },
        };
        let (host, choices) =
            if host.is_empty() || host == "0" { (0, 1) } else { host_side_of(host, number)? };
        Ok(Self { address, host, choices, guest, number, protocol })
    }

    /// The ports of this host that may be the one for this port of the guest's.
    fn hosts(&self, offset: u16) -> RangeInclusive<u16> {
        if self.host == 0 {
            return 0..=0;
        }
        let first = self.host.saturating_add(offset);
        first..=first.saturating_add(self.choices - 1)
    }

    /// Where it is bound: one address, or those of both families.
    fn addresses(&self) -> Vec<IpAddr> {
        self.address
            .map_or_else(|| vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()], |one| vec![one])
    }

    /// Whether it names this port: its address and port on this host, as far as they are given, and the guest's.
    pub fn names(&self, published: &Published) -> bool {
        let guest = published.guest.checked_sub(self.guest).filter(|offset| *offset < self.number);
        let Some(offset) = guest else { return false };
        self.protocol == published.protocol
            && self.address.is_none_or(|address| address == published.address.ip())
            && (self.host == 0 || self.hosts(offset).contains(&published.address.port()))
    }
}

fn parse_address(text: &str) -> Result<IpAddr, &'static str> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    bare.unwrap_or(text).parse().map_err(|_| "the address is no IP address")
}

/// The first port of this host for so many of the guest's, and how many there are to choose from.
fn host_side_of(text: &str, number: u16) -> Result<(u16, u16), &'static str> {
    match range(text)? {
        (0, _) => Err("a range does not begin at port 0"),
        (first, length) if length == number => Ok((first, 1)),
        (first, length) if number == 1 => Ok((first, length)),
        _ => Err("the two ranges differ in length"),
    }
}

/// The first port of a range, and how many it has.
fn range(text: &str) -> Result<(u16, u16), &'static str> {
    let port = |text: &str| text.parse::<u16>().map_err(|_| "a port is a number up to 65535");
    let (first, last) = match text.split_once('-') {
        None => (port(text)?, port(text)?),
        Some((first, last)) => (port(first)?, port(last)?),
    };
    match last.checked_sub(first) {
        None => Err("the range ends before it begins"),
        Some(length) if length >= LONGEST_RANGE => Err("the range is longer than 1024 ports"),
        Some(length) => Ok((first, length + 1)),
    }
}

impl fmt::Display for PublishSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(address)) => write!(formatter, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(formatter, "[{address}]:")?,
            None => {}
        }
        let ports = |first: u16, number: u16| match number {
            1 => first.to_string(),
            _ => format!("{first}-{}", first + (number - 1)),
        };
        let host =
            if self.host == 0 { "0".to_owned() } else { ports(self.host, self.number.max(self.choices)) };
        write!(formatter, "{host}:{}/{}", ports(self.guest, self.number), self.protocol)
    }
}

impl Serialize for PublishSpec {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublishSpec {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A port that is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Published {
    /// Where on this host.
    pub address: SocketAddr,
    /// The guest's port.
    pub guest: u16,
    /// Of which protocol.
    pub protocol: PortProtocol,
}

impl fmt::Display for Published {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}->{}/{}", self.address, self.guest, self.protocol)
    }
}

/// Why a port was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Somebody listens there.
    #[error("port {}/{protocol} of this host is taken", .address.port())]
    Taken {
        /// Where.
        address: SocketAddr,
        /// Of which protocol.
        protocol: PortProtocol,
    },
    /// It cannot be listened on.
    #[error("failed to listen on {address}/{protocol}")]
    Failed {
        /// Where.
        address: SocketAddr,
        /// Of which protocol.
        protocol: PortProtocol,
        /// Why.
        source: std::io::Error,
    },
}

impl PublishError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Taken { protocol, .. } => {
                let letter = if *protocol == PortProtocol::Tcp { 't' } else { 'u' };
                Some(format!("choose another, or 0 for any; see who listens: ss -l{letter}np"))
            }
            Self::Failed { address, source, .. }
                if source.kind() == std::io::ErrorKind::PermissionDenied && address.port() < 1024 =>
            {
                Some("ports below 1024 are for root; choose a higher one".to_owned())
            }
            Self::Failed { .. } => None,
        }
    }
}

/// A socket that listens for a published port.
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: OwnedFd,
    pub(crate) published: Published,
}

impl Listener {
    /// Which port it is.
    pub fn published(&self) -> Published {
        self.published
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Binds all ports of `specs`, or none.
pub fn bind(specs: &[PublishSpec]) -> Result<Vec<Listener>, PublishError> {
    let mut listeners = Vec::new();
    for spec in specs {
        for offset in 0..spec.number {
            bind_one(spec, offset, &mut listeners)?;
        }
    }
    Ok(listeners)
}

/// A free port must be free in both families, so it may take a few tries to find one.
fn bind_one(spec: &PublishSpec, offset: u16, listeners: &mut Vec<Listener>) -> Result<(), PublishError> {
    let (hosts, guest) = (spec.hosts(offset), spec.guest.saturating_add(offset));
    let tries: Vec<u16> = if spec.host == 0 { vec![0; 20] } else { hosts.collect() };
    let (last, others) = tries.split_last().expect("there is one port at least");
    for host in others {
        match try_bind(spec, *host, guest) {
            Err(PublishError::Taken { .. }) => {}
            outcome => return outcome.map(|bound| listeners.extend(bound)),
        }
    }
    try_bind(spec, *last, guest).map(|bound| listeners.extend(bound))
}

fn try_bind(spec: &PublishSpec, host: u16, guest: u16) -> Result<Vec<Listener>, PublishError> {
    let protocol = spec.protocol;
    let mut bound: Vec<Listener> = Vec::new();
    for address in spec.addresses() {
        let port = bound.first().map_or(host, |first| first.published.address.port());
        let address = SocketAddr::new(address, port);
        match listen(address, protocol) {
            Ok((socket, address)) => {
                bound.push(Listener { socket, published: Published { address, guest, protocol } });
            }
            // A host without IPv6 has all that it can have.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if !bound.is_empty() => {}
            Err(Errno::ADDRINUSE) => return Err(PublishError::Taken { address, protocol }),
            Err(error) => return Err(PublishError::Failed { address, protocol, source: error.into() }),
        }
    }
    Ok(bound)
}

fn listen(address: SocketAddr, protocol: PortProtocol) -> Result<(OwnedFd, SocketAddr), Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if protocol == PortProtocol::Tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == PortProtocol::Tcp {
        // Connections of a listener before us that linger are no reason to wait.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    if protocol == PortProtocol::Tcp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    let bound = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((socket, bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_docker_writes_them() {
        for (text, shown) in [
            ("8080:80", "8080:80/tcp"),
            ("80", "0:80/tcp"),
            (":80", "0:80/tcp"),
            ("127.0.0.1:8080:80/udp", "127.0.0.1:8080:80/udp"),
            ("127.0.0.1::80", "127.0.0.1:0:80/tcp"),
            ("[::1]:8080:80", "[::1]:8080:80/tcp"),
            ("::1:8080:80", "[::1]:8080:80/tcp"),
            ("5000-5009:6000-6009", "5000-5009:6000-6009/tcp"),
            ("0:6000-6001", "0:6000-6001/tcp"),
            ("127.0.0.1:8000-8009:80", "127.0.0.1:8000-8009:80/tcp"),
            ("65535:65535", "65535:65535/tcp"),
        ] {
            let spec: PublishSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), shown);
            assert_eq!(shown.parse::<PublishSpec>().unwrap(), spec);
        }
        for bad in [
            "",
            "x",
            "80:0",
            "80:x",
            "70000:80",
            "80:80/sctp",
            "1-2:1-3",
            "1-3:1-2",
            "0-9:80",
            "9-1:9-1",
            "h:1:1",
            "1-2000:1-2000",
        ] {
            assert!(bad.parse::<PublishSpec>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_refused_and_port_0_finds_one_for_both_families() {
        let any = bind(&["0:80".parse().unwrap()]).unwrap();
        let port = any[0].published.address.port();
        assert!(port > 0 && any.iter().all(|listener| listener.published.address.port() == port));
        let again = bind(&[format!("127.0.0.1:{port}:80").parse().unwrap()]).unwrap_err();
        assert!(matches!(again, PublishError::Taken { .. }), "{again}");
        assert!(again.hint().unwrap().contains("ss -ltnp"));
        let udp: PublishSpec = format!("{port}:80/udp").parse().unwrap();
        assert!(udp.names(&bind(std::slice::from_ref(&udp)).unwrap()[0].published));
        assert!(!udp.names(&any[0].published));
    }

    #[test]
    fn of_a_range_for_one_port_the_first_that_is_free_is_taken() {
        let (taken, first) = (0..100)
            .find_map(|_| {
                let taken = bind(&["127.0.0.1:0:80".parse().unwrap()]).unwrap();
                let first = taken[0].published.address.port();
                // The next one must be free as well.
                let next = format!("127.0.0.1:{}:80", first.checked_add(1)?).parse().unwrap();
                bind(&[next]).is_ok().then_some((taken, first))
            })
            .expect("ports are free");
        let wanted: PublishSpec = format!("127.0.0.1:{first}-{}:80", first + 1).parse().unwrap();
        let chosen = bind(std::slice::from_ref(&wanted)).unwrap();
        assert_eq!(chosen[0].published.address.port(), first + 1);
        assert!(wanted.names(&chosen[0].published) && wanted.names(&taken[0].published));
        assert!(matches!(bind(&[wanted]), Err(PublishError::Taken { .. })));
    }
}
