//! `commit`: a workspace's changes become an image.

use home::Name;
use image::{Change, Reference, Store};
use serde::Serialize;
use workspace::{CommitError, CommitOutcome, CommitRequest, Workspace, helper_machine};

use crate::args::Global;
use crate::completion::{images, workspaces};
use crate::exit::Exit;
use crate::failure::{Failure, helper_kind};
use crate::output::{self, Format};
use crate::progress::Counter;
use crate::pull::{open_home, runtime};
use crate::signals;
use crate::template_verbs::prepare_next;

/// Make an image of a workspace
///
/// The workspace must be at rest. Its changes become one layer on top of its image's, and its settings (command,
/// environment, user, working directory, labels) those of the new image. What is on volumes and bundles is left out.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent commit web web:configured
  microagent commit -m 'nginx and its site' -c 'CMD [\"nginx\"]' web registry.example.org/web:2")]
pub(crate) struct CommitArgs {
    /// The workspace
    #[arg(value_name = "NAME", add = workspaces())]
    name: Name,
    /// The image's name
    #[arg(value_name = "IMAGE", add = images())]
    image: Reference,
    /// What to remember of the changes
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Who made them
    #[arg(short, long, value_name = "TEXT")]
    author: Option<String>,
    /// Change how the image is run, in the words of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL,
    /// ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR
    #[arg(short, long, value_name = "CHANGE")]
    change: Vec<Change>,
}

/// What `commit --json` prints; a contract. Sizes are in bytes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Made {
    image: String,
    id: String,
    digest: String,
    /// Of the new layer.
    layer: String,
    layer_size: u64,
}

pub(crate) fn commit(global: &Global, args: &CommitArgs) -> Result<Exit, Failure> {
    if args.image.digest().is_some() {
        return Err(Failure::usage(format!("cannot name an image `{}`: a digest is not chosen", args.image))
            .hint(Some("leave out the digest")));
    }
    let home = open_home(global)?;
    let workspace = Workspace::find(&home, &args.name).map_err(|error| Failure::workspace(&error))?;
    let store = Store::open(&home.images()).map_err(|error| Failure::new("image_store", &error))?;
    let request = CommitRequest {
        name: args.image.clone(),
        message: args.message.clone(),
        author: args.author.clone(),
        changes: args.change.clone(),
    };
    let mut counter = Counter::new(global, global.quiet);
    let progress = move |bytes| counter.set(bytes);
    let outcome = runtime()?.block_on(async {
        let mut controls = signals::watch()?;
        workspace.commit(&store, &request, global.helpers(), &mut controls, progress).await
    });
    let committed = match outcome.map_err(|error| failure(&error))? {
        CommitOutcome::Done(committed) => committed,
        CommitOutcome::Interrupted(signal) => return Ok(Exit::Signaled(signal)),
    };
    if committed.booted && global.templates != template::Budget::Off {
        prepare_next(global, &home, "warm", None, &helper_machine(workspace.record()));
    }
    let image = &committed.image;
    let layer = image.layers.last().expect("an image that was committed has its layer");
    match global.format() {
        Format::Json => output::json(&Made {
            image: args.image.full(),
            id: image.config_digest.to_string(),
            digest: image.manifest_digest.to_string(),
            layer: layer.digest.to_string(),
            layer_size: layer.size,
        }),
        Format::Text => output::data(&image.config_digest.to_string()),
    }
    Ok(Exit::Success)
}

/// What a guest says is shown, and not obeyed.
fn failure(error: &CommitError) -> Failure {
    let failure = match error {
        CommitError::Workspace(error) => Failure::workspace(error),
        CommitError::Base { .. } => Failure::new("image_not_found", error),
        CommitError::Helper(helper) => Failure::new(helper_kind(helper), error),
        CommitError::NotStarted(_) | CommitError::Lost(_) => Failure::new("guest", error),
        CommitError::Unclean(_) => Failure::new("not_clean", error),
        CommitError::Store(_) => Failure::new("image_store", error),
        CommitError::Layer { .. } | CommitError::Io(_) => Failure::new("commit_failed", error),
    };
    let failure = failure.printable();
    match error.hint() {
        Some(hint) => failure.hint(Some(hint)),
        None => failure,
    }
}
