//! `image prune`: images that nobody needs.

use std::collections::HashSet;

use image::{Digest, Listed, Store};
use serde::Serialize;
use workspace::image_users;

use super::store_failure;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::pull::open_home;
use crate::question;

/// Delete images that nobody needs
///
/// Images without a name go, and what pulls that broke off left; with --all, all images go that no workspace is made from.
/// What would go is shown first, and asked about on a terminal.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent image prune
  microagent image prune --all --yes")]
pub(crate) struct PruneImagesArgs {
    /// Also images with a name
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long, visible_alias = "force")]
    yes: bool,
}

/// What `image prune --json` prints; a contract. Sizes are in bytes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Pruned {
    deleted: Vec<PrunedImage>,
    freed: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PrunedImage {
    image: Option<String>,
    digest: String,
}

pub(crate) fn prune(global: &Global, args: &PruneImagesArgs) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    let store = Store::open(&home.images()).map_err(|error| store_failure(&error))?;
    let used = image_users(&home).map_err(|error| Failure::new("disk", &error))?;
    let listed = store.list().map_err(|error| store_failure(&error))?;
    let is_used = |image: &Listed| used.contains_key(&image.manifest_digest);
    let goes = |image: &Listed| (args.all || image.reference.is_none()) && !is_used(image);
    let gone: Vec<Listed> = listed.into_iter().filter(goes).collect();
    let digests: HashSet<Digest> = gone.iter().map(|image| image.manifest_digest).collect();
    let would = store.collectable(&digests).map_err(|error| store_failure(&error))?;
    if would.blobs > 0 && !args.yes {
        for image in &gone {
            let name = image.reference.as_ref().map_or_else(|| "<none>".to_owned(), ToString::to_string);
            output::talk(&format!("{name}  {}", image.manifest_digest));
        }
        let question = format!("delete these, {} in all? [y/N] ", output::size(would.bytes));
        if !question::confirmed(&question, "microagent image prune --yes")? {
            output::talk("nothing was deleted");
            return Ok(Exit::Success);
        }
    }
    for digest in &digests {
        store.remove_digest(digest).map_err(|error| store_failure(&error))?;
    }
    let Some(collected) = store.collect().map_err(|error| store_failure(&error))? else {
        return Err(Failure::refused("busy", "cannot delete blobs while others add some".to_owned())
            .hint(Some("wait for pulls and loads to end, and try again")));
    };
    match global.format() {
        Format::Json => {
            let deleted = gone.iter().map(|image| PrunedImage {
                image: image.reference.as_ref().map(image::Reference::full),
                digest: image.manifest_digest.to_string(),
            });
            output::json(&Pruned { deleted: deleted.collect(), freed: collected.bytes });
        }
        Format::Text => output::data(&format!("freed {}", output::size(collected.bytes))),
    }
    Ok(Exit::Success)
}
