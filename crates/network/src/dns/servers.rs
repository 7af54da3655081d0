//! The name servers to ask: those of this host, as it has them now, or those that the user named.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::SystemTime;

/// Where the host's name servers are listed; resolv.conf(5).
const CONFIGURATION: &str = "/etc/resolv.conf";

/// The host's name servers.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    wanted: Vec<IpAddr>,
    found: Vec<SocketAddr>,
    changed: Option<SystemTime>,
}

impl Servers {
    /// Those that are named, or else the host's.
    pub(crate) fn new(wanted: Vec<IpAddr>) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// All of them. The host's may change while a guest runs.
    pub(crate) fn now(&mut self) -> &[SocketAddr] {
        let address = |server: &IpAddr| SocketAddr::new(*server, 53);
        if !self.wanted.is_empty() {
            self.found = self.wanted.iter().map(address).collect();
            return &self.found;
        }
        let changed = fs::metadata(CONFIGURATION).and_then(|metadata| metadata.modified()).ok();
        if changed.is_none() || changed != self.changed {
            self.changed = changed;
            let text = fs::read_to_string(CONFIGURATION).unwrap_or_default();
            self.found = listed(&text).iter().map(address).collect();
        }
        &self.found
    }
}

/// The name servers that resolv.conf(5) lists; without any, the one on this host.
fn listed(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let servers: Vec<IpAddr> = lines.filter_map(|server| server.trim().parse().ok()).collect();
    if servers.is_empty() { vec![Ipv4Addr::LOCALHOST.into()] } else { servers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_host_lists_them() {
        let text = "# x\nsearch a.example\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 \nnameserver fe80::1%eth0\n";
        let expected: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(listed(text), expected);
        assert_eq!(listed(""), [IpAddr::from(Ipv4Addr::LOCALHOST)]);
    }
}
