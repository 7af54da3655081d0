//! `delete` and `rename`.

use home::Name;
use workspace::{State, Workspace, WorkspaceError};

use crate::args::Global;
use crate::completion::workspaces;
use crate::end::each_in;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::pull::open_home;
use crate::question::{agreed, can_ask};

/// How long a service may take to end before its workspace is deleted.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Delete workspaces and their disks
///
/// Asks first, on a terminal. A workspace that does not exist is no failure.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent delete web
  microagent delete --yes web        # stops it gracefully first
  microagent delete --force web      # kills it first")]
pub(crate) struct DeleteArgs {
    /// The workspaces
    #[arg(value_name = "NAME", required = true, add = workspaces())]
    names: Vec<Name>,
    /// Do not ask; stop running ones gracefully
    #[arg(short, long)]
    yes: bool,
    /// Do not ask; kill running ones
    #[arg(short, long)]
    force: bool,
}

/// Give a workspace another name, also while it runs
#[derive(Debug, clap::Args)]
pub(crate) struct RenameArgs {
    /// The workspace
    #[arg(value_name = "NAME", add = workspaces())]
    name: Name,
    /// Its new name
    #[arg(value_name = "NEW-NAME")]
    to: Name,
}

/// What to do with one that runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Running {
    Stop,
    Kill,
}

pub(crate) fn delete(global: &Global, args: &DeleteArgs) -> Result<Exit, Failure> {
    let asks = !args.yes && !args.force;
    if asks && !can_ask() {
        return Err(Failure::usage("cannot ask whether to delete: standard input is no terminal")
            .hint(Some("say it: --yes (stops it first) or --force (kills it first)")));
    }
    let home = open_home(global)?;
    let mut names = Vec::new();
    for name in &args.names {
        match Workspace::find(&home, name) {
            Err(WorkspaceError::Unknown(_)) => output::talk(&format!("{name}: there is no such workspace")),
            Ok(workspace) if asks && !confirmed(&workspace) => output::talk(&format!("{name}: kept")),
            _ => names.push(name.clone()),
        }
    }
    let running = if args.force { Running::Kill } else { Running::Stop };
    Ok(each_in(global, &home, &names, |workspace| {
        end(workspace, running)?;
        match workspace.delete() {
            // Somebody else was faster.
            Ok(()) | Err(WorkspaceError::Unknown(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }))
}

fn end(workspace: &Workspace, running: Running) -> Result<(), WorkspaceError> {
    let state = workspace.status()?.state;
    if !state.is_live() {
        return Ok(());
    }
    match running {
        Running::Kill => workspace.kill().map(drop),
        // One that is frozen cannot be asked for anything.
        Running::Stop if state == State::Paused => {
            workspace.resume()?;
            workspace.stop(PATIENCE).map(drop)
        }
        Running::Stop => workspace.stop(PATIENCE).map(drop),
    }
}

fn confirmed(workspace: &Workspace) -> bool {
    let live = workspace.status().is_ok_and(|status| status.state.is_live());
    let name = workspace.name();
    agreed(&if live {
        format!("workspace {name} is running; stop it and delete it with its disk? [y/N] ")
    } else {
        format!("delete workspace {name} with its disk? [y/N] ")
    })
}

pub(crate) fn rename(global: &Global, args: &RenameArgs) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    let renamed = Workspace::find(&home, &args.name).and_then(|workspace| workspace.rename(&args.to));
    renamed.map_err(|error| Failure::workspace(&error))?;
    crate::create::print(global, &args.to);
    Ok(Exit::Success)
}
