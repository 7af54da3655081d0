//! `network`: what a workspace's network is, and does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use home::Name;
use network::{HostAccess, HostEntry, Report};
use serde::Serialize;
use workspace::{Network, Workspace};

use crate::args::Global;
use crate::completion::workspaces;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::list::shown_ports;
use crate::output::{self, Format};
use crate::port::PortDocument;
use crate::pull::open_home;

/// Show what a workspace's network is, and does
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent network web
  microagent network --json web | jq .traffic.tcp_connections")]
pub(crate) struct NetworkArgs {
    /// The workspace
    #[arg(value_name = "NAME", add = workspaces())]
    name: Name,
}

/// What `network --json` prints; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Document {
    #[cfg_attr(test, schemars(with = "String"))]
    name: Name,
    #[cfg_attr(test, schemars(with = "String"))]
    mode: Network,
    addresses: Option<Addresses>,
    #[cfg_attr(test, schemars(with = "String"))]
    host_access: HostAccess,
    /// The name servers that are asked; those of this host if empty.
    dns: Vec<IpAddr>,
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    names: Vec<HostEntry>,
    ports: Vec<PortDocument>,
    #[serde(skip)]
    shown_ports: String,
    /// Of a workspace that runs.
    #[cfg_attr(test, schemars(with = "Option<std::collections::BTreeMap<String, u64>>"))]
    traffic: Option<Report>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Addresses {
    guest: Ipv4Addr,
    gateway: Ipv4Addr,
    nameserver: Ipv4Addr,
    guest_ipv6: Ipv6Addr,
    gateway_ipv6: Ipv6Addr,
    mtu: u16,
}

pub(crate) fn network(global: &Global, args: &NetworkArgs) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    let workspace = Workspace::find(&home, &args.name).map_err(|error| Failure::workspace(&error))?;
    let status = workspace.status().map_err(|error| Failure::workspace(&error))?;
    let spec = &status.record.spec;
    let ports = status.live.as_ref().map(|live| live.ports.clone()).unwrap_or_default();
    let document = Document {
        name: status.name.clone(),
        mode: spec.network,
        addresses: (spec.network == Network::User).then_some(Addresses {
            guest: network::GUEST,
            gateway: network::GATEWAY,
            nameserver: network::NAMESERVER,
            guest_ipv6: network::GUEST_6,
            gateway_ipv6: network::GATEWAY_6,
            mtu: network::MTU,
        }),
        host_access: spec.host_access,
        dns: spec.dns.clone(),
        names: spec.add_host.clone(),
        traffic: status.live.as_ref().and_then(|_| workspace.network_report()),
        ports: PortDocument::all(&ports),
        shown_ports: shown_ports(&ports),
    };
    match global.format() {
        Format::Json => output::json(&document),
        Format::Text => print(&document),
    }
    Ok(Exit::Success)
}

fn print(document: &Document) {
    let line = |label: &str, value: &str| output::data(&format!("{label:<14}{value}"));
    line("Mode", &document.mode.to_string());
    let Some(addresses) = &document.addresses else { return };
    line("Address", &format!("{}, {}", addresses.guest, addresses.guest_ipv6));
    line("Gateway", &format!("{}, {}", addresses.gateway, addresses.gateway_ipv6));
    let servers: Vec<String> = document.dns.iter().map(ToString::to_string).collect();
    let servers = if servers.is_empty() { "this host's".to_owned() } else { servers.join(", ") };
    line("DNS", &format!("{}, which asks {servers}", addresses.nameserver));
    for entry in &document.names {
        line("Name", &entry.to_string());
    }
    let host = match document.host_access {
        HostAccess::Allowed => format!("reachable as {}", network::HOST_NAME),
        HostAccess::Refused => "not reachable".to_owned(),
    };
    line("This host", &host);
    line("Ports", &document.shown_ports);
    let Some(traffic) = &document.traffic else { return };
    line(
        "Connections",
        &format!(
            "TCP {} of {}, UDP and ping {} of {}, names {}",
            traffic.tcp_connections,
            traffic.tcp_total,
            traffic.udp_conversations,
            traffic.udp_total,
            traffic.dns_total
        ),
    );
    let (received, sent) = (output::size(traffic.bytes_received), output::size(traffic.bytes_sent));
    line("Traffic", &format!("{received} in, {sent} out"));
    line(
        "Not passed",
        &format!(
            "{} refused, {} over a limit, {} dropped",
            traffic.refused, traffic.limited, traffic.dropped
        ),
    );
}
