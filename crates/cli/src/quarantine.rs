//! `quarantine`: a workspace is frozen, cut off and fenced, or let go again.

use home::Name;
use workspace::Workspace;

use crate::args::Global;
use crate::completion::workspaces;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::pull::open_home;

/// Freeze a workspace, cut it off, and fence it
///
/// Its network, exec and console are cut, and every command that would change it is refused; status, logs, events
/// and copying out still work. It holds across crashes until it is lifted, which halts the workspace.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent quarantine --reason 'odd traffic' web
  microagent quarantine --release --reason 'checked by ops' web")]
pub(crate) struct QuarantineArgs {
    /// The workspace
    #[arg(value_name = "NAME", add = workspaces())]
    name: Name,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Lift the quarantine, and halt the workspace
    #[arg(long)]
    release: bool,
}

pub(crate) fn quarantine(global: &Global, args: &QuarantineArgs) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    let changed = Workspace::find(&home, &args.name).and_then(|workspace| {
        if args.release { workspace.release(&args.reason) } else { workspace.quarantine(&args.reason) }
    });
    changed.map_err(|error| Failure::workspace(&error))?;
    crate::create::print(global, &args.name);
    Ok(Exit::Success)
}
