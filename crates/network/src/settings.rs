//! What a network is to be, beside its ports.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::addresses::GATEWAY;
use crate::egress::Policy;
use crate::reach::{HostAccess, Reach};

/// What a network is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether the guest may reach this host.
    pub host: HostAccess,
    /// The name servers to ask; this host's if empty.
    pub nameservers: Vec<IpAddr>,
    /// What else the guest may reach.
    pub policy: Policy,
    /// Names of the workspace's own.
    pub names: Vec<HostEntry>,
}

impl Settings {
    pub(crate) fn reach(&self) -> Reach {
        let own = self.names.iter().map(|entry| (entry.name.clone(), entry.address)).collect();
        Reach { access: self.host, policy: self.policy.clone(), own, ..Reach::default() }
    }
}

/// A name and its address, as `NAME:IP`; Docker's `host-gateway` is the address of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// In small letters.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

/// A text that is no name with its address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name with an address; write it like `db.example:192.0.2.7`")]
pub struct InvalidHostEntry(String);

impl FromStr for HostEntry {
    type Err = InvalidHostEntry;

    fn from_str(text: &str) -> Result<Self, InvalidHostEntry> {
        let invalid = || InvalidHostEntry(text.to_owned());
        let (name, address) = text.split_once([':', '=']).ok_or_else(invalid)?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > 253 || !name.bytes().all(fits) {
            return Err(invalid());
        }
        let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
        let address = match bare.unwrap_or(address) {
            "host-gateway" => GATEWAY.into(),
            address => address.parse().map_err(|_| invalid())?,
        };
        Ok(Self { name: name.trim_end_matches('.').to_ascii_lowercase(), address })
    }
}

impl fmt::Display for HostEntry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.name, self.address)
    }
}

impl Serialize for HostEntry {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostEntry {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_docker_writes_them() {
        for (text, shown) in [
            ("Db:192.0.2.7", "db:192.0.2.7"),
            ("db=192.0.2.7", "db:192.0.2.7"),
            ("db:2001:db8::1", "db:2001:db8::1"),
            ("db:[2001:db8::1]", "db:2001:db8::1"),
            ("h:host-gateway", "h:10.0.2.2"),
        ] {
            let entry: HostEntry = text.parse().unwrap();
            assert_eq!(entry.to_string(), shown);
            assert_eq!(shown.parse::<HostEntry>().unwrap(), entry);
        }
        for bad in ["", "db", ":1.2.3.4", "d b:1.2.3.4", "db:1.2.3", "db:"] {
            assert!(bad.parse::<HostEntry>().is_err(), "{bad}");
        }
    }
}
