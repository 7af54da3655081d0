//! `stats`: what running workspaces use, again and again.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use home::{Home, Name};
use network::Report;
use serde::Serialize;
use workspace::{GuestUsage, HostUsage, Workspace};

use crate::args::Global;
use crate::completion::workspaces;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::pull::open_home;

/// The time between two looks: what is told is the use in between.
const PERIOD: Duration = Duration::from_secs(1);

/// Moves to the top left corner, and clears what is below; ECMA-48's CUP and ED.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Show what running workspaces use
///
/// CPU is a share of one of this host's processors, as the host sees it. Memory is what the machine takes of this
/// host, and what its guest uses of its own. What went through disks counts from the boot on, and through the network from
/// the start on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent stats
  microagent stats --no-stream --json web")]
pub(crate) struct StatsArgs {
    /// The workspaces; all that run if absent
    #[arg(value_name = "NAME", add = workspaces())]
    names: Vec<Name>,
    /// Look once, and end
    #[arg(long)]
    no_stream: bool,
}

/// An entry of `stats --json`; a contract. Without --no-stream, each look is a line of its own.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Entry {
    #[cfg_attr(test, schemars(with = "String"))]
    name: Name,
    #[cfg_attr(test, schemars(with = "String"))]
    state: workspace::State,
    /// In percent of one processor of the host, since the last look.
    cpu_percent: Option<f64>,
    /// The same as the guest sees it: of its own processors, it is busy for so long.
    guest_cpu_percent: Option<f64>,
    /// Of the host, in bytes.
    memory: Option<u64>,
    /// Of the guest.
    guest_memory: Option<u64>,
    guest_memory_size: Option<u64>,
    network_received: Option<u64>,
    network_sent: Option<u64>,
    disk_read: Option<u64>,
    disk_written: Option<u64>,
}

/// Counters at one moment.
struct Look {
    at: Instant,
    host: Option<HostUsage>,
    guest: Option<GuestUsage>,
    /// What went through its network, as that counts.
    network: Option<Report>,
}

type Looks = HashMap<Name, Look>;

pub(crate) fn stats(global: &Global, args: &StatsArgs) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    for name in &args.names {
        Workspace::find(&home, name).map_err(|error| Failure::workspace(&error))?;
    }
    let mut before = Looks::new();
    look(&home, args, &mut before)?;
    loop {
        std::thread::sleep(PERIOD);
        let entries = look(&home, args, &mut before)?;
        match global.format() {
            Format::Json if args.no_stream => output::json(&entries),
            Format::Json => {
                let line = serde_json::to_string(&entries).expect("documents are plain data");
                if !output::try_data(&line) {
                    return Ok(Exit::Success);
                }
            }
            Format::Text => {
                if !args.no_stream && std::io::stdout().is_terminal() {
                    output::raw(CLEAR);
                }
                if !show(&entries) {
                    return Ok(Exit::Success);
                }
            }
        }
        if args.no_stream {
            return Ok(Exit::Success);
        }
    }
}

/// Looks at each, and tells what it used since the last look.
fn look(home: &Home, args: &StatsArgs, before: &mut Looks) -> Result<Vec<Entry>, Failure> {
    let all = Workspace::all(home).map_err(|error| Failure::new("system", &error))?;
    let mut entries = Vec::new();
    let mut now = Looks::new();
    for (name, found) in all {
        let named = args.names.contains(&name);
        if !args.names.is_empty() && !named {
            continue;
        }
        // One that is damaged or gone uses nothing.
        let Ok((workspace, status)) = found.and_then(|found| found.status().map(|status| (found, status)))
        else {
            continue;
        };
        if status.live.is_none() && !named {
            continue;
        }
        let guest = status.live.as_ref().and_then(|_| workspace.guest_usage());
        let network = status.live.as_ref().and_then(|_| workspace.network_report());
        let look = Look { at: Instant::now(), host: HostUsage::of(&status), guest, network };
        entries.push(entry(&name, status.state, before.get(&name), &look));
        now.insert(name, look);
    }
    *before = now;
    Ok(entries)
}

fn entry(name: &Name, state: workspace::State, before: Option<&Look>, now: &Look) -> Entry {
    let elapsed = before.map(|before| now.at.duration_since(before.at).as_secs_f64().max(0.001));
    let host = before.and_then(|before| Some((before.host?, now.host?)));
    let guest = before.and_then(|before| Some((before.guest?, now.guest?)));
    let percent = |seconds: f64| elapsed.map(|elapsed| (seconds / elapsed * 100.0).max(0.0));
    Entry {
        name: name.clone(),
        state,
        cpu_percent: host.and_then(|(before, now)| percent(now.cpu_seconds - before.cpu_seconds)),
        guest_cpu_percent: guest.and_then(|(before, now)| {
            percent(Duration::from_micros(now.busy.saturating_sub(before.busy)).as_secs_f64())
        }),
        memory: now.host.map(|host| host.memory),
        guest_memory: now.guest.map(|guest| guest.memory_used),
        guest_memory_size: now.guest.map(|guest| guest.memory_size),
        network_received: now.network.map(|network| network.bytes_received),
        network_sent: now.network.map(|network| network.bytes_sent),
        disk_read: now.guest.map(|guest| guest.disk_read),
        disk_written: now.guest.map(|guest| guest.disk_written),
    }
}

/// Prints the table; tells whether somebody reads it.
fn show(entries: &[Entry]) -> bool {
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), output::size);
    let pair = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (None, None) => "-".to_owned(),
        _ => format!("{} / {}", size(one), size(other)),
    };
    let percent = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{share:.1}%"));
    let row = |entry: &Entry| {
        [
            entry.name.to_string(),
            percent(entry.cpu_percent),
            percent(entry.guest_cpu_percent),
            size(entry.memory),
            pair(entry.guest_memory, entry.guest_memory_size),
            pair(entry.network_received, entry.network_sent),
            pair(entry.disk_read, entry.disk_written),
        ]
    };
    let headings =
        ["NAME", "CPU", "GUEST CPU", "MEMORY", "GUEST MEMORY", "NETWORK IN / OUT", "DISK READ / WRITTEN"];
    output::try_table(headings, &entries.iter().map(row).collect::<Vec<_>>())
}
