//! `events`: what happened to workspaces.

use std::io::Write;

use home::Name;
use jiff::Timestamp;
use workspace::{Event, EventFilter, EventReader};

use crate::args::Global;
use crate::completion::workspaces;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::pull::open_home;
use crate::time::parse_moment;

/// Show what happened to workspaces
///
/// Also to those that are gone. With --json each event is a document on a line of its own.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent events
  microagent events -f web
  microagent events --since 1h")]
pub(crate) struct EventsArgs {
    /// The workspace; all if absent
    #[arg(value_name = "NAME", add = workspaces())]
    name: Option<Name>,
    /// Go on with what happens
    #[arg(short, long)]
    follow: bool,
    /// At this time or later: a time, or how long ago (as in 2026-01-31T12:00:00Z, 90, 10m)
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    until: Option<Timestamp>,
}

pub(crate) fn events(global: &Global, args: &EventsArgs) -> Result<Exit, Failure> {
    let failed = |error: std::io::Error| Failure::new("system", &error);
    let home = open_home(global)?;
    let filter = EventFilter { workspace: args.name.clone(), since: args.since, until: args.until };
    let format = global.format();
    if args.follow {
        show(EventReader::follow(&home, filter).map_err(failed)?, format).map_err(failed)?;
    } else {
        show(EventReader::new(&home, filter).map_err(failed)?, format).map_err(failed)?;
    }
    Ok(Exit::Success)
}

fn show(events: impl Iterator<Item = std::io::Result<Event>>, format: Format) -> std::io::Result<()> {
    for event in events {
        let event = event?;
        let line = match format {
            Format::Json => serde_json::to_string(&event).expect("events are plain data"),
            Format::Text => words(&event),
        };
        // A reader of ours that has gone, as `head` does, is no failure.
        if writeln!(std::io::stdout(), "{line}").is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Reasons may be a guest's words, and a terminal obeys control characters.
fn words(event: &Event) -> String {
    let words = output::printable(&event.kind.words());
    format!("{:.3}  {:<20}  {words}", event.time, event.workspace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use workspace::EventKind;

    #[test]
    fn a_guests_words_do_nothing_to_a_terminal() {
        let reason = "\x1b[2J\u{9b}31mä\nhalted\r".to_owned();
        let event = Event {
            time: Timestamp::UNIX_EPOCH,
            workspace: "web".parse().unwrap(),
            kind: EventKind::Failed { reason },
        };
        let shown = words(&event);
        assert!(shown.ends_with(r"failed: \u{1b}[2J\u{9b}31mä\nhalted\r"), "{shown}");
    }
}
