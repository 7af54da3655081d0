//! `volume create`, `list`, `status`, `delete`, `resize` and `prune`.

use std::collections::BTreeMap;

use clap::Subcommand;
use home::{Home, Name};
use jiff::Timestamp;
use serde::Serialize;
use template::Budget;
use workspace::{
    DiskSize, Volume, VolumeError, VolumeUse, VolumeVerbError, Workspace, delete_volume, random_name,
    resize_volume, unneeded_volumes, volume_machine, volume_usage, volume_users,
};

use crate::args::Global;
use crate::completion::volumes;
use crate::exit::Exit;
use crate::failure::{self, Failure, helper_kind};
use crate::output::{self, Format};
use crate::progress::Steps;
use crate::pull::{open_home, runtime};
use crate::question::{agreed, can_ask};
use crate::template_verbs::prepare_next;

/// What is done with volumes.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeVerb {
    /// Make a volume
    #[command(after_help = "Example:
  microagent volume create data --size 20g")]
    Create {
        /// Its name; one is made up if absent
        name: Option<Name>,
        /// Its size; it takes space as it is written
        #[arg(short, long, default_value_t)]
        size: DiskSize,
    },
    /// List volumes
    #[command(
        alias = "ls",
        after_help = "Example:
  microagent volume list"
    )]
    List {
        /// Print names only
        #[arg(short, long)]
        quiet: bool,
    },
    /// Show what is known of volumes
    #[command(
        alias = "inspect",
        after_help = "Example:
  microagent volume status data"
    )]
    Status {
        /// The volumes
        #[arg(required = true, add = volumes())]
        names: Vec<Name>,
    },
    /// Delete volumes, with what is on them
    #[command(
        alias = "rm",
        after_help = "Example:
  microagent volume delete --yes data"
    )]
    Delete {
        /// The volumes
        #[arg(required = true, add = volumes())]
        names: Vec<Name>,
        /// Do not ask
        #[arg(short, long, visible_alias = "force")]
        yes: bool,
    },
    /// Make a volume larger
    #[command(after_help = "Example:
  microagent volume resize data --size 40g")]
    Resize {
        /// The volume
        #[arg(add = volumes())]
        name: Name,
        /// Its new size
        #[arg(short, long)]
        size: DiskSize,
    },
    /// Delete the volumes that no workspace attaches
    #[command(after_help = "Example:
  microagent volume prune")]
    Prune {
        /// Do not ask
        #[arg(short, long, visible_alias = "force")]
        yes: bool,
    },
}

/// What `volume list --json` prints for each, and `volume status --json`; a contract. Sizes are in bytes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VolumeStatus {
    #[cfg_attr(test, schemars(with = "String"))]
    name: Name,
    #[cfg_attr(test, schemars(with = "String"))]
    created_at: Timestamp,
    size: u64,
    /// What of its file system is used, as a guest sees it; `status` alone asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<u64>,
    /// What it takes on this host.
    allocated: u64,
    /// `free`, `readers` or `writer`.
    #[cfg_attr(test, schemars(with = "String"))]
    in_use: VolumeUse,
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    workspaces: Vec<Name>,
}

/// What `volume prune --json` prints; a contract. Sizes are in bytes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Pruned {
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    removed: Vec<Name>,
    freed: u64,
}

pub(crate) fn volume(global: &Global, verb: VolumeVerb) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    match verb {
        VolumeVerb::Create { name, size } => {
            let name = name.unwrap_or_else(random_name);
            Volume::create(&home, &name, size).map_err(|error| unusable(&error))?;
            crate::create::print(global, &name);
            Ok(Exit::Success)
        }
        VolumeVerb::List { quiet } => list(global, &home, quiet),
        VolumeVerb::Status { names } => status(global, &home, &names),
        VolumeVerb::Delete { names, yes } => delete(global, &home, &names, yes),
        VolumeVerb::Resize { name, size } => resize(global, &home, &name, size),
        VolumeVerb::Prune { yes } => prune(global, &home, yes),
    }
}

fn unusable(error: &VolumeError) -> Failure {
    let kind = match error {
        VolumeError::Unknown(_) => "volume_not_found",
        VolumeError::Exists(_) => "name_taken",
        VolumeError::InUse { .. } => "volume_in_use",
        _ => "volume",
    };
    Failure::new(kind, error).hint(error.hint())
}

fn refused(error: &VolumeVerbError) -> Failure {
    let kind = match error {
        VolumeVerbError::Volume(error) => return unusable(error),
        VolumeVerbError::Needed { .. } | VolumeVerbError::Attach(_) => "volume_in_use",
        VolumeVerbError::Shrink { .. } => "usage",
        VolumeVerbError::Helper(error) => helper_kind(error),
        VolumeVerbError::Guest(_) => "guest",
        VolumeVerbError::Workspaces(_) => "system",
    };
    Failure::new(kind, error).printable().hint(error.hint())
}

fn describe(volume: &Volume, users: &BTreeMap<Name, Vec<Workspace>>) -> VolumeStatus {
    VolumeStatus {
        name: volume.name().clone(),
        created_at: volume.record().created_at,
        size: volume.record().size.bytes(),
        used: None,
        allocated: volume.allocated(),
        in_use: volume.in_use(),
        workspaces: users.get(volume.name()).into_iter().flatten().map(|user| user.name().clone()).collect(),
    }
}

fn list(global: &Global, home: &Home, quiet: bool) -> Result<Exit, Failure> {
    let all = Volume::all(home).map_err(|error| Failure::new("system", &error))?;
    let users = volume_users(home).map_err(|error| Failure::new("system", &error))?;
    let (mut exit, mut described) = (Exit::Success, Vec::new());
    for (_, found) in all {
        match found {
            Ok(volume) => described.push(describe(&volume, &users)),
            Err(error) => exit = failure::print(&unusable(&error), global.format()),
        }
    }
    if global.format() == Format::Json {
        output::json(&described);
        return Ok(exit);
    }
    if quiet {
        for volume in &described {
            output::data(volume.name.as_str());
        }
        return Ok(exit);
    }
    let rows: Vec<_> = described
        .iter()
        .map(|volume| {
            let used_by: Vec<_> = volume.workspaces.iter().map(Name::as_str).collect();
            let (size, allocated) = (output::size(volume.size), output::size(volume.allocated));
            [volume.name.to_string(), size, allocated, in_words(volume.in_use).to_owned(), used_by.join(", ")]
        })
        .collect();
    output::table(["NAME", "SIZE", "ALLOCATED", "IN USE", "WORKSPACES"], &rows);
    Ok(exit)
}

fn in_words(in_use: VolumeUse) -> &'static str {
    match in_use {
        VolumeUse::Free => "no",
        VolumeUse::Readers => "read",
        VolumeUse::Writer => "written",
    }
}

fn status(global: &Global, home: &Home, names: &[Name]) -> Result<Exit, Failure> {
    let (mut exit, mut described) = (Exit::Success, Vec::new());
    let users = volume_users(home).map_err(|error| Failure::new("system", &error))?;
    let runtime = runtime()?;
    for name in names {
        match Volume::find(home, name) {
            Err(error) => exit = failure::print(&unusable(&error), global.format()),
            Ok(volume) => {
                let mut status = describe(&volume, &users);
                let mut steps = Steps::new(global);
                steps.activity("looking at the volume");
                let usage = runtime.block_on(volume_usage(home, name, global.helpers()));
                steps.done();
                match usage {
                    Ok(usage) => status.used = usage.map(|usage| usage.disk_used),
                    // What is known is shown all the same.
                    Err(error) => exit = failure::print(&refused(&error), global.format()),
                }
                described.push(status);
            }
        }
    }
    if global.format() == Format::Json {
        output::json(&described);
        return Ok(exit);
    }
    for status in &described {
        let used = status.used.map_or_else(|| "-".to_owned(), output::size);
        let workspaces: Vec<_> = status.workspaces.iter().map(Name::as_str).collect();
        for (what, value) in [
            ("name", status.name.to_string()),
            ("created", format!("{:.0}", status.created_at)),
            ("size", output::size(status.size)),
            ("used", used),
            ("allocated", output::size(status.allocated)),
            ("in use", in_words(status.in_use).to_owned()),
            ("workspaces", if workspaces.is_empty() { "-".to_owned() } else { workspaces.join(", ") }),
        ] {
            output::data(&format!("{what:<11} {value}"));
        }
    }
    Ok(exit)
}

fn delete(global: &Global, home: &Home, names: &[Name], yes: bool) -> Result<Exit, Failure> {
    if !yes && !can_ask() {
        return Err(Failure::usage("cannot ask whether to delete: standard input is no terminal")
            .hint(Some("say it: microagent volume delete --yes")));
    }
    let mut exit = Exit::Success;
    for name in names {
        if Volume::find(home, name).is_err_and(|error| matches!(error, VolumeError::Unknown(_))) {
            output::talk(&format!("{name}: there is no such volume"));
            continue;
        }
        if !yes && !agreed(&format!("delete volume {name} with what is on it? [y/N] ")) {
            output::talk(&format!("{name}: kept"));
            continue;
        }
        match delete_volume(home, name) {
            Ok(()) => output::data(name.as_str()),
            Err(error) => exit = failure::print(&refused(&error), global.format()),
        }
    }
    Ok(exit)
}

fn resize(global: &Global, home: &Home, name: &Name, size: DiskSize) -> Result<Exit, Failure> {
    let mut steps = Steps::new(global);
    steps.activity("resizing");
    let resized = runtime()?.block_on(resize_volume(home, name, size, global.helpers()));
    steps.done();
    resized.map_err(|error| refused(&error))?;
    if global.templates != Budget::Off {
        prepare_next(global, home, "warm", None, &volume_machine());
    }
    crate::create::print(global, name);
    Ok(Exit::Success)
}

fn prune(global: &Global, home: &Home, yes: bool) -> Result<Exit, Failure> {
    let plan = unneeded_volumes(home).map_err(|error| Failure::new("system", &error))?;
    if !plan.is_empty() && !yes {
        for volume in &plan {
            output::talk(&format!("{}  {}", volume.name(), output::size(volume.allocated())));
        }
        if !can_ask() {
            return Err(Failure::usage("cannot ask whether to delete these: standard input is no terminal")
                .hint(Some("say it: microagent volume prune --yes")));
        }
        if !agreed("delete these with what is on them? [y/N] ") {
            output::talk("nothing was deleted");
            return Ok(Exit::Success);
        }
    }
    let mut pruned = Pruned { removed: Vec::new(), freed: 0 };
    for volume in plan {
        let allocated = volume.allocated();
        // What is used by now stays.
        if delete_volume(home, volume.name()).is_ok() {
            pruned.freed += allocated;
            pruned.removed.push(volume.name().clone());
        }
    }
    match global.format() {
        Format::Json => output::json(&pruned),
        Format::Text => output::data(&format!("freed {}", output::size(pruned.freed))),
    }
    Ok(Exit::Success)
}
