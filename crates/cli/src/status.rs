//! `status`: everything known about workspaces.

use std::os::unix::fs::MetadataExt;

use home::Name;
use jiff::Timestamp;
use network::Published;
use serde::Serialize;
use workspace::{
    BootRecord, EndRecord, Health, HostUsage, MachineId, Quarantine, RestartPolicy, Service, State, Status,
    Workspace, WorkspaceSpec,
};

use crate::args::Global;
use crate::completion::workspaces;
use crate::confinement::Confinement;
use crate::exit::Exit;
use crate::failure::{self, Failure};
use crate::list::shown_ports;
use crate::network_verb::{egress_words, shown_mode};
use crate::output::{self, Format};
use crate::port::PortDocument;
use crate::pull::open_home;
use crate::time::age;

/// Show everything known about workspaces
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent status web
  microagent status --spec web > workspace.yaml      # for create --file
  microagent status --json web | jq '.[0].state'")]
pub(crate) struct StatusArgs {
    /// The workspaces
    #[arg(value_name = "NAME", required = true, add = workspaces())]
    names: Vec<Name>,
    /// Print the settings alone, as `create --file` takes them
    #[arg(long)]
    spec: bool,
}

/// An entry of `status --json`; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Document {
    #[cfg_attr(test, schemars(with = "String"))]
    name: Name,
    #[cfg_attr(test, schemars(with = "String"))]
    id: MachineId,
    #[cfg_attr(test, schemars(with = "String"))]
    state: State,
    #[cfg_attr(test, schemars(with = "String"))]
    since: Timestamp,
    #[cfg_attr(test, schemars(with = "String"))]
    created_at: Timestamp,
    image: String,
    image_digest: String,
    supervisor_pid: Option<u32>,
    machine_pid: Option<u32>,
    acceleration: Option<String>,
    template: Option<String>,
    /// What confines the machine, or confined the last one.
    confinement: Option<Confinement>,
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    health: Option<Health>,
    trouble: Option<String>,
    restarts: u32,
    #[cfg_attr(test, schemars(with = "Option<crate::schemas::records::Boot>"))]
    boot: Option<BootRecord>,
    #[cfg_attr(test, schemars(with = "Option<crate::schemas::records::End>"))]
    last_end: Option<EndRecord>,
    #[cfg_attr(test, schemars(with = "Option<crate::schemas::records::Quarantine>"))]
    quarantine: Option<Quarantine>,
    cpu_percent: Option<f64>,
    memory: Option<u64>,
    /// What is used of the guest's memory, as its kernel counts.
    guest_memory: Option<u64>,
    disk: Disk,
    network: Connected,
    /// The same as people read it.
    #[serde(skip)]
    shown_ports: Option<String>,
    #[cfg_attr(test, schemars(with = "crate::schemas::records::Service"))]
    service: Service,
    #[cfg_attr(test, schemars(with = "crate::schemas::records::Spec"))]
    spec: WorkspaceSpec,
}

/// A workspace's disk, in bytes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Disk {
    path: String,
    size: u64,
    /// What the guest's file system holds, if the guest can be asked.
    used: Option<u64>,
    /// What it takes on the host.
    allocated: u64,
}

/// A workspace's network, as its guest sees it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Connected {
    #[cfg_attr(test, schemars(with = "String"))]
    mode: workspace::Network,
    /// The named networks that it is on.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    networks: Vec<Name>,
    address: Option<std::net::Ipv4Addr>,
    gateway: Option<std::net::Ipv4Addr>,
    nameserver: Option<std::net::Ipv4Addr>,
    /// The domains that are added to names when it starts now.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    search: Vec<network::SearchDomain>,
    ports: Vec<PortDocument>,
}

pub(crate) fn status(global: &Global, args: &StatusArgs) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    let mut exit = Exit::Success;
    let mut documents = Vec::new();
    for name in &args.names {
        let found = Workspace::find(&home, name);
        match found.and_then(|workspace| workspace.status().map(|status| document(&workspace, status))) {
            Ok(document) => documents.push(document),
            Err(error) => exit = failure::print(&Failure::workspace(&error), global.format()),
        }
    }
    match global.format() {
        Format::Json if args.spec => {
            output::json(&documents.iter().map(|document| &document.spec).collect::<Vec<_>>());
        }
        Format::Json => output::json(&documents),
        Format::Text => {
            for (index, document) in documents.iter().enumerate() {
                if index > 0 {
                    output::data(if args.spec { "---" } else { "" });
                }
                if args.spec { print_spec(document) } else { print(document) }
            }
        }
    }
    Ok(exit)
}

fn document(workspace: &Workspace, status: Status) -> Document {
    let usage = HostUsage::of(&status);
    let guest = status.live.as_ref().and_then(|_| workspace.guest_usage());
    let path = workspace.disk();
    let disk = std::fs::metadata(&path).ok();
    let boot = status.facts.boot;
    let live = status.live;
    let ports = live.as_ref().map(|live| live.ports.clone()).unwrap_or_default();
    Document {
        name: status.name,
        id: status.record.id,
        state: status.state,
        since: status.since,
        created_at: status.record.created_at,
        image: status.record.image,
        image_digest: status.record.image_digest,
        supervisor_pid: live.as_ref().map(|live| live.supervisor),
        machine_pid: live.as_ref().and_then(|live| live.machine),
        acceleration: boot.as_ref().and_then(|boot| boot.acceleration).map(|kind| kind.to_string()),
        template: boot.as_ref().and_then(|boot| boot.template.clone()),
        confinement: boot.as_ref().and_then(|boot| boot.confinement.clone()).map(Confinement::from),
        health: live.as_ref().and_then(|live| live.health),
        trouble: live.and_then(|live| live.trouble),
        restarts: status.facts.restarts,
        boot,
        last_end: status.facts.end,
        quarantine: status.facts.quarantine,
        cpu_percent: usage.map(|usage| usage.cpu_percent),
        memory: usage.map(|usage| usage.memory),
        guest_memory: guest.map(|guest| guest.memory_used),
        network: connected(&status.record.spec, &ports),
        shown_ports: (!ports.is_empty()).then(|| shown_ports(&ports)),
        disk: Disk {
            path: path.display().to_string(),
            size: disk.as_ref().map_or(0, std::fs::Metadata::len),
            used: guest.map(|guest| guest.disk_used),
            allocated: disk.map_or(0, |disk| disk.blocks() * 512),
        },
        service: status.record.service,
        spec: status.record.spec,
    }
}

fn connected(spec: &WorkspaceSpec, ports: &[Published]) -> Connected {
    let has_card = spec.has_network();
    Connected {
        mode: spec.network,
        networks: spec.networks.clone(),
        address: has_card.then_some(network::GUEST),
        gateway: has_card.then_some(network::GATEWAY),
        nameserver: has_card.then_some(network::NAMESERVER),
        search: if has_card { spec.resolver().search } else { Vec::new() },
        ports: PortDocument::all(ports),
    }
}

fn print_spec(document: &Document) {
    let text = serde_yaml_ng::to_string(&document.spec).expect("settings are plain data");
    output::data(text.trim_end());
}

fn print(document: &Document) {
    let line = |label: &str, value: &str| output::data(&format!("{label:<14}{value}"));
    let optional = |label: &str, value: Option<String>| {
        if let Some(value) = value {
            line(label, &value);
        }
    };
    let spec = &document.spec;
    line("Name", document.name.as_str());
    line("State", &format!("{}, for {}", document.state, age(document.since)));
    optional("Health", document.health.map(|health| health.to_string()));
    optional("Trouble", document.trouble.clone());
    optional("Quarantine", document.quarantine.as_ref().map(|quarantine| quarantine.reason.clone()));
    line("Image", &document.image);
    line("Digest", &document.image_digest);
    line("Service", &words(&document.service.argv));
    line("Created", &format!("{:.0}", document.created_at));
    optional("Last end", document.last_end.as_ref().map(ending));
    line("Machine", &format!("{} CPUs, {} memory", spec.cpus, spec.memory));
    let names: Vec<&Name> = document.network.networks.iter().collect();
    let mode = shown_mode(document.network.mode, &names);
    let address = document.network.address;
    line("Network", &address.map_or_else(|| mode.clone(), |address| format!("{mode}; address {address}")));
    optional("Egress", egress_words(spec.egress_policy()));
    optional("Ports", document.shown_ports.clone());
    optional("Runs on", runs_on(document));
    optional("Confined by", document.confinement.as_ref().map(Confinement::words));
    let disk = &document.disk;
    let used = disk.used.map(|used| format!("; its guest uses {}", output::size(used))).unwrap_or_default();
    line(
        "Disk",
        &format!("{}, {} on this host{used}", output::size(disk.size), output::size(disk.allocated)),
    );
    let restart = (spec.restart != RestartPolicy::No)
        .then(|| format!("{}; {} so far", spec.restart, document.restarts));
    optional("Restart", restart);
    let usage = document.memory.map(output::size).zip(document.cpu_percent);
    let guest = document.guest_memory.map(|memory| format!(", guest memory {}", output::size(memory)));
    let guest = guest.unwrap_or_default();
    optional("Usage", usage.map(|(memory, cpu)| format!("CPU {cpu:.1}%, host memory {memory}{guest}")));
    optional(
        "Processes",
        document.supervisor_pid.map(|supervisor| match document.machine_pid {
            Some(machine) => format!("supervisor {supervisor}, machine {machine}"),
            None => format!("supervisor {supervisor}"),
        }),
    );
    for (name, value) in &spec.labels {
        line("Label", &format!("{name}={value}"));
    }
}

fn runs_on(document: &Document) -> Option<String> {
    let acceleration = document.acceleration.as_ref()?;
    Some(match &document.template {
        Some(template) => format!("{acceleration}, from template {template}"),
        None => format!("{acceleration}, booted"),
    })
}

fn ending(end: &EndRecord) -> String {
    let how = match end.how {
        workspace::Ending::Halted => "halted",
        workspace::Ending::Stopped => "stopped",
        workspace::Ending::Killed => "killed",
        workspace::Ending::Failed => "failed",
    };
    let exit = end.exit.map(|exit| match exit {
        workspace::Exit::Code(code) => format!(", its service with exit code {code}"),
        workspace::Exit::Signal(signal) => format!(", its service by signal {signal}"),
    });
    let reason = end.reason.as_ref().map(|reason| format!(": {reason}"));
    format!("{how} at {:.0}{}{}", end.at, exit.unwrap_or_default(), reason.unwrap_or_default())
}

/// A command as one would type it.
pub(crate) fn words(argv: &[String]) -> String {
    let plain = |word: &String| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./=:,@%+".contains(&byte))
    };
    let quoted =
        |word: &String| if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) };
    argv.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_command_is_shown_as_it_is_typed() {
        let argv = ["sh", "-c", "echo 'hi'; x", ""].map(str::to_owned);
        assert_eq!(super::words(&argv), r"sh -c 'echo '\''hi'\''; x' ''");
    }
}
