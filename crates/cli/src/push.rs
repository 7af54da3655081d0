//! `push`: an image of the store into a registry.

use image::{Platform, PushError, Reference};
use serde::Serialize;

use crate::args::Global;
use crate::completion::images;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::image_verbs::{find, find_all};
use crate::output::{self, Format};
use crate::progress::LayerBars;
use crate::pull::{open_store, registries, registry_kind, runtime};

/// Put an image into a registry
///
/// Only layers that the registry lacks are sent; those that it has in another repository it takes from there. Log in with
/// `microagent registry login`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent push registry.example.com/team/app:1
  microagent push app:1 registry.example.com/team/app:1
  microagent push --all-platforms app:1 registry.example.com/team/app:1")]
pub(crate) struct PushArgs {
    /// The image, by a name or its ID
    #[arg(value_name = "IMAGE", add = images())]
    image: String,
    /// Where to put it; the registry and tag that the image's name says if absent
    #[arg(value_name = "DESTINATION")]
    destination: Option<Reference>,
    /// The platform, where the image is there for several
    #[arg(long, value_name = "OS/ARCH", conflicts_with = "all_platforms")]
    platform: Option<Platform>,
    /// Push it for all platforms that are here, with an index of them
    #[arg(long)]
    all_platforms: bool,
}

/// What `push --json` prints; a contract. Sizes are in bytes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Document {
    image: String,
    digest: String,
    platforms: Vec<String>,
    sent: usize,
    mounted: usize,
    present: usize,
    bytes: u64,
}

pub(crate) fn push(global: &Global, args: &PushArgs) -> Result<Exit, Failure> {
    let store = open_store(global)?;
    let images = if args.all_platforms {
        find_all(&store, &args.image)?
    } else {
        vec![find(&store, &args.image, args.platform.as_ref())?.image]
    };
    let Some(target) = args.destination.clone().or_else(|| images[0].reference.clone()) else {
        return Err(Failure::usage("cannot push an image by its ID alone")
            .hint(Some(format!("say where to: microagent push {} REGISTRY/REPOSITORY:TAG", args.image))));
    };
    let registries = registries()?;
    let bars = LayerBars::new(global);
    let outcome = runtime()?.block_on(async {
        if args.all_platforms {
            return image::push_index(&store, &images, &target, &registries, &bars).await;
        }
        let pushed = image::push(&store, &images[0], &target, &registries, &bars).await?;
        Ok((images[0].manifest_digest, pushed))
    });
    drop(bars);
    let (digest, pushed) = outcome.map_err(|error| Failure::new(kind(&error), &error).hint(error.hint()))?;
    let document = Document {
        image: target.full(),
        digest: digest.to_string(),
        platforms: images.iter().map(|image| image.platform().to_string()).collect(),
        sent: pushed.sent,
        mounted: pushed.mounted,
        present: pushed.present,
        bytes: pushed.bytes,
    };
    match global.format() {
        Format::Json => output::json(&document),
        Format::Text => {
            let Document { sent, mounted, present, .. } = document;
            output::talk(&format!(
                "{} ({}): {sent} blobs sent ({}), {mounted} taken from other repositories, {present} there before",
                document.digest,
                document.platforms.join(", "),
                output::size(document.bytes)
            ));
            output::data(&document.image);
        }
    }
    Ok(Exit::Success)
}

fn kind(error: &PushError) -> &'static str {
    match error {
        PushError::NoTag { .. } => "no_tag",
        PushError::Unauthorized { .. } => "unauthorized",
        PushError::Registry(error) => registry_kind(error, "push_failed"),
        PushError::Store(_) => "image_store",
    }
}
