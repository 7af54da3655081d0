//! `tag`: another name for an image.

use image::{Platform, Reference};
use serde::Serialize;

use super::{find, store_failure};
use crate::args::Global;
use crate::completion::images;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::pull::open_store;

/// Give an image another name
///
/// The image keeps the names that it has. If another image has the new name, that one loses it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent tag debian:12 registry.example.com/team/base:12
  microagent tag daa4044b17f1 busybox:old")]
pub(crate) struct TagArgs {
    /// The image, by a name or its ID
    #[arg(value_name = "IMAGE", add = images())]
    image: String,
    /// The new name
    #[arg(value_name = "NEW-NAME")]
    name: Reference,
    /// The platform, where the image is there for several
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
}

/// What `tag --json` prints; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Tagged {
    image: String,
    id: String,
    digest: String,
}

pub(crate) fn tag(global: &Global, args: &TagArgs) -> Result<Exit, Failure> {
    if args.name.digest().is_some() {
        return Err(Failure::usage(format!(
            "cannot name an image `{}`: a digest cannot be given",
            args.name
        ))
        .hint(Some("write a name with a tag, such as team/app:1")));
    }
    let store = open_store(global)?;
    let found = find(&store, &args.image, args.platform.as_ref())?;
    let is_for_all = args.platform.is_none() && !found.by_id;
    let tagged = match &found.image.reference {
        // The name may be of an image for several platforms, and so is the new one then.
        Some(reference) if is_for_all => store.tag(reference, &args.name),
        _ => store.tag_digest(&found.image.manifest_digest, &args.name),
    };
    tagged.map_err(|error| store_failure(&error))?;
    match global.format() {
        Format::Json => output::json(&Tagged {
            image: args.name.full(),
            id: found.image.config_digest.to_string(),
            digest: found.image.manifest_digest.to_string(),
        }),
        Format::Text => output::data(&args.name.to_string()),
    }
    Ok(Exit::Success)
}
