//! `events`: what happened to workspaces.

use home::Name;
use jiff::Timestamp;
use workspace::{Event, EventFollower};

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
    /// Not before: a time, or how long ago (as in 2026-01-31T12:00:00Z, 90, 10m)
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<Timestamp>,
    /// Not after
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    until: Option<Timestamp>,
}

impl EventsArgs {
    fn wants(&self, event: &Event) -> bool {
        self.name.as_ref().is_none_or(|name| event.workspace == *name)
            && self.since.is_none_or(|since| event.time >= since)
            && self.until.is_none_or(|until| event.time <= until)
    }
}

pub(crate) fn events(global: &Global, args: &EventsArgs) -> Result<Exit, Failure> {
    let failed = |error: std::io::Error| Failure::new("system", &error);
    let home = open_home(global)?;
    let mut follower = args.follow.then(|| EventFollower::new(&home)).transpose().map_err(failed)?;
    // One that happens between the two looks is shown once.
    let mut last = None;
    for event in workspace::events(&home).map_err(failed)? {
        last = Some(event.time);
        show(global, args, &event);
    }
    while let Some(follower) = &mut follower {
        for event in follower.follow().map_err(failed)? {
            if last.is_none_or(|last| event.time > last) {
                show(global, args, &event);
            }
        }
        if args.until.is_some_and(|until| Timestamp::now() > until) {
            break;
        }
    }
    Ok(Exit::Success)
}

fn show(global: &Global, args: &EventsArgs, event: &Event) {
    if !args.wants(event) {
        return;
    }
    output::data(&match global.format() {
        Format::Json => serde_json::to_string(event).expect("events are plain data"),
        Format::Text => format!("{:.3}  {:<20}  {}", event.time, event.workspace, event.kind.words()),
    });
}
