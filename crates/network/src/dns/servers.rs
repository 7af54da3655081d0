//! The name servers to ask: those of this host, as it has them now, or those that the user named.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use crate::resolv_conf::{self, ResolvConf};

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
        let changed = fs::metadata(resolv_conf::PATH).and_then(|metadata| metadata.modified()).ok();
        if changed.is_none() || changed != self.changed {
            self.changed = changed;
            self.found = ResolvConf::read().nameservers.iter().map(address).collect();
        }
        &self.found
    }
}
