//! `ps` and `list`: workspaces in a table.

use home::Name;
use jiff::Timestamp;
use network::Published;
use serde::Serialize;
use workspace::{Health, HostUsage, State, Status, Workspace, WorkspaceError};

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{self, Failure};
use crate::output::{self, Format};
use crate::pull::open_home;
use crate::time::age;

/// List workspaces
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent list --filter state=halted
  microagent ps -q --filter label=team=web --filter name=db")]
pub(crate) struct ListWorkspacesArgs {
    /// Print names only
    #[arg(short, long = "names", visible_alias = "ids")]
    quiet: bool,
    /// All, not only running ones
    #[arg(short, long)]
    all: bool,
    /// Only those with `name=TEXT`, `image=NAME`, `state=STATE`, `health=HEALTH` or `label=NAME[=VALUE]`
    #[arg(short, long, value_name = "FILTER", value_parser = parse_filter)]
    filter: Vec<Filter>,
}

/// Which workspaces to show. Those of one kind are alternatives.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Filter {
    Name(String),
    Image(String),
    State(State),
    Health(String),
    Label(String, Option<String>),
}

fn parse_filter(text: &str) -> Result<Filter, String> {
    let (key, value) = text.split_once('=').ok_or("write it like `state=running`")?;
    match key {
        "name" => Ok(Filter::Name(value.to_owned())),
        "image" | "ancestor" => Ok(Filter::Image(value.to_owned())),
        "state" | "status" => value.parse().map(Filter::State),
        "health" => Ok(Filter::Health(value.to_owned())),
        "label" => Ok(match value.split_once('=') {
            Some((name, value)) => Filter::Label(name.to_owned(), Some(value.to_owned())),
            None => Filter::Label(value.to_owned(), None),
        }),
        _ => Err(format!("`{key}` is no filter; they are `name`, `image`, `state`, `health` and `label`")),
    }
}

impl Filter {
    fn takes(&self, status: &Status) -> bool {
        match self {
            Self::Name(part) => status.name.as_str().contains(part.as_str()),
            Self::Image(image) => {
                status.record.image == *image || status.record.image.starts_with(&format!("{image}:"))
            }
            Self::State(state) => status.state == *state,
            Self::Health(health) => health_of(status).is_some_and(|found| found.to_string() == *health),
            Self::Label(name, value) => status
                .record
                .spec
                .labels
                .get(name)
                .is_some_and(|found| value.as_ref().is_none_or(|value| found == value)),
        }
    }
}

fn takes(filters: &[Filter], status: &Status) -> bool {
    filters.iter().all(|filter| {
        let same = |other: &&Filter| std::mem::discriminant(*other) == std::mem::discriminant(filter);
        // Labels are all demanded, as in Docker.
        matches!(filter, Filter::Label(..)) && filter.takes(status)
            || !matches!(filter, Filter::Label(..))
                && filters.iter().filter(same).any(|other| other.takes(status))
    })
}

/// An entry of `ps --json` and `list --json`; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Listed {
    #[cfg_attr(test, schemars(with = "String"))]
    name: Name,
    image: String,
    #[cfg_attr(test, schemars(with = "String"))]
    state: State,
    #[cfg_attr(test, schemars(with = "String"))]
    since: Timestamp,
    #[cfg_attr(test, schemars(with = "String"))]
    created_at: Timestamp,
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    health: Option<Health>,
    trouble: Option<String>,
    ports: Vec<String>,
    cpu_percent: Option<f64>,
    memory: Option<u64>,
    labels: std::collections::BTreeMap<String, String>,
}

pub(crate) fn ps(global: &Global, args: &ListWorkspacesArgs) -> Result<Exit, Failure> {
    show(global, args, |status| args.all || status.state.is_live() || status.live.is_some())
}

pub(crate) fn list(global: &Global, args: &ListWorkspacesArgs) -> Result<Exit, Failure> {
    show(global, args, |_| true)
}

fn show(
    global: &Global,
    args: &ListWorkspacesArgs,
    wanted: impl Fn(&Status) -> bool,
) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    let all = Workspace::all(&home).map_err(|error| Failure::new("system", &error))?;
    let mut exit = Exit::Success;
    let mut shown = Vec::new();
    for (_, found) in all {
        match found.and_then(|workspace| workspace.status()) {
            Ok(status) if wanted(&status) && takes(&args.filter, &status) => shown.push(status),
            // One that was deleted meanwhile is no workspace.
            Ok(_) | Err(WorkspaceError::Unknown(_)) => {}
            Err(error) => exit = failure::print(&Failure::workspace(&error), global.format()),
        }
    }
    match global.format() {
        Format::Json if args.quiet => {
            output::json(&shown.iter().map(|status| &status.name).collect::<Vec<_>>());
        }
        Format::Json => output::json(&shown.iter().map(document).collect::<Vec<_>>()),
        Format::Text if args.quiet => shown.iter().for_each(|status| output::data(status.name.as_str())),
        Format::Text => {
            let headings = ["NAME", "IMAGE", "STATE", "UPTIME", "PORTS", "CPU", "MEMORY"];
            output::table(headings, &shown.iter().map(row).collect::<Vec<_>>());
        }
    }
    Ok(exit)
}

fn document(status: &Status) -> Listed {
    let usage = HostUsage::of(status);
    Listed {
        name: status.name.clone(),
        image: status.record.image.clone(),
        state: status.state,
        since: status.since,
        created_at: status.record.created_at,
        health: health_of(status),
        trouble: status.live.as_ref().and_then(|live| live.trouble.clone()),
        ports: ports_of(status).iter().map(ToString::to_string).collect(),
        cpu_percent: usage.map(|usage| usage.cpu_percent),
        memory: usage.map(|usage| usage.memory),
        labels: status.record.spec.labels.clone(),
    }
}

fn row(status: &Status) -> [String; 7] {
    let usage = HostUsage::of(status);
    let trouble = status.live.as_ref().is_some_and(|live| live.trouble.is_some());
    let state = match health_of(status) {
        _ if trouble => format!("{} (stalled)", status.state),
        Some(health) => format!("{} ({health})", status.state),
        None => status.state.to_string(),
    };
    let running = status.live.as_ref().and_then(|live| live.service_started_at);
    [
        status.name.to_string(),
        status.record.image.clone(),
        state,
        running.map_or_else(|| "-".to_owned(), age),
        shown_ports(ports_of(status)),
        usage.map_or_else(|| "-".to_owned(), |usage| format!("{:.1}%", usage.cpu_percent)),
        usage.map_or_else(|| "-".to_owned(), |usage| output::size(usage.memory)),
    ]
}

fn ports_of(status: &Status) -> &[Published] {
    status.live.as_ref().map_or(&[], |live| &live.ports)
}

/// Ports in a row are a range; what comes first is where they are on this host, as in Docker.
pub(crate) fn shown_ports(ports: &[Published]) -> String {
    let mut ranges: Vec<(Published, u16)> = Vec::new();
    let mut sorted = ports.to_vec();
    sorted
        .sort_by_key(|port| (port.protocol.to_string(), port.address.ip(), port.guest, port.address.port()));
    for port in sorted {
        let follows = |(first, length): &(Published, u16)| {
            let next = Published { guest: first.guest.wrapping_add(*length), ..*first };
            let address = first.address.port().wrapping_add(*length);
            Published { address: (first.address.ip(), address).into(), ..next } == port
        };
        match ranges.last_mut() {
            Some(range) if follows(range) => range.1 += 1,
            _ => ranges.push((port, 1)),
        }
    }
    if ranges.is_empty() {
        return "-".to_owned();
    }
    let words = ranges.iter().map(|(first, length)| {
        let last = |port: u16| if *length == 1 { String::new() } else { format!("-{}", port + length - 1) };
        let (host, guest) = (last(first.address.port()), last(first.guest));
        format!("{}{host}->{}{guest}/{}", first.address, first.guest, first.protocol)
    });
    words.collect::<Vec<_>>().join(", ")
}

fn health_of(status: &Status) -> Option<Health> {
    status.live.as_ref().and_then(|live| live.health)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_in_a_row_are_shown_as_a_range() {
        let port = |host: u16, guest| Published {
            address: ([0, 0, 0, 0], host).into(),
            guest,
            protocol: network::PortProtocol::Tcp,
        };
        assert_eq!(shown_ports(&[]), "-");
        let shown = shown_ports(&[port(8001, 81), port(8000, 80), port(9000, 90)]);
        assert_eq!(shown, "0.0.0.0:8000-8001->80-81/tcp, 0.0.0.0:9000->90/tcp");
    }

    #[test]
    fn filters_are_named_when_they_are_wrong() {
        assert_eq!(parse_filter("state=halted"), Ok(Filter::State(State::Halted)));
        assert_eq!(parse_filter("label=a=b"), Ok(Filter::Label("a".to_owned(), Some("b".to_owned()))));
        assert!(parse_filter("state=asleep").unwrap_err().contains("`halted`"));
        assert!(parse_filter("volume=x").unwrap_err().contains("`label`"));
        assert!(parse_filter("web").is_err());
    }
}
