//! `df` and `prune`: what is kept, and what nobody needs any more.

use serde::Serialize;
use workspace::{DiskUseError, PruneScope, Unneeded, disk_use, plan_prune, prune as remove};

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::pull::open_home;
use crate::question::{agreed, can_ask};

/// Remove what nobody needs any more
///
/// Blobs that no image has any more, root file systems of images that are gone, and boot files of kernels that are gone. What
/// would go is shown first, and asked about on a terminal. What was made in the last ten minutes stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent prune
  microagent prune --all --yes          # also what would be made again
  microagent prune --volumes            # also volumes that no workspace attaches
  microagent prune --workspaces         # also workspaces that do not run, with their disks")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct PruneArgs {
    /// Also templates, bundles and blank disks, which are made again when they are needed
    #[arg(short, long)]
    all: bool,
    /// Also workspaces that do not run, with their disks
    #[arg(long)]
    workspaces: bool,
    /// Also volumes that no workspace attaches, with what is on them
    #[arg(long)]
    volumes: bool,
    /// Do not ask
    #[arg(short, long, visible_alias = "force")]
    yes: bool,
}

/// An entry of `df --json`; a contract. Sizes are in bytes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Used {
    kind: &'static str,
    count: Option<usize>,
    allocated: u64,
    reclaimable: u64,
}

/// What `prune --json` prints; a contract. Sizes are in bytes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Pruned {
    removed: Vec<Removed>,
    freed: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Removed {
    kind: &'static str,
    name: String,
    allocated: u64,
}

pub(crate) fn df(global: &Global) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    let all = disk_use(&home).map_err(|error| failure(&error))?;
    let entries = all.iter().map(|part| Used {
        kind: part.kind.words(),
        count: part.count,
        allocated: part.allocated,
        reclaimable: part.reclaimable,
    });
    if global.format() == Format::Json {
        output::json(&entries.collect::<Vec<_>>());
        return Ok(Exit::Success);
    }
    let row = |used: Used| {
        let count = used.count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        [used.kind.to_owned(), count, output::size(used.allocated), output::size(used.reclaimable)]
    };
    let mut rows: Vec<_> = entries.map(row).collect();
    let total = all.iter().map(|part| part.allocated).sum();
    let reclaimable = all.iter().map(|part| part.reclaimable).sum();
    rows.push(["in all".to_owned(), String::new(), output::size(total), output::size(reclaimable)]);
    output::table(["KIND", "COUNT", "SIZE", "RECLAIMABLE"], &rows);
    Ok(Exit::Success)
}

pub(crate) fn prune(global: &Global, args: &PruneArgs) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    let scope = PruneScope { caches: args.all, workspaces: args.workspaces, volumes: args.volumes };
    let plan = plan_prune(&home, scope).map_err(|error| failure(&error))?;
    if !plan.is_empty() && !args.yes {
        for unneeded in &plan {
            let Unneeded { kind, name, allocated, .. } = unneeded;
            output::talk(&format!("{:<18}  {name}  {}", kind.words(), output::size(*allocated)));
        }
        if !can_ask() {
            return Err(Failure::usage("cannot ask whether to remove these: standard input is no terminal")
                .hint(Some("say it: microagent prune --yes")));
        }
        if !agreed("remove these? [y/N] ") {
            output::talk("nothing was removed");
            return Ok(Exit::Success);
        }
    }
    let planned = plan.len();
    let removed = remove(&home, plan).map_err(|error| failure(&error))?;
    let freed = removed.iter().map(|unneeded| unneeded.allocated).sum();
    if removed.len() < planned {
        output::talk(&format!("{} of {planned} stay: they are in use by now", planned - removed.len()));
    }
    match global.format() {
        Format::Json => {
            let removed = removed.into_iter().map(|unneeded| Removed {
                kind: unneeded.kind.words(),
                name: unneeded.name,
                allocated: unneeded.allocated,
            });
            output::json(&Pruned { removed: removed.collect(), freed });
        }
        Format::Text => output::data(&format!("freed {}", output::size(freed))),
    }
    Ok(Exit::Success)
}

fn failure(error: &DiskUseError) -> Failure {
    Failure::new("disk", error)
}
