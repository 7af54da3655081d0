//! `network NAME --log`: what was decided about a workspace's connections.

use std::io::{self, Write};

use workspace::{NetworkLogEntry, NetworkLogFilter, Verdict, Workspace};

use super::NetworkArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};

pub(super) fn show_log(workspace: &Workspace, args: &NetworkArgs, format: Format) -> Result<Exit, Failure> {
    let filter = NetworkLogFilter { verdict: args.refused.then_some(Verdict::Refused), since: args.since };
    let shown = if args.follow {
        workspace.follow_network_log(filter).and_then(|entries| show(entries, format))
    } else {
        workspace.network_log(filter).and_then(|entries| show(entries, format))
    };
    shown.map_err(|error| Failure::new("system", &error))?;
    Ok(Exit::Success)
}

fn show(entries: impl Iterator<Item = io::Result<NetworkLogEntry>>, format: Format) -> io::Result<()> {
    for entry in entries {
        let entry = entry?;
        let line = match format {
            Format::Json => serde_json::to_string(&entry).expect("entries are plain data"),
            Format::Text => words(&entry),
        };
        // A reader of ours that has gone, as `head` does, is no failure.
        if writeln!(io::stdout(), "{line}").is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Names are a guest's words, and a terminal obeys control characters.
fn words(entry: &NetworkLogEntry) -> String {
    let reason = entry.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    let times = if entry.times > 1 { format!(" ({} times)", entry.times) } else { String::new() };
    let left_out = match entry.left_out {
        0 => String::new(),
        number => format!(" [{number} decisions before this one are left out]"),
    };
    let line = format!("{:.3}  {}  {}{reason}{times}{left_out}", entry.time, entry.verdict, entry.target());
    output::printable(&line)
}
