//! `logs`: what a workspace's console and service said.
#![allow(clippy::struct_excessive_bools, reason = "each is a switch on the command line")]

use std::io::{self, Write};

use home::Name;
use jiff::Timestamp;
use workspace::{LogEntry, LogFilter, LogItem, LogReader, LogSource, Workspace};

use crate::args::Global;
use crate::completion::workspaces;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::pull::open_home;
use crate::time::parse_moment;

/// Show what a workspace said
///
/// That is its console (the kernel's words among it) and its service's output, from every start. What the
/// service wrote to its standard error goes to standard error here. One stream alone is shown byte for byte.
/// With --json each piece is a document on a line of its own.
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
    /// At this time or later: a time, or how long ago (as in 2026-01-31T12:00:00Z, 90, 10m)
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<Timestamp>,
    /// Before this time
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
    Lines(u64),
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
    let failed = |error: io::Error| Failure::new("system", &error);
    let filter = filter(args);
    let mut printer = Printer::new(global.format(), args.timestamps, &filter);
    if args.follow {
        return show(workspace.follow_log(filter).map_err(failed)?, &mut printer);
    }
    let items = LogReader::open(&workspace.logs(), filter).map_err(failed)?;
    show(items, &mut printer)
}

fn show(items: impl Iterator<Item = io::Result<LogItem>>, printer: &mut Printer) -> Result<Exit, Failure> {
    for item in items {
        let item = item.map_err(|error| Failure::new("system", &error))?;
        // A reader of ours that has gone, as `head` does, is no failure.
        if printer.print(&item).is_err() {
            break;
        }
    }
    Ok(Exit::Success)
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
    /// Whether lines of several sources, or times, stand between what a source says.
    mixed: bool,
    stdout: Page<io::Stdout>,
    stderr: Page<io::Stderr>,
}

/// A stream, and whether a line is open on it.
struct Page<W> {
    stream: W,
    open_line: Option<LogSource>,
}

impl Printer {
    fn new(format: Format, timestamps: bool, filter: &LogFilter) -> Self {
        let stdout = Page { stream: io::stdout(), open_line: None };
        let stderr = Page { stream: io::stderr(), open_line: None };
        Self { format, timestamps, mixed: timestamps || filter.sources.len() != 1, stdout, stderr }
    }

    fn print(&mut self, item: &LogItem) -> io::Result<()> {
        match (self.format, item) {
            (Format::Json, item) => {
                let document = serde_json::to_string(item).expect("entries are plain data");
                writeln!(self.stdout.stream, "{document}")?;
                self.stdout.stream.flush()
            }
            (Format::Text, LogItem::Entry(entry)) if entry.source == LogSource::Stderr => {
                self.stderr.print(entry, self.mixed, self.timestamps)
            }
            (Format::Text, LogItem::Entry(entry)) => self.stdout.print(entry, self.mixed, self.timestamps),
            (Format::Text, LogItem::Lost { time, entries }) => {
                output::talk(&format!("{time:.3}: {entries} entries lost, the host's disk was full"));
                Ok(())
            }
        }
    }
}

impl<W: Write> Page<W> {
    /// What goes on with the open line follows it; anything else begins a line, if there is something to mix with.
    fn print(&mut self, entry: &LogEntry, mixed: bool, timestamps: bool) -> io::Result<()> {
        let goes_on = entry.continued && self.open_line == Some(entry.source);
        let mut text = Vec::new();
        if mixed && self.open_line.is_some() && !goes_on {
            text.push(b'\n');
        }
        if timestamps && !goes_on {
            text.extend_from_slice(format!("{:.9} ", entry.time).as_bytes());
        }
        text.extend_from_slice(&entry.bytes);
        self.open_line = (!entry.bytes.ends_with(b"\n")).then_some(entry.source);
        self.stream.write_all(&text)?;
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(entries: &[(LogSource, &str, bool)], mixed: bool, timestamps: bool) -> String {
        let mut page = Page { stream: Vec::new(), open_line: None };
        for (source, text, continued) in entries {
            let time = Timestamp::UNIX_EPOCH;
            let entry =
                LogEntry { time, source: *source, bytes: text.as_bytes().to_vec(), continued: *continued };
            page.print(&entry, mixed, timestamps).unwrap();
        }
        String::from_utf8(page.stream).unwrap()
    }

    const PROMPT: [(LogSource, &str, bool); 4] = [
        (LogSource::Stdout, "name? ", false),
        (LogSource::Stdout, "ada\n", true),
        (LogSource::Stdout, "age? ", false),
        (LogSource::Stdout, "new start\n", false),
    ];

    #[test]
    fn a_stream_alone_is_shown_byte_for_byte() {
        assert_eq!(shown(&PROMPT, false, false), "name? ada\nage? new start\n");
    }

    #[test]
    fn mixed_streams_do_not_run_into_each_other() {
        let console = (LogSource::Console, "[1.0] kernel\n", false);
        let entries = [PROMPT[0], console, PROMPT[1], PROMPT[2], PROMPT[3]];
        assert_eq!(shown(&entries, true, false), "name? \n[1.0] kernel\nada\nage? \nnew start\n");
    }

    #[test]
    fn a_time_stands_before_each_line_and_not_within_it() {
        let time = "1970-01-01T00:00:00.000000000Z";
        let expected = format!("{time} name? ada\n{time} age? \n{time} new start\n");
        assert_eq!(shown(&PROMPT, true, true), expected);
    }
}
