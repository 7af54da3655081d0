//! `network`: what a workspace's network is, does, and decided.

mod log;
pub(crate) mod named;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use home::{Home, Name};
use jiff::Timestamp;
use network::{
    Egress, EgressRule, HostAccess, HostEntry, NamedNetwork, Policy, Report, Resolver, ResolverOption,
    SearchDomain,
};
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
use crate::time::parse_moment;
use named::NetworkVerb;

/// Show what a workspace's network is, and does; networks that workspaces share
///
/// Workspaces on a network of their own find each other by name, and nobody else.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  microagent network web
  microagent network --json web | jq .traffic.tcp_connections
  microagent network web --log -f --refused
  microagent network create backend
  microagent network list"
)]
pub(crate) struct NetworkArgs {
    #[command(subcommand)]
    verb: Option<NetworkVerb>,
    /// The workspace
    #[arg(value_name = "NAME", required = true, add = workspaces())]
    name: Option<Name>,
    /// Show what was decided about its connections; with --json each decision is a document on a line of its own
    #[arg(long)]
    log: bool,
    /// Go on with what is decided, until the workspace ends
    #[arg(short, long, requires = "log")]
    follow: bool,
    /// Only what was refused
    #[arg(long, requires = "log")]
    refused: bool,
    /// Only at this time or later: a time, or how long ago (as in 2026-01-31T12:00:00Z, 90, 10m)
    #[arg(long, value_name = "TIME", value_parser = parse_moment, requires = "log")]
    since: Option<Timestamp>,
}

/// What `network --json` prints; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Document {
    #[cfg_attr(test, schemars(with = "String"))]
    name: Name,
    #[cfg_attr(test, schemars(with = "String"))]
    mode: Network,
    /// The named networks that it is on.
    networks: Vec<Joined>,
    addresses: Option<Addresses>,
    #[cfg_attr(test, schemars(with = "String"))]
    host_access: HostAccess,
    /// The name servers that are asked; those of this host if empty.
    dns: Vec<IpAddr>,
    /// The domains that a guest which starts now adds to names: those that are asked for, else this host's.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    dns_search: Vec<SearchDomain>,
    /// The options of its resolv.conf, found likewise.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    dns_options: Vec<ResolverOption>,
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    names: Vec<HostEntry>,
    egress: EgressDocument,
    ports: Vec<PortDocument>,
    #[serde(skip)]
    shown_ports: String,
    /// Of a workspace that runs.
    #[cfg_attr(test, schemars(with = "Option<std::collections::BTreeMap<String, u64>>"))]
    traffic: Option<Report>,
}

/// A named network that a workspace is on.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Joined {
    #[cfg_attr(test, schemars(with = "String"))]
    name: Name,
    /// Its address there, of a workspace that runs.
    address: Option<Ipv4Addr>,
}

impl Joined {
    fn of(home: &Home, network: &Name, member: &Name) -> Self {
        let members = NamedNetwork::find(home, network).ok().and_then(|network| network.members().ok());
        let own = members.into_iter().flatten().find(|other| other.name == member.as_str());
        Self { name: network.clone(), address: own.map(|own| own.address) }
    }
}

/// What may be reached.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct EgressDocument {
    /// What becomes of what no rule names: `allow` or `deny`.
    #[cfg_attr(test, schemars(with = "String"))]
    otherwise: Egress,
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    allow: Vec<EgressRule>,
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    deny: Vec<EgressRule>,
}

impl EgressDocument {
    fn of(policy: Policy) -> Self {
        Self { otherwise: policy.otherwise(), allow: policy.allow, deny: policy.deny }
    }
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
    let name = match (&args.verb, &args.name) {
        (Some(verb), _) => return named::network(global, &home, verb),
        (None, Some(name)) => name,
        (None, None) => unreachable!("a name is required without a verb"),
    };
    let workspace = Workspace::find(&home, name).map_err(|error| Failure::workspace(&error))?;
    if args.log {
        return log::show_log(&workspace, args, global.format());
    }
    let status = workspace.status().map_err(|error| Failure::workspace(&error))?;
    let spec = &status.record.spec;
    let ports = status.live.as_ref().map(|live| live.ports.clone()).unwrap_or_default();
    let resolver = if spec.has_network() { spec.resolver() } else { Resolver::default() };
    let document = Document {
        name: status.name.clone(),
        mode: spec.network,
        networks: spec.networks.iter().map(|network| Joined::of(&home, network, &status.name)).collect(),
        addresses: spec.has_network().then_some(Addresses {
            guest: network::GUEST,
            gateway: network::GATEWAY,
            nameserver: network::NAMESERVER,
            guest_ipv6: network::GUEST_6,
            gateway_ipv6: network::GATEWAY_6,
            mtu: network::MTU,
        }),
        host_access: spec.host_access,
        dns: spec.dns.clone(),
        dns_search: resolver.search,
        dns_options: resolver.options,
        names: spec.add_host.clone(),
        egress: EgressDocument::of(spec.egress_policy()),
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
    let names: Vec<&Name> = document.networks.iter().map(|joined| &joined.name).collect();
    line("Mode", &shown_mode(document.mode, &names));
    let Some(addresses) = &document.addresses else { return };
    line("Address", &format!("{}, {}", addresses.guest, addresses.guest_ipv6));
    line("Gateway", &format!("{}, {}", addresses.gateway, addresses.gateway_ipv6));
    for Joined { name, address } in &document.networks {
        line(
            "Network",
            &address.map_or_else(|| name.to_string(), |address| format!("{name}, address {address}")),
        );
    }
    if document.mode == Network::Isolated {
        print_resolver(document);
        print_traffic(document);
        return;
    }
    let servers: Vec<String> = document.dns.iter().map(ToString::to_string).collect();
    let servers = if servers.is_empty() { "this host's".to_owned() } else { servers.join(", ") };
    line("DNS", &format!("{}, which asks {servers}", addresses.nameserver));
    print_resolver(document);
    for entry in &document.names {
        line("Name", &entry.to_string());
    }
    let host = match document.host_access {
        HostAccess::Allowed => format!("reachable as {}", network::HOST_NAME),
        HostAccess::Refused => "not reachable".to_owned(),
    };
    line("This host", &host);
    line("Egress", &shown_egress(&document.egress));
    print_traffic(document);
}

/// What is added to names.
fn print_resolver(document: &Document) {
    let line = |label: &str, values: Vec<String>| {
        if !values.is_empty() {
            output::data(&format!("{label:<14}{}", values.join(", ")));
        }
    };
    line("Search", document.dns_search.iter().map(ToString::to_string).collect());
    line("DNS options", document.dns_options.iter().map(ToString::to_string).collect());
}

fn print_traffic(document: &Document) {
    let line = |label: &str, value: &str| output::data(&format!("{label:<14}{value}"));
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
    if traffic.captured + traffic.capture_missed > 0 {
        let (captured, missed) = (traffic.captured, traffic.capture_missed);
        line("Capture", &format!("{captured} packets, {missed} more found no room"));
    }
    line(
        "Not passed",
        &format!(
            "{} refused, {} over a limit, {} dropped, {} fragments",
            traffic.refused, traffic.limited, traffic.dropped, traffic.fragments
        ),
    );
}

/// What a workspace is connected to.
pub(crate) fn shown_mode(mode: Network, networks: &[&Name]) -> String {
    let mode = (mode == Network::User || networks.is_empty()).then(|| mode.to_string());
    let names = networks.iter().map(ToString::to_string);
    mode.into_iter().chain(names).collect::<Vec<_>>().join(", ")
}

/// The rules in the order in which they count.
fn shown_egress(egress: &EgressDocument) -> String {
    let deny = egress.deny.iter().map(|rule| format!("deny {rule}"));
    let allow = egress.allow.iter().map(|rule| format!("allow {rule}"));
    let rules: Vec<String> = deny.chain(allow).collect();
    match (rules.is_empty(), egress.otherwise) {
        (true, Egress::Allow) => "allow all".to_owned(),
        (true, Egress::Deny) => "deny all".to_owned(),
        (false, otherwise) => format!("{}, {otherwise} all else", rules.join(", ")),
    }
}

/// The same, of a workspace's settings, if there are rules.
pub(crate) fn egress_words(policy: Policy) -> Option<String> {
    policy.is_set().then(|| shown_egress(&EgressDocument::of(policy)))
}
