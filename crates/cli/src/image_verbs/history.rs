//! `image history`: how an image came to be.

use image::{Image, Platform};
use serde::Serialize;

use super::find;
use crate::args::Global;
use crate::completion::images;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format, printable};
use crate::pull::open_store;
use crate::time::age;

/// How much of a command is shown.
const COMMAND: usize = 60;

/// Show how an image came to be, the newest step first
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent image history debian:12
  microagent image history --no-trunc debian:12")]
pub(crate) struct HistoryArgs {
    /// The image, by a name or its ID
    #[arg(value_name = "IMAGE", add = images())]
    image: String,
    /// Show commands in full
    #[arg(long)]
    no_trunc: bool,
    /// The platform, where the image is there for several
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
}

/// An entry of `image history --json`; a contract. Steps without a layer have no digest, and take no space.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Step {
    created_at: Option<String>,
    created_by: Option<String>,
    author: Option<String>,
    comment: Option<String>,
    size: u64,
    layer: Option<String>,
}

pub(crate) fn history(global: &Global, args: &HistoryArgs) -> Result<Exit, Failure> {
    let store = open_store(global)?;
    let found = find(&store, &args.image, args.platform.as_ref())?;
    let steps = steps(&found.image);
    if global.format() == Format::Json {
        output::json(&steps);
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = steps.into_iter().map(|step| row(step, args.no_trunc)).collect();
    output::table(["CREATED", "CREATED BY", "SIZE", "COMMENT"], &rows);
    Ok(Exit::Success)
}

/// The newest first. An image may say less of itself than it has layers, or more; those that it does not speak of
/// are the oldest.
fn steps(image: &Image) -> Vec<Step> {
    let mut layers = image.layers.iter().rev();
    let entries = image.config.history().iter().flatten().rev();
    let mut steps: Vec<Step> = entries
        .map(|entry| {
            let layer = if entry.empty_layer().unwrap_or(false) { None } else { layers.next() };
            Step {
                created_at: entry.created().clone(),
                created_by: entry.created_by().clone(),
                author: entry.author().clone(),
                comment: entry.comment().clone(),
                size: layer.map_or(0, |layer| layer.size),
                layer: layer.map(|layer| layer.digest.to_string()),
            }
        })
        .collect();
    steps.extend(layers.map(|layer| Step {
        created_at: None,
        created_by: None,
        author: None,
        comment: None,
        size: layer.size,
        layer: Some(layer.digest.to_string()),
    }));
    steps
}

fn row(step: Step, whole: bool) -> [String; 4] {
    let created = step.created_at.as_deref().and_then(|time| time.parse().ok()).map(age);
    let command = printable(&step.created_by.unwrap_or_default());
    let is_long = !whole && command.chars().count() > COMMAND;
    let command = if is_long { command.chars().take(COMMAND - 1).chain(['…']).collect() } else { command };
    let size = if step.layer.is_some() { output::size(step.size) } else { "-".to_owned() };
    [
        created.map_or_else(|| "-".to_owned(), |age| format!("{age} ago")),
        command,
        size,
        printable(&step.comment.unwrap_or_default()),
    ]
}
