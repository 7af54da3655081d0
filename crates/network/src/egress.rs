//! Egress rules: which names and addresses a guest may reach, in the user's words.
//!
//! ```text
//! rule    = what [ ":" port [ "-" port ] ] [ "/tcp" | "/udp" ]
//! what    = name | "*." name | "*" | address | address "/" prefix     IPv6 before ports in brackets
//!
//! refused if a rule of --deny names it; else reached if a rule of --allow does; else what --egress says
//! ```
//!
//! A rule by name counts for the addresses that this name was resolved to through us, and for no other.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::audit::Traffic;

/// What becomes of connections that no rule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// They are made.
    Allow,
    /// They are refused.
    Deny,
}

impl fmt::Display for Egress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

/// What a guest may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// What becomes of what no rule names. If absent, it is reached, unless there are rules that allow: a list of
    /// what may be reached that lets everything else pass would be none.
    pub egress: Option<Egress>,
    /// What may be reached.
    pub allow: Vec<EgressRule>,
    /// What may not, whatever else is said.
    pub deny: Vec<EgressRule>,
}

/// A connection, or the beginning of a conversation, as rules see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt<'a> {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) traffic: Traffic,
    /// The names that lead to the address.
    pub(crate) names: &'a [&'a str],
}

impl Policy {
    /// What becomes of what no rule names.
    pub fn otherwise(&self) -> Egress {
        self.egress.unwrap_or(if self.allow.is_empty() { Egress::Allow } else { Egress::Deny })
    }

    /// Whether it says anything at all.
    pub fn is_set(&self) -> bool {
        *self != Self::default()
    }

    /// Whether a rule refuses it.
    pub(crate) fn denies(&self, attempt: &Attempt<'_>) -> bool {
        let also = embedded(attempt.address);
        self.deny.iter().any(|rule| {
            rule.takes(attempt)
                || also.is_some_and(|address| rule.takes(&Attempt { address: address.into(), ..*attempt }))
        })
    }

    /// Whether a rule allows it by its address.
    pub(crate) fn allows_address(&self, attempt: &Attempt<'_>) -> bool {
        self.allow.iter().any(|rule| rule.takes_address(attempt))
    }

    /// Whether a rule that is about link-local addresses and nothing else allows it.
    pub(crate) fn allows_link_local(&self, attempt: &Attempt<'_>) -> bool {
        let narrow = |rule: &&EgressRule| match &rule.what {
            What::Network(network) => network.is_link_local(),
            What::Name(_) => false,
        };
        self.allow.iter().filter(narrow).any(|rule| rule.takes_address(attempt))
    }

    /// Which of its names a rule allows.
    pub(crate) fn allowed_name<'a>(&self, attempt: &Attempt<'a>) -> Option<&'a str> {
        let allowed = |name: &&&str| self.allow.iter().any(|rule| rule.takes_name(attempt, name));
        attempt.names.iter().find(allowed).copied()
    }

    /// Whether a rule names this one, and no pattern that happens to fit.
    pub(crate) fn names(&self, name: &str, attempt: &Attempt<'_>) -> bool {
        let exact =
            |rule: &&EgressRule| matches!(&rule.what, What::Name(NamePattern::Is(own)) if own == name);
        self.allow.iter().filter(exact).any(|rule| rule.takes_port(attempt))
    }

    /// The same, whatever its ports.
    pub(crate) fn names_somehow(&self, name: &str) -> bool {
        self.allow.iter().any(|rule| matches!(&rule.what, What::Name(NamePattern::Is(own)) if own == name))
    }

    /// Whether a name may be resolved.
    pub(crate) fn resolves(&self, name: &str) -> bool {
        !self.denies_name(name)
            && (self.otherwise() == Egress::Allow || self.allow.iter().any(|rule| rule.is_about(name)))
    }

    /// Whether any name below a domain may be resolved, as far as rules that name one fewer do not say otherwise.
    pub(crate) fn resolves_below(&self, domain: &str) -> bool {
        let all_denied = self.deny.iter().any(|rule| rule.refuses_name() && rule.is_about_all_below(domain));
        let otherwise = self.otherwise() == Egress::Allow;
        !all_denied && (otherwise || self.allow.iter().any(|rule| rule.is_about_some_below(domain)))
    }

    /// Whether a rule refuses a name altogether, and not only some of its ports.
    pub(crate) fn denies_name(&self, name: &str) -> bool {
        self.deny.iter().any(|rule| rule.refuses_name() && rule.is_about(name))
    }
}

/// A rule: `HOST|CIDR[:PORT[-PORT]][/tcp|udp]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EgressRule {
    what: What,
    ports: Option<(u16, u16)>,
    /// TCP or UDP; both, and pings, if absent.
    protocol: Option<Traffic>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum What {
    Name(NamePattern),
    Network(AddressRange),
}

/// Names, in small letters, without the last dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum NamePattern {
    Any,
    Is(String),
    /// What is below it, at any depth, and not itself.
    Below(String),
}

impl NamePattern {
    fn fits(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Is(own) => own == name,
            Self::Below(parent) => is_below(name, parent),
        }
    }

    fn fits_all_below(&self, domain: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Is(_) => false,
            Self::Below(parent) => parent == domain || is_below(domain, parent),
        }
    }

    fn fits_some_below(&self, domain: &str) -> bool {
        self.fits_all_below(domain)
            || matches!(self, Self::Is(name) | Self::Below(name) if is_below(name, domain))
    }
}

fn is_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
}

/// Addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct AddressRange {
    address: IpAddr,
    prefix: u8,
}

impl AddressRange {
    fn new(address: IpAddr, prefix: u8) -> Self {
        let address = match address {
            IpAddr::V4(address) => Ipv4Addr::from(u32::from(address) & mask(prefix, 32) as u32).into(),
            IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & mask(prefix, 128)).into(),
        };
        Self { address, prefix }
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && Self::new(address, self.prefix) == *self
    }

    fn is_link_local(&self) -> bool {
        let within = |address: IpAddr, prefix| {
            self.prefix >= prefix && Self::new(address, prefix).contains(self.address)
        };
        crate::reach::LINK_LOCAL.iter().any(|(address, prefix)| within(*address, *prefix))
    }

    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address.parse().ok()?, Some(prefix.parse().ok()?)),
            None => (text.parse().ok()?, None),
        };
        let address: IpAddr = address;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(longest);
        (prefix <= longest).then(|| Self::new(address, prefix))
    }
}

/// As many leading ones as `prefix` says, in the last `bits` bits.
fn mask(prefix: u8, bits: u32) -> u128 {
    let all = u128::MAX >> (128 - bits);
    all & !all.checked_shr(u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for AddressRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = if self.address.is_ipv4() { 32 } else { 128 };
        write!(formatter, "{}", self.address)?;
        if self.prefix == longest { Ok(()) } else { write!(formatter, "/{}", self.prefix) }
    }
}

impl EgressRule {
    fn takes(&self, attempt: &Attempt<'_>) -> bool {
        self.takes_address(attempt) || attempt.names.iter().any(|name| self.takes_name(attempt, name))
    }

    fn takes_address(&self, attempt: &Attempt<'_>) -> bool {
        matches!(&self.what, What::Network(network) if network.contains(attempt.address))
            && self.takes_port(attempt)
    }

    fn takes_name(&self, attempt: &Attempt<'_>, name: &str) -> bool {
        self.is_about(name) && self.takes_port(attempt)
    }

    fn is_about(&self, name: &str) -> bool {
        matches!(&self.what, What::Name(pattern) if pattern.fits(name))
    }

    fn is_about_all_below(&self, domain: &str) -> bool {
        matches!(&self.what, What::Name(pattern) if pattern.fits_all_below(domain))
    }

    fn is_about_some_below(&self, domain: &str) -> bool {
        matches!(&self.what, What::Name(pattern) if pattern.fits_some_below(domain))
    }

    /// As a rule of `--deny`: whether it leaves nothing of a name.
    fn refuses_name(&self) -> bool {
        self.ports.is_none() && self.protocol.is_none()
    }

    /// Pings have no ports.
    fn takes_port(&self, attempt: &Attempt<'_>) -> bool {
        let ported = matches!(attempt.traffic, Traffic::Tcp | Traffic::Udp);
        self.protocol.is_none_or(|protocol| protocol == attempt.traffic)
            && self.ports.is_none_or(|(first, last)| ported && (first..=last).contains(&attempt.port))
    }
}

/// The IPv4 address that an IPv6 address is translated to somewhere (RFC 6052, RFC 3056).
pub(crate) fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let octets = address.octets();
    let at = match address.segments() {
        [0x64, 0xff9b, ..] => 12,
        [0x2002, ..] => 2,
        _ => return None,
    };
    Some(Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3]))
}

/// A text that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no rule: {why}; write it like `example.com`, `*.example.com:443` or `192.0.2.0/24:53/udp`"
)]
pub struct InvalidEgressRule {
    text: String,
    why: &'static str,
}

impl FromStr for EgressRule {
    type Err = InvalidEgressRule;

    fn from_str(text: &str) -> Result<Self, InvalidEgressRule> {
        parse(text).map_err(|why| InvalidEgressRule { text: text.to_owned(), why })
    }
}

fn parse(text: &str) -> Result<EgressRule, &'static str> {
    if text.contains("//") {
        return Err("it is a URL; leave out what is before and behind the host");
    }
    let (rest, protocol) = match text.rsplit_once('/') {
        Some((rest, "tcp")) => (rest, Some(Traffic::Tcp)),
        Some((rest, "udp")) => (rest, Some(Traffic::Udp)),
        _ => (text, None),
    };
    let (what, ports) = split_ports(rest)?;
    let what = match AddressRange::parse(what) {
        Some(network) => What::Network(network),
        None => What::Name(parse_name(what)?),
    };
    Ok(EgressRule { what, ports: ports.map(parse_ports).transpose()?, protocol })
}

fn split_ports(text: &str) -> Result<(&str, Option<&str>), &'static str> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, behind) = rest.split_once(']').ok_or("a bracket is not closed")?;
        return match behind.strip_prefix(':') {
            Some(ports) => Ok((inside, Some(ports))),
            None if behind.is_empty() => Ok((inside, None)),
            None => Err("what follows the bracket is no port"),
        };
    }
    // An IPv6 address has colons of its own.
    match text.matches(':').count() {
        1 => Ok(text.split_once(':').map_or((text, None), |(what, ports)| (what, Some(ports)))),
        _ => Ok((text, None)),
    }
}

fn parse_ports(text: &str) -> Result<(u16, u16), &'static str> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(0) | Err(_) => Err("a port is a number from 1 to 65535"),
        Ok(port) => Ok(port),
    };
    let (first, last) = match text.split_once('-') {
        None => (port(text)?, port(text)?),
        Some((first, last)) => (port(first)?, port(last)?),
    };
    if first <= last { Ok((first, last)) } else { Err("the range ends before it begins") }
}

fn parse_name(text: &str) -> Result<NamePattern, &'static str> {
    if text == "*" {
        return Ok(NamePattern::Any);
    }
    let (name, below) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
    let name = name.strip_suffix('.').unwrap_or(name);
    if !name.is_ascii() {
        return Err("write a name with other letters as `xn--...`");
    }
    if !is_name(name) {
        return Err("it is neither a host's name nor an address; `*.` goes in front only");
    }
    // No top-level domain is a number (RFC 3696, 2), so it was meant to be an address.
    if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err("it is no IP address");
    }
    let name = name.to_ascii_lowercase();
    Ok(if below { NamePattern::Below(name) } else { NamePattern::Is(name) })
}

/// Whether it is a name as hosts have them, without a dot at its end (RFC 1035, 2.3.1; and `_`, which some have).
pub(crate) fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(fits);
    text.len() <= 253 && text.split('.').all(is_label)
}

impl fmt::Display for EgressRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Name(NamePattern::Any) => formatter.write_str("*")?,
            What::Name(NamePattern::Is(name)) => formatter.write_str(name)?,
            What::Name(NamePattern::Below(name)) => write!(formatter, "*.{name}")?,
            What::Network(network) if network.address.is_ipv6() && self.ports.is_some() => {
                write!(formatter, "[{network}]")?;
            }
            What::Network(network) => write!(formatter, "{network}")?,
        }
        match self.ports {
            Some((first, last)) if first == last => write!(formatter, ":{first}")?,
            Some((first, last)) => write!(formatter, ":{first}-{last}")?,
            None => {}
        }
        self.protocol.map_or(Ok(()), |protocol| write!(formatter, "/{protocol}"))
    }
}

impl Serialize for EgressRule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EgressRule {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
