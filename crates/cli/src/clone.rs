//! `clone`: a second workspace with what the first has on its disk.

use home::Name;
use workspace::{CloneError, KeepError, Workspace};

use crate::args::Global;
use crate::completion::workspaces;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::pull::open_home;

/// Make a copy of a workspace that is at rest
///
/// It has the same image and settings, and a disk of its own with what the other one has. Where the file system
/// can share blocks, the copy takes no time and no space.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  microagent clone web web-test")]
pub(crate) struct CloneArgs {
    /// The workspace
    #[arg(value_name = "NAME", add = workspaces())]
    name: Name,
    /// The name of the copy
    #[arg(value_name = "NEW-NAME")]
    to: Name,
}

pub(crate) fn clone(global: &Global, args: &CloneArgs) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    let workspace = Workspace::find(&home, &args.name).map_err(|error| Failure::workspace(&error))?;
    workspace.clone_as(&args.to).map_err(|error| {
        let kind = match &error {
            CloneError::Workspace(error) => return Failure::workspace(error),
            CloneError::Keep(KeepError::Exists(_)) => "name_taken",
            CloneError::Keep(_) => "workspace",
        };
        Failure::new(kind, &error).hint(error.hint())
    })?;
    crate::create::print(global, &args.to);
    Ok(Exit::Success)
}
