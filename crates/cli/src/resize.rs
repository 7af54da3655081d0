//! `resize`: a larger disk for a workspace.

use home::Name;
use workspace::{DiskSize, ResizeError, Workspace, helper_machine};

use crate::args::Global;
use crate::completion::workspaces;
use crate::exit::Exit;
use crate::failure::{Failure, helper_kind};
use crate::progress::Steps;
use crate::pull::{open_home, runtime};
use crate::template_verbs::prepare_next;

/// Give a workspace that is at rest a larger disk
///
/// What is on the disk stays. It takes space on this host as it is written.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  microagent resize web --size 40g")]
pub(crate) struct ResizeArgs {
    /// The workspace
    #[arg(value_name = "NAME", add = workspaces())]
    name: Name,
    /// The disk's new size
    #[arg(short, long, value_name = "SIZE")]
    size: DiskSize,
}

pub(crate) fn resize(global: &Global, args: &ResizeArgs) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    let workspace = Workspace::find(&home, &args.name).map_err(|error| Failure::workspace(&error))?;
    let mut steps = Steps::new(global);
    steps.activity("resizing");
    let resized = runtime()?.block_on(workspace.resize(args.size, global.helpers()));
    steps.done();
    let booted = resized.map_err(|error| {
        let kind = match &error {
            ResizeError::Workspace(error) => return Failure::workspace(error),
            ResizeError::Shrink { .. } => "usage",
            ResizeError::Helper(error) => helper_kind(error),
            ResizeError::Grow(_) => "guest",
        };
        Failure::new(kind, &error).printable().hint(error.hint())
    })?;
    if booted && global.templates != template::Budget::Off {
        prepare_next(global, &home, "warm", None, &helper_machine(workspace.record()));
    }
    crate::create::print(global, &args.name);
    Ok(Exit::Success)
}
