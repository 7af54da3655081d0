//! `artifacts`: the files that a workspace's `--output`s name.

use home::Name;
use serde::Serialize;
use workspace::{Access, Artifact, Copied, OpenFiles, Workspace, helper_machine};

use crate::args::Global;
use crate::completion::workspaces;
use crate::cp::{self, tell_left_out};
use crate::exit::Exit;
use crate::failure::{self, Failure};
use crate::output::{self, Format};
use crate::progress::Counter;
use crate::pull::{open_home, runtime};
use crate::signals;
use crate::template_verbs::prepare_next;

/// List what a workspace's `--output`s name, and fetch it
///
/// Without an output's name they are listed. Those that are named are copied to where their `--output` says, as seen
/// from this directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent create --name job --output report=/work/report.xml --image debian:12 make test
  microagent artifacts job
  microagent artifacts job report")]
pub(crate) struct ArtifactsArgs {
    /// The workspace
    #[arg(value_name = "NAME", add = workspaces())]
    name: Name,
    /// The outputs to fetch
    #[arg(value_name = "OUTPUT")]
    outputs: Vec<String>,
    /// Fetch all of them
    #[arg(short, long, conflicts_with = "outputs")]
    all: bool,
}

/// An entry of `artifacts --json`; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Entry {
    name: String,
    /// In the guest.
    path: String,
    /// On the host, as seen from the current directory.
    destination: String,
    /// Whether it was fetched now.
    fetched: bool,
}

impl Entry {
    fn of(artifact: &Artifact, fetched: bool) -> Self {
        let destination = artifact.destination().display().to_string();
        Self { name: artifact.name.clone(), path: artifact.path.clone(), destination, fetched }
    }
}

pub(crate) fn artifacts(global: &Global, args: &ArtifactsArgs) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    let workspace = Workspace::find(&home, &args.name).map_err(|error| Failure::workspace(&error))?;
    let declared = &workspace.record().spec.outputs;
    let wanted = wanted(declared, args)?;
    if wanted.is_empty() {
        list(global, declared);
        return Ok(Exit::Success);
    }
    let mut booted = false;
    let outcome = runtime()?.block_on(async {
        let mut controls = signals::watch().map_err(|error| Failure::new("system", &error))?;
        let files = OpenFiles::open(&workspace, Access::Read, global.helpers()).await;
        let files = files.map_err(|error| cp::failure(&error))?;
        booted = files.booted();
        cp::tell_state(&files, &args.name);
        let (mut fetched, mut exit) = (Vec::new(), Exit::Success);
        for artifact in &wanted {
            let (source, target) = artifact.ends();
            let mut counter = Counter::new(global, false);
            let progress = move |bytes| counter.set(bytes);
            match files.copy_out(source, target, &mut controls, progress).await {
                Ok(Copied::All(report)) => {
                    tell_left_out(&report);
                    fetched.push(Entry::of(artifact, true));
                }
                Ok(Copied::Interrupted(signal)) => {
                    exit = Exit::Signaled(signal);
                    break;
                }
                Err(error) => exit = failure::print(&unfetched(artifact, &error), global.format()),
            }
        }
        let closed = files.close().await;
        closed.map_err(|error| cp::failure(&error)).map(|()| (fetched, exit))
    });
    if booted && global.templates != template::Budget::Off {
        prepare_next(global, &home, "warm", None, &helper_machine(workspace.record()));
    }
    let (fetched, exit) = outcome?;
    match global.format() {
        Format::Json => output::json(&fetched),
        Format::Text => fetched.iter().for_each(|entry| output::data(&entry.destination)),
    }
    Ok(exit)
}

/// Why an output was not fetched.
pub(crate) fn unfetched(artifact: &Artifact, error: &workspace::CopyError) -> Failure {
    cp::failure(error).about(&format!("cannot fetch output `{}`", artifact.name))
}

fn wanted(declared: &[Artifact], args: &ArtifactsArgs) -> Result<Vec<Artifact>, Failure> {
    if args.all {
        return Ok(declared.to_vec());
    }
    let find = |name: &String| {
        declared.iter().find(|artifact| artifact.name == *name).cloned().ok_or_else(|| {
            Failure::usage(format!("workspace `{}` has no output `{name}`", args.name))
                .exit(Exit::Failed)
                .hint(Some(format!("see those it has: microagent artifacts {}", args.name)))
        })
    };
    args.outputs.iter().map(find).collect()
}

fn list(global: &Global, declared: &[Artifact]) {
    let entries: Vec<_> = declared.iter().map(|artifact| Entry::of(artifact, false)).collect();
    match global.format() {
        Format::Json => output::json(&entries),
        Format::Text => {
            let row = |entry: &Entry| [entry.name.clone(), entry.path.clone(), entry.destination.clone()];
            output::table(["OUTPUT", "PATH", "DESTINATION"], &entries.iter().map(row).collect::<Vec<_>>());
        }
    }
}
