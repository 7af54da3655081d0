//! `start` and `restart`: a workspace gets a supervisor, which boots it from the disk that it has.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use home::{Home, Name};
use template::Budget;
use workspace::{Started, Step, Workspace};

use crate::args::Global;
use crate::completion::workspaces;
use crate::create::absolute;
use crate::exit::Exit;
use crate::failure::{self, Failure};
use crate::output::{self, Format};
use crate::progress::Steps;
use crate::pull::open_home;
use crate::run::show;
use crate::template_verbs::prepare_next;

/// Start workspaces
///
/// Each boots from the disk that it has, and the command returns when its service has been started.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent start web db
  microagent start --pcap web.pcap web")]
pub(crate) struct StartArgs {
    /// The workspaces
    #[arg(value_name = "NAME", required = true, add = workspaces())]
    names: Vec<Name>,
    /// Boot, even where a template of the machine could be restored
    #[arg(long)]
    cold: bool,
    /// Write what the network carries to a file, for tcpdump and Wireshark, until the workspace ends
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
}

/// How to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct StartMode {
    /// From power-on, even where there is a template.
    pub(crate) cold: bool,
    /// Only where this host has all that confines the machine. The workspace's settings may say so, too.
    pub(crate) confined: bool,
}

impl StartArgs {
    fn mode(&self, global: &Global) -> StartMode {
        StartMode { cold: self.cold, confined: global.require_confinement }
    }

    /// One file is for one workspace.
    fn pcap(&self) -> Result<Option<PathBuf>, Failure> {
        if self.pcap.is_some() && self.names.len() > 1 {
            return Err(Failure::usage("cannot write the packets of several workspaces to one file")
                .hint(Some("start them one by one, each with a --pcap of its own")));
        }
        self.pcap.as_deref().map(absolute).transpose()
    }
}

pub(crate) fn start(global: &Global, args: &StartArgs) -> Result<Exit, Failure> {
    let pcap = args.pcap()?;
    let home = open_home(global)?;
    Ok(each(global, args, |name| {
        let started = start_one(global, &home, name, args.mode(global), pcap.clone())?;
        if started == Started::Already {
            output::talk(&format!("{name}: it is running already"));
        }
        Ok(())
    }))
}

pub(crate) fn restart(global: &Global, args: &StartArgs) -> Result<Exit, Failure> {
    let pcap = args.pcap()?;
    let home = open_home(global)?;
    Ok(each(global, args, |name| {
        let workspace = Workspace::find(&home, name).map_err(|error| Failure::workspace(&error))?;
        let mut steps = Steps::new(global);
        steps.activity("halting");
        let halted = workspace.halt();
        steps.done();
        halted.map_err(|error| Failure::workspace(&error))?;
        start_one(global, &home, name, args.mode(global), pcap.clone()).map(drop)
    }))
}

/// Goes on after one that fails, and prints the names of the others.
fn each(global: &Global, args: &StartArgs, start: impl Fn(&Name) -> Result<(), Failure>) -> Exit {
    let mut exit = Exit::Success;
    let mut done = Vec::new();
    for name in &args.names {
        match start(name) {
            Ok(()) => {
                if global.format() == Format::Text {
                    output::data(name.as_str());
                }
                done.push(name);
            }
            Err(failure) => exit = failure::print(&failure, global.format()),
        }
    }
    if global.format() == Format::Json {
        output::json(&done);
    }
    exit
}

/// Starts one, and has a template made for the next where there was none.
pub(crate) fn start_one(
    global: &Global,
    home: &Home,
    name: &Name,
    mode: StartMode,
    pcap: Option<PathBuf>,
) -> Result<Started, Failure> {
    let templates = if mode.cold { Budget::Off } else { global.templates };
    let mut steps = Steps::new(global);
    let observe = &mut |step: Step| show(&mut steps, &step);
    let mut supervisor = supervisor(home, name, templates, mode);
    if let Some(pcap) = pcap {
        supervisor.arg("--pcap").arg(pcap);
    }
    let started = workspace::start(home, name, supervisor, observe);
    steps.done();
    let started = started.map_err(|error| Failure::workspace(&error))?;
    if started == Started::Now && !mode.cold && global.templates != Budget::Off {
        prepare_template(global, home, name);
    }
    Ok(started)
}

fn prepare_template(global: &Global, home: &Home, name: &Name) {
    let Ok(status) = Workspace::find(home, name).and_then(|workspace| workspace.status()) else { return };
    let boot = status.facts.boot;
    if boot.is_some_and(|boot| boot.template.is_none()) {
        prepare_next(global, home, "warm", None, &status.record.spec.machine());
    }
}

/// The command that becomes the workspace's supervisor.
fn supervisor(home: &Home, name: &Name, templates: Budget, mode: StartMode) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("microagent").arg("--home").arg(home.root());
    command.arg("--templates").arg(templates.to_string()).arg("supervise").arg(name.as_str());
    command.args(mode.confined.then_some("--require-confinement"));
    // It stays when this directory is to go.
    command.current_dir("/");
    command
}
