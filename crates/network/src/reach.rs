//! What a guest may reach: the one place where that is decided, for each connection by itself.
//!
//! Every address that a guest can name comes here, also those that it made up: the host's loopback and own
//! addresses, link-local ones (among them those from which clouds hand out credentials), multicast. Whatever name
//! led to an address, it is the address that counts: first what it is, then the user's rules, in which a name stands
//! for the addresses that it was resolved to through us.
//!
//! ```text
//! a member of a network of the guest's ─▶ --deny ─▶ reached
//!
//! this host ─ is it allowed ─┐
//! one link's, nobody's ──────┼─▶ --deny ─▶ --allow ADDRESS ─▶ --allow NAME, not in a private network ─▶ --egress
//! elsewhere ─────────────────┘
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Instant;

use crate::addresses::{GATEWAY, HOST_NAME, is_gateway, is_inside};
use crate::audit::Traffic;
use crate::egress::{Attempt, Egress, Policy, embedded};
use crate::named::Membership;
use crate::pins::Pins;

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
    /// A rule refuses it.
    Denied,
    /// No rule allows it.
    NotAllowed,
    /// A name that a rule allows led into a private network, which only rules about addresses open.
    Private,
}

impl std::fmt::Display for Refusal {
    /// Why, in words.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Self::Host => "it is this host",
            Self::LinkLocal => "it is a link-local address",
            Self::NotOne => "it is no address of one machine",
            Self::Nobody => "nobody has this address",
            Self::Denied => "a rule of --deny names it",
            Self::NotAllowed => "no rule of --allow names it",
            Self::Private => "its name leads into a private network, which --allow opens by address",
        })
    }
}

/// What is decided of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Where it leads, or why nowhere.
    pub(crate) way: Result<Way, Refusal>,
    /// The name by which the guest found the address: the one that counted, if one did.
    pub(crate) name: Option<String>,
}

/// Where something leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Out of this host, or into it.
    Out(SocketAddr),
    /// To a member of one of the guest's networks.
    Member(Place),
}

/// A member, as one of the guest's networks has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which network.
    pub(crate) network: usize,
    /// Its number there.
    pub(crate) number: u8,
}

/// All that decisions are made by.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    pub(crate) access: HostAccess,
    pub(crate) policy: Policy,
    /// Names of the workspace's own, in small letters. The user gave them their addresses.
    pub(crate) own: Vec<(String, IpAddr)>,
    pub(crate) pins: Pins,
    /// The named networks that the guest is on.
    pub(crate) memberships: Vec<Membership>,
}

impl Reach {
    /// Decides about a connection, or the first datagram of a conversation.
    pub(crate) fn decide(&self, to: SocketAddr, traffic: Traffic, now: Instant) -> Verdict {
        let address = to.ip().to_canonical();
        let place = self.place_of(address);
        let member = place.and_then(|place| self.member_name(place, now));
        let own: Vec<&str> = self.own_names(address).collect();
        let mut names: Vec<&str> = own.iter().copied().chain(member.as_deref()).collect();
        names.extend(self.pins.names(address, now));
        let attempt = Attempt { address, port: to.port(), traffic, names: &names };
        let allowed = self.policy.allowed_name(&attempt);
        let way = match place {
            Some(_) if self.policy.denies(&attempt) => Err(Refusal::Denied),
            // Who is on a network may reach who else is on it, whatever leads out.
            Some(place) => Ok(Way::Member(place)),
            None => self.decide_address(&attempt, allowed, &own).map(Way::Out),
        };
        let name = allowed.or(names.first().copied()).map(str::to_owned);
        Verdict { way, name }
    }

    fn decide_address(
        &self,
        attempt: &Attempt<'_>,
        allowed: Option<&str>,
        own: &[&str],
    ) -> Result<SocketAddr, Refusal> {
        let address = attempt.address;
        if is_inside(address) {
            return self.decide_host(attempt, own);
        }
        match refused_range(address) {
            Some(Refusal::LinkLocal) if self.policy.allows_link_local(attempt) => {}
            Some(refusal) => return Err(refusal),
            None => {}
        }
        if is_own(address) {
            return Err(Refusal::Host);
        }
        if self.policy.denies(attempt) {
            return Err(Refusal::Denied);
        }
        let reached = Ok(SocketAddr::new(address, attempt.port));
        if self.policy.otherwise() == Egress::Allow || self.policy.allows_address(attempt) {
            return reached;
        }
        match allowed {
            None => Err(Refusal::NotAllowed),
            Some(name) if is_private(address) && !own.contains(&name) => Err(Refusal::Private),
            Some(_) => reached,
        }
    }

    /// The member that has this address, if it is one of a network's, whether there is one or not.
    pub(crate) fn place_of(&self, address: IpAddr) -> Option<Place> {
        let mut memberships = self.memberships.iter().enumerate();
        memberships
            .find_map(|(network, membership)| Some(Place { network, number: membership.number_at(address)? }))
    }

    fn member_name(&self, place: Place, now: Instant) -> Option<String> {
        let members = self.memberships.get(place.network)?.members(now);
        members
            .into_iter()
            .find(|(number, _)| *number == place.number)
            .map(|(_, name)| name.to_ascii_lowercase())
    }

    /// This host is opened as a whole, or by rules that name it.
    fn decide_host(&self, attempt: &Attempt<'_>, own: &[&str]) -> Result<SocketAddr, Refusal> {
        if !is_gateway(attempt.address) {
            return Err(Refusal::Nobody);
        }
        if self.policy.denies(attempt) {
            return Err(Refusal::Denied);
        }
        let named = || own.iter().any(|name| self.policy.names(name, attempt));
        if self.access == HostAccess::Allowed || named() {
            return Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), attempt.port));
        }
        Err(Refusal::Host)
    }

    /// Why a name's addresses, and what else is known by it, are none of the guest's business. The workspace's own
    /// names are no secret.
    pub(crate) fn refuses_name(&self, name: &str) -> Option<Refusal> {
        if self.policy.denies_name(name) {
            return Some(Refusal::Denied);
        }
        let known = self.policy.resolves(name) || self.own_addresses(name).is_some();
        (!known).then_some(Refusal::NotAllowed)
    }

    /// The addresses that a name has without asking anybody; `None` if it is none of the workspace's own.
    pub(crate) fn own_addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let own = self.own.iter().filter(|(own, _)| own == name);
        let mut found: Vec<IpAddr> = own.map(|(_, address)| *address).collect();
        if found.is_empty() {
            let now = Instant::now();
            let on = |membership: &Membership| {
                membership
                    .by_name(name, now)
                    .into_iter()
                    .map(|number| membership.address_of(number))
                    .collect::<Vec<_>>()
            };
            found.extend(self.memberships.iter().flat_map(on));
        }
        if name != HOST_NAME {
            return (!found.is_empty()).then_some(found);
        }
        if found.is_empty() && (self.access == HostAccess::Allowed || self.policy.names_somehow(name)) {
            found.push(GATEWAY.into());
        }
        Some(found)
    }

    fn own_names(&self, address: IpAddr) -> impl Iterator<Item = &str> {
        let host = is_gateway(address).then_some(HOST_NAME);
        let is_its = move |own: &IpAddr| *own == address || is_gateway(*own) && is_gateway(address);
        let own = self.own.iter().filter(move |(_, own)| is_its(own)).map(|(name, _)| name.as_str());
        host.into_iter().chain(own)
    }
}

/// Networks whose addresses mean something on one link only, with the length of their prefixes in bits. Some are
/// where clouds hand out credentials.
pub(crate) const LINK_LOCAL: [(IpAddr, u8); 5] = [
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), 32),
    (IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)), 32),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 9),
    (IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0)), 32),
];

/// Addresses that are refused wherever they lead.
fn refused_range(address: IpAddr) -> Option<Refusal> {
    match address {
        IpAddr::V4(address) => refused_4(address),
        IpAddr::V6(v6) => refused_6(v6).or_else(|| refused_4(embedded(address)?)),
    }
}

fn refused_4(address: Ipv4Addr) -> Option<Refusal> {
    let [first, ..] = address.octets();
    match address {
        _ if first == 127 || first == 0 => Some(Refusal::Host),
        _ if address.is_link_local() => Some(Refusal::LinkLocal),
        // The credentials of two clouds that do not use link-local addresses.
        _ if LINK_LOCAL.contains(&(address.into(), 32)) => Some(Refusal::LinkLocal),
        // Multicast, reserved, and broadcast.
        _ if first >= 224 => Some(Refusal::NotOne),
        _ => None,
    }
}

fn refused_6(address: Ipv6Addr) -> Option<Refusal> {
    match address.segments() {
        // Unspecified, loopback, and IPv4 addresses in their old clothes.
        [0, 0, 0, 0, 0, 0, ..] => Some(Refusal::Host),
        [0xff00..=0xffff, ..] => Some(Refusal::NotOne),
        // The second is where a cloud hands out credentials.
        [0xfe80..=0xfeff, ..] | [0xfd00, 0x0ec2, ..] => Some(Refusal::LinkLocal),
        _ => None,
    }
}

/// Whether it is an address of somebody's own network, which means something else elsewhere (RFC 1918, 4193, 6598).
fn is_private(address: IpAddr) -> bool {
    if let Some(embedded) = embedded(address) {
        return is_private(embedded.into());
    }
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_private() || address.is_link_local() || first == 100 && second & 0xc0 == 64
        }
        // Those of the third kind are out of use since long (RFC 3879).
        IpAddr::V6(address) => matches!(address.segments()[0], 0xfc00..=0xfdff | 0xfe80..=0xfeff),
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
mod tests;
