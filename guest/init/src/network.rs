//! Loopback, the network device, and what programs read about them.

use std::net::Ipv4Addr;
use std::path::Path;

use proto::{Network, Resolver};

use crate::failed;
use crate::kernel_calls::{add_address_6, add_default_route, add_default_route_6, bring_up, set_address};

const DEVICE: &str = "eth0";

/// What Docker's users are used to: ordinary users may ping and serve on low ports.
const SETTINGS: [(&str, &str); 2] = [
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
];

/// On a network without neighbours nobody has the same address, or advertises routes.
const ALONE: [(&str, &str); 3] = [("accept_dad", "0"), ("accept_ra", "0"), ("router_solicitations", "0")];

/// Brings loopback up.
pub(crate) fn start_loopback() -> Result<(), String> {
    for (path, value) in SETTINGS {
        // A kernel without the setting only is stricter.
        let _ = std::fs::write(path, value);
    }
    bring_up("lo").map_err(failed("bring up the loopback interface"))
}

/// Configures the network device.
pub(crate) fn connect(network: &Network) -> Result<(), String> {
    let mask = Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(network.prefix)).unwrap_or(0));
    set_address(DEVICE, network.address, mask).map_err(failed("set the network address"))?;
    bring_up(DEVICE).map_err(failed("bring up the network device"))?;
    add_default_route(network.gateway).map_err(failed("set the default route"))?;
    // A kernel without IPv6 goes without.
    if let Some(network) = network.ipv6.as_ref().filter(|_| Path::new("/proc/net/if_inet6").exists()) {
        connect_6(network).map_err(failed("configure IPv6"))?;
    }
    Ok(())
}

fn connect_6(network: &proto::Network6) -> std::io::Result<()> {
    for (setting, value) in ALONE {
        // A kernel without the setting takes a second longer.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{DEVICE}/{setting}"), value);
    }
    add_address_6(DEVICE, network.address, network.prefix)?;
    add_default_route_6(DEVICE, network.gateway)
}

/// The content of `/etc/resolv.conf`.
pub(crate) fn resolver_configuration(nameservers: &[Ipv4Addr], resolver: &Resolver) -> String {
    let line = |word: &str, values: &[String]| {
        if values.is_empty() { String::new() } else { format!("{word} {}\n", values.join(" ")) }
    };
    let servers = nameservers.iter().map(|server| format!("nameserver {server}\n"));
    let mut lines = vec![line("search", &resolver.search)];
    lines.extend(servers);
    lines.push(line("options", &resolver.options));
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_s_configuration_has_a_line_for_what_there_is() {
        let servers = [Ipv4Addr::new(10, 0, 2, 3)];
        assert_eq!(resolver_configuration(&servers, &Resolver::default()), "nameserver 10.0.2.3\n");
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let resolver =
            Resolver { search: words(&["a.example", "b"]), options: words(&["ndots:2", "rotate"]) };
        let shown = resolver_configuration(&servers, &resolver);
        assert_eq!(shown, "search a.example b\nnameserver 10.0.2.3\noptions ndots:2 rotate\n");
    }
}
