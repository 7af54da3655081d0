//! `halt`, `stop`, `kill`, `pause`, `resume` and `wait`: what is asked of running workspaces.

use std::time::Duration;

use home::{Home, Name};
use serde::Serialize;
use workspace::{Ended, Exit as ServiceExit, StopSignal, Workspace, WorkspaceError};

use crate::args::{Global, parse_time};
use crate::completion::workspaces;
use crate::exit::Exit;
use crate::failure::{self, Failure};
use crate::output::{self, Format};
use crate::progress::Steps;
use crate::pull::open_home;

/// The names of workspaces
#[derive(Debug, clap::Args)]
pub(crate) struct NamesArgs {
    /// The workspaces
    #[arg(value_name = "NAME", required = true, add = workspaces())]
    pub(crate) names: Vec<Name>,
}

/// Ask workspaces to end, and wait
///
/// Each service gets its stop signal. One that stays is left as it is, and the exit code is 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  microagent stop --timeout 30 web db")]
pub(crate) struct StopArgs {
    /// The workspaces
    #[arg(value_name = "NAME", required = true, add = workspaces())]
    names: Vec<Name>,
    /// How long to wait
    #[arg(short, long, value_name = "TIME", value_parser = parse_time, default_value = "10", visible_alias = "time")]
    timeout: Duration,
}

/// End workspaces at once
///
/// What their guests had not written out is lost; their file systems are not.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent kill web
  microagent kill --signal HUP web      # only tells the service something")]
pub(crate) struct KillArgs {
    /// The workspaces
    #[arg(value_name = "NAME", required = true, add = workspaces())]
    names: Vec<Name>,
    /// Send the service this signal, in place of ending the machine
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<StopSignal>,
}

/// What `wait --json` prints of each workspace; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Waited {
    #[cfg_attr(test, schemars(with = "String"))]
    name: Name,
    exit_code: Option<u8>,
    signal: Option<u8>,
}

pub(crate) fn halt(global: &Global, args: &NamesArgs) -> Result<Exit, Failure> {
    let mut steps = Steps::new(global);
    steps.activity("halting");
    let exit = each(global, &args.names, |workspace| workspace.halt().map(note("down")));
    steps.done();
    exit
}

pub(crate) fn stop(global: &Global, args: &StopArgs) -> Result<Exit, Failure> {
    let mut steps = Steps::new(global);
    steps.activity("stopping");
    let exit = each(global, &args.names, |workspace| workspace.stop(args.timeout).map(note("down")));
    steps.done();
    exit
}

pub(crate) fn kill(global: &Global, args: &KillArgs) -> Result<Exit, Failure> {
    let at_once = args.signal.is_none_or(|signal| signal.number() == 9);
    each(global, &args.names, |workspace| match args.signal {
        Some(signal) if !at_once => workspace.signal(signal.number()).map(|()| None),
        _ => workspace.kill().map(note("down")),
    })
}

pub(crate) fn pause(global: &Global, args: &NamesArgs) -> Result<Exit, Failure> {
    each(global, &args.names, |workspace| workspace.pause().map(|()| None))
}

pub(crate) fn resume(global: &Global, args: &NamesArgs) -> Result<Exit, Failure> {
    each(global, &args.names, |workspace| workspace.resume().map(|()| None))
}

pub(crate) fn wait(global: &Global, args: &NamesArgs) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    let mut waited = Vec::new();
    let mut exit = Exit::Success;
    for name in &args.names {
        match Workspace::find(&home, name).and_then(|workspace| workspace.wait()) {
            Ok(ended) => waited.push((name.clone(), ended)),
            Err(error) => exit = failure::print(&Failure::workspace(&error), global.format()),
        }
        if let (Format::Text, Some((_, ended))) = (global.format(), waited.last()) {
            // A service that never ran has no code; Docker prints 0 for it.
            output::data(&ended.map_or(0, ServiceExit::code).to_string());
        }
    }
    if global.format() == Format::Json {
        let document = waited.into_iter().map(|(name, ended)| Waited {
            name,
            exit_code: ended.map(ServiceExit::code),
            signal: ended.and_then(|ended| match ended {
                ServiceExit::Signal(signal) => Some(signal),
                ServiceExit::Code(_) => None,
            }),
        });
        output::json(&document.collect::<Vec<_>>());
    }
    Ok(exit)
}

/// What to say about a workspace that was what it should become.
fn note(what: &'static str) -> impl Fn(Ended) -> Option<String> {
    move |ended| (ended == Ended::Already).then(|| format!("it is {what} already"))
}

/// Does something with each workspace, goes on after one that fails, and prints the names of the others.
pub(crate) fn each(
    global: &Global,
    names: &[Name],
    verb: impl Fn(&Workspace) -> Result<Option<String>, WorkspaceError>,
) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    Ok(each_in(global, &home, names, verb))
}

/// The same in a state directory that is open.
pub(crate) fn each_in(
    global: &Global,
    home: &Home,
    names: &[Name],
    verb: impl Fn(&Workspace) -> Result<Option<String>, WorkspaceError>,
) -> Exit {
    let mut exit = Exit::Success;
    let mut done = Vec::new();
    for name in names {
        match Workspace::find(home, name).and_then(|workspace| verb(&workspace)) {
            Ok(note) => {
                if let Some(note) = note {
                    output::talk(&format!("{name}: {note}"));
                }
                if global.format() == Format::Text {
                    output::data(name.as_str());
                }
                done.push(name);
            }
            Err(error) => exit = failure::print(&Failure::workspace(&error), global.format()),
        }
    }
    if global.format() == Format::Json {
        output::json(&done);
    }
    exit
}
