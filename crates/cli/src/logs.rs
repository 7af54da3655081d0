//! `logs`: what a workspace's console and service said.
#![allow(clippy::struct_excessive_bools, reason = "each is a switch on the command line")]

use std::io::Write;

use home::Name;
use jiff::Timestamp;
use workspace::{LogEntry, LogFilter, LogReader, LogSource, Workspace};

use crate::args::Global;
use crate::completion::workspaces;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Format;
use crate::pull::open_home;
use crate::time::parse_moment;

/// Show what a workspace said
///
/// That is its console (the kernel's words among it) and its service's output, from every start. What the
/// service wrote to its standard error goes to standard error here. With --json each piece is a document on a
/// line of its own.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent logs --tail 20 web
  microagent logs -f --stdout --stderr web
  microagent logs --since 10m -t web")]
pub(crate) struct LogsArgs {
    /// The workspace
    #[arg(value_name = "NAME", add = workspaces())]
    name: Name,
    /// Go on with what it says, until it ends
    #[arg(short, long)]
    follow: bool,
    /// Only the last so many lines
    #[arg(short = 'n', long, value_name = "NUMBER", value_parser = parse_tail)]
    tail: Option<Tail>,
    /// Not before: a time, or how long ago (as in 2026-01-31T12:00:00Z, 90, 10m)
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<Timestamp>,
    /// Not after
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    until: Option<Timestamp>,
    /// Show when each line was begun
    #[arg(short, long)]
    timestamps: bool,
    /// The service's standard output
    #[arg(long)]
    stdout: bool,
    /// The service's standard error
    #[arg(long)]
    stderr: bool,
    /// The console
    #[arg(long)]
    console: bool,
}

/// How much of the end is wanted.
#[derive(Debug, Clone, Copy)]
enum Tail {
    All,
    Lines(usize),
}

fn parse_tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail::All),
        _ => text.parse().map(Tail::Lines).map_err(|_| "write a number of lines, or `all`".to_owned()),
    }
}

pub(crate) fn logs(global: &Global, args: &LogsArgs) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    let workspace = Workspace::find(&home, &args.name).map_err(|error| Failure::workspace(&error))?;
    let mut reader = LogReader::new(&workspace.logs(), filter(args));
    let mut printer = Printer { format: global.format(), timestamps: args.timestamps, began: [true; 3] };
    let failed = |error: std::io::Error| Failure::new("system", &error);
    if printer.print(&reader.read().map_err(failed)?).is_err() || !args.follow {
        return Ok(Exit::Success);
    }
    let mut is_alive = || workspace.status().is_ok_and(|status| status.state.is_live());
    loop {
        let entries = reader.follow(&mut is_alive).map_err(failed)?;
        // A reader of ours that has gone, as `head` does, is no failure.
        if entries.is_empty() || printer.print(&entries).is_err() {
            return Ok(Exit::Success);
        }
    }
}

fn filter(args: &LogsArgs) -> LogFilter {
    let sources = [
        (args.stdout, LogSource::Stdout),
        (args.stderr, LogSource::Stderr),
        (args.console, LogSource::Console),
    ];
    LogFilter {
        since: args.since,
        until: args.until,
        sources: sources.into_iter().filter(|(wanted, _)| *wanted).map(|(_, source)| source).collect(),
        tail: match args.tail {
            Some(Tail::Lines(lines)) => Some(lines),
            Some(Tail::All) | None => None,
        },
    }
}

/// Writes entries as they were said.
struct Printer {
    format: Format,
    timestamps: bool,
    /// Whether the next piece of each source begins a line.
    began: [bool; 3],
}

impl Printer {
    fn print(&mut self, entries: &[LogEntry]) -> std::io::Result<()> {
        let (mut stdout, mut stderr) = (std::io::stdout().lock(), std::io::stderr().lock());
        for entry in entries {
            if self.format == Format::Json {
                writeln!(stdout, "{}", serde_json::to_string(entry).expect("entries are plain data"))?;
                continue;
            }
            let to: &mut dyn Write =
                if entry.source == LogSource::Stderr { &mut stderr } else { &mut stdout };
            let began = &mut self.began[entry.source as usize];
            if self.timestamps && *began {
                write!(to, "{:.9} ", entry.time)?;
            }
            *began = entry.bytes.ends_with(b"\n");
            to.write_all(&entry.bytes)?;
            to.flush()?;
        }
        stdout.flush()
    }
}
