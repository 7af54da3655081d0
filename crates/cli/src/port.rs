//! `port`: the ports of a workspace, shown, published and withdrawn.

use std::net::IpAddr;

use home::Name;
use network::{PortProtocol, PublishSpec, Published};
use serde::Serialize;
use workspace::Workspace;

use crate::args::Global;
use crate::completion::workspaces;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::pull::open_home;

/// Show, publish and withdraw ports of a workspace
///
/// Ports are published and withdrawn while the workspace runs, or for its next start; what is changed stays.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  microagent port web
  microagent port add web 127.0.0.1:8080:80
  microagent port remove web 8080:80"
)]
pub(crate) struct PortArgs {
    #[command(subcommand)]
    verb: Option<PortVerb>,
    /// The workspace
    #[arg(value_name = "NAME", required = true, add = workspaces())]
    name: Option<Name>,
}

#[derive(Debug, clap::Subcommand)]
enum PortVerb {
    /// Publish ports
    #[command(after_help = "Example:\n  microagent port add web 127.0.0.1:8080:80")]
    Add(ChangeArgs),
    /// Withdraw ports; connections that there are go on
    #[command(alias = "rm", after_help = "Example:\n  microagent port remove web 8080:80")]
    Remove(ChangeArgs),
}

#[derive(Debug, clap::Args)]
struct ChangeArgs {
    /// The workspace
    #[arg(value_name = "NAME", add = workspaces())]
    name: Name,
    /// The ports: `[IP:][HOST:]GUEST[/tcp|udp]`
    #[arg(value_name = "PORTS", required = true)]
    ports: Vec<PublishSpec>,
}

/// A published port in JSON; a contract.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PortDocument {
    host_ip: IpAddr,
    host_port: u16,
    guest_port: u16,
    #[cfg_attr(test, schemars(with = "String"))]
    protocol: PortProtocol,
}

impl PortDocument {
    pub(crate) fn all(published: &[Published]) -> Vec<Self> {
        let port = |port: &Published| Self {
            host_ip: port.address.ip(),
            host_port: port.address.port(),
            guest_port: port.guest,
            protocol: port.protocol,
        };
        published.iter().map(port).collect()
    }
}

pub(crate) fn port(global: &Global, args: &PortArgs) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    let find = |name: &Name| Workspace::find(&home, name).map_err(|error| Failure::workspace(&error));
    let (changed, change): (_, fn(&Workspace, &PublishSpec) -> _) = match (&args.verb, &args.name) {
        (Some(PortVerb::Add(change)), _) => (change, Workspace::publish),
        (Some(PortVerb::Remove(change)), _) => (change, Workspace::withdraw),
        (None, Some(name)) => {
            let status = find(name)?.status().map_err(|error| Failure::workspace(&error))?;
            show(global, &status.live.map(|live| live.ports).unwrap_or_default());
            return Ok(Exit::Success);
        }
        (None, None) => unreachable!("a name is required without a verb"),
    };
    let workspace = find(&changed.name)?;
    let mut ports = Vec::new();
    for spec in &changed.ports {
        ports.extend(change(&workspace, spec).map_err(|error| Failure::workspace(&error))?);
    }
    show(global, &ports);
    Ok(Exit::Success)
}

fn show(global: &Global, ports: &[Published]) {
    match global.format() {
        Format::Json => output::json(&PortDocument::all(ports)),
        Format::Text => ports.iter().for_each(|port| {
            output::data(&format!("{}/{} -> {}", port.guest, port.protocol, port.address));
        }),
    }
}
