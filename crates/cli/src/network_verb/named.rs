//! `network create`, `list`, `inspect`, `delete` and `prune`: networks that workspaces share.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use clap::Subcommand;
use home::{Home, Name};
use jiff::Timestamp;
use network::{Member, NamedNetwork, NamedNetworkError};
use serde::Serialize;
use workspace::{DeleteNetworkError, delete_network, network_users, unneeded_networks};

use crate::args::Global;
use crate::completion::networks;
use crate::exit::Exit;
use crate::failure::{self, Failure};
use crate::output::{self, Format};
use crate::question::{agreed, can_ask};

/// What is done with networks that workspaces share.
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkVerb {
    /// Make a network, for `--network NAME` of `run` and `create`
    #[command(after_help = "Examples:
  microagent network create backend
  microagent run -d --name db --network backend postgres
  microagent run -d --name web --network user --network backend -p 8080:80 nginx")]
    Create {
        /// Its name
        name: Name,
    },
    /// List networks
    #[command(
        alias = "ls",
        after_help = "Example:
  microagent network list"
    )]
    List {
        /// Print names only
        #[arg(short, long)]
        quiet: bool,
    },
    /// Show networks, and who is on them
    #[command(after_help = "Example:
  microagent network inspect backend")]
    Inspect {
        /// The networks
        #[arg(required = true, add = networks())]
        names: Vec<Name>,
    },
    /// Delete networks that nobody is on
    #[command(
        aliases = ["rm", "remove"],
        after_help = "Example:
  microagent network delete backend"
    )]
    Delete {
        /// The networks
        #[arg(required = true, add = networks())]
        names: Vec<Name>,
    },
    /// Delete the networks that nobody is on, and no workspace joins
    #[command(after_help = "Example:
  microagent network prune")]
    Prune {
        /// Do not ask
        #[arg(short, long, visible_alias = "force")]
        yes: bool,
    },
}

/// What `network prune --json` prints; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Pruned {
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    removed: Vec<Name>,
}

/// What `network list --json` and `network inspect --json` print for each; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NamedDocument {
    #[cfg_attr(test, schemars(with = "String"))]
    name: Name,
    #[cfg_attr(test, schemars(with = "String"))]
    created_at: Timestamp,
    subnet: String,
    /// Who is on it and runs.
    members: Vec<MemberDocument>,
    /// The workspaces that join it when they start.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    workspaces: Vec<Name>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct MemberDocument {
    name: String,
    address: Ipv4Addr,
}

pub(super) fn network(global: &Global, home: &Home, verb: &NetworkVerb) -> Result<Exit, Failure> {
    match verb {
        NetworkVerb::Create { name } => {
            NamedNetwork::create(home, name).map_err(|error| unusable_network(&error))?;
            crate::create::print(global, name);
            Ok(Exit::Success)
        }
        NetworkVerb::List { quiet } => list(global, home, *quiet),
        NetworkVerb::Inspect { names } => inspect(global, home, names),
        NetworkVerb::Delete { names } => Ok(delete(global, home, names)),
        NetworkVerb::Prune { yes } => prune(global, home, *yes),
    }
}

pub(crate) fn unusable_network(error: &NamedNetworkError) -> Failure {
    if let NamedNetworkError::Reserved(_) = error {
        return Failure::usage(error.to_string()).hint(error.hint());
    }
    let kind = match error {
        NamedNetworkError::Unknown(_) => "network_not_found",
        NamedNetworkError::Exists(_) => "name_taken",
        NamedNetworkError::InUse { .. } => "network_in_use",
        _ => "network",
    };
    Failure::new(kind, error).printable().hint(error.hint())
}

fn list(global: &Global, home: &Home, quiet: bool) -> Result<Exit, Failure> {
    let users = network_users(home).map_err(|error| Failure::new("system", &error))?;
    let (mut exit, mut documents) = (Exit::Success, Vec::new());
    for (_, found) in NamedNetwork::all(home).map_err(|error| Failure::new("system", &error))? {
        match found {
            Ok(network) => documents.push(document(&network, &users)),
            Err(error) => exit = failure::print(&unusable_network(&error), global.format()),
        }
    }
    match global.format() {
        Format::Json => output::json(&documents),
        Format::Text if quiet => documents.iter().for_each(|network| output::data(network.name.as_str())),
        Format::Text => {
            let row = |network: &NamedDocument| {
                let running = network.members.iter().map(|member| member.name.clone()).collect::<Vec<_>>();
                let all = network.workspaces.iter().map(ToString::to_string).collect::<Vec<_>>();
                [network.name.to_string(), network.subnet.clone(), running.join(", "), all.join(", ")]
            };
            let rows: Vec<_> = documents.iter().map(row).collect();
            output::table(["NAME", "SUBNET", "RUNNING", "WORKSPACES"], &rows);
        }
    }
    Ok(exit)
}

fn inspect(global: &Global, home: &Home, names: &[Name]) -> Result<Exit, Failure> {
    let users = network_users(home).map_err(|error| Failure::new("system", &error))?;
    let (mut exit, mut documents) = (Exit::Success, Vec::new());
    for name in names {
        match NamedNetwork::find(home, name) {
            Ok(network) => documents.push(document(&network, &users)),
            Err(error) => exit = failure::print(&unusable_network(&error), global.format()),
        }
    }
    match global.format() {
        Format::Json => output::json(&documents),
        Format::Text => documents.iter().for_each(print),
    }
    Ok(exit)
}

fn document(network: &NamedNetwork, users: &BTreeMap<Name, Vec<Name>>) -> NamedDocument {
    // Where nobody can be seen there is nobody.
    let members = network.members().unwrap_or_default();
    NamedDocument {
        name: network.name().clone(),
        created_at: network.record().created_at,
        subnet: network.subnet(),
        members: members
            .into_iter()
            .map(|Member { name, address }| MemberDocument { name, address })
            .collect(),
        workspaces: users.get(network.name()).cloned().unwrap_or_default(),
    }
}

fn print(network: &NamedDocument) {
    let line = |label: &str, value: &str| output::data(&format!("{label:<14}{value}"));
    line("Name", network.name.as_str());
    line("Created", &format!("{:.0}", network.created_at));
    line("Subnet", &network.subnet);
    for member in &network.members {
        line("Running", &format!("{} at {}", output::printable(&member.name), member.address));
    }
    let workspaces: Vec<_> = network.workspaces.iter().map(Name::as_str).collect();
    line("Workspaces", if workspaces.is_empty() { "-".to_owned() } else { workspaces.join(", ") }.as_str());
}

fn delete(global: &Global, home: &Home, names: &[Name]) -> Exit {
    let mut exit = Exit::Success;
    for name in names {
        match delete_network(home, name) {
            Ok(()) => output::data(name.as_str()),
            Err(DeleteNetworkError::Network(NamedNetworkError::Unknown(_))) => {
                output::talk(&format!("{name}: there is no such network"));
            }
            Err(error) => {
                let failure = match &error {
                    DeleteNetworkError::Network(error) => unusable_network(error),
                    DeleteNetworkError::Needed { .. } => {
                        Failure::new("network_in_use", &error).hint(error.hint())
                    }
                    DeleteNetworkError::Workspaces(_) => Failure::new("system", &error),
                };
                exit = failure::print(&failure, global.format());
            }
        }
    }
    exit
}

fn prune(global: &Global, home: &Home, yes: bool) -> Result<Exit, Failure> {
    let plan = unneeded_networks(home).map_err(|error| Failure::new("system", &error))?;
    if !plan.is_empty() && !yes {
        for network in &plan {
            output::talk(&format!("{}  {}", network.name(), network.subnet()));
        }
        if !can_ask() {
            return Err(Failure::usage("cannot ask whether to delete these: standard input is no terminal")
                .hint(Some("say it: microagent network prune --yes")));
        }
        if !agreed("delete these? [y/N] ") {
            output::talk("nothing was deleted");
            return Ok(Exit::Success);
        }
    }
    // What is used by now stays.
    let names = plan.iter().map(|network| network.name().clone());
    let pruned = Pruned { removed: names.filter(|name| delete_network(home, name).is_ok()).collect() };
    match global.format() {
        Format::Json => output::json(&pruned),
        Format::Text => pruned.removed.iter().for_each(|name| output::data(name.as_str())),
    }
    Ok(Exit::Success)
}
