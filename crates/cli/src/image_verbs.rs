//! `load`, `image list`, and what all verbs about images share.

pub(crate) mod delete;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod prune;
pub(crate) mod save;
pub(crate) mod tag;
pub(crate) mod verify;

use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use image::{
    FoundImage, Image, InvalidReference, Listed, LoadError, LoadOptions, Loaded, LookupError, Platform,
    Reference, Store, StoreError,
};
use serde::Serialize;

use crate::args::{Global, PullArgs};
use crate::completion::images;
use crate::exit::Exit;
use crate::failure::{self, Failure};
use crate::output::{self, Format};
use crate::progress::Steps;
use crate::pull::{limits, open_store};
use crate::push::PushArgs;
use delete::DeleteImagesArgs;
use history::HistoryArgs;
use import::ImportArgs;
use inspect::InspectArgs;
use prune::PruneImagesArgs;
use save::SaveArgs;
use tag::TagArgs;
use verify::VerifyArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// List images
    #[command(alias = "ls")]
    List(ListArgs),
    /// Fetch an image from a registry
    Pull(PullArgs),
    /// Put an image into a registry
    Push(PushArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Delete images, or names of images
    #[command(alias = "rm")]
    Delete(DeleteImagesArgs),
    /// Show everything known about images
    Inspect(InspectArgs),
    /// Show how an image came to be
    History(HistoryArgs),
    /// Write images to an archive or directory
    Save(SaveArgs),
    /// Load images from an archive or directory
    Load(LoadArgs),
    /// Make an image of a root file system
    Import(ImportArgs),
    /// Delete images that nobody needs
    Prune(PruneImagesArgs),
    /// Read images again, and tell what is damaged
    Verify(VerifyArgs),
}

/// Load images from an archive or directory
///
/// Takes what `docker save` and `podman save` write, and OCI image layouts as a tar (compressed or not) or as
/// a directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  docker save debian:12 | microagent load
  microagent load --input ./oci-layout --name mine:1")]
pub(crate) struct LoadArgs {
    /// The archive or directory; standard input if absent
    #[arg(short, long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// Name the image so, in place of its own names
    #[arg(long, value_name = "IMAGE")]
    name: Option<Reference>,
    /// The platform to choose from a multi-platform image
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
}

/// List images
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent images
  microagent images debian
  microagent images --ids --dangling")]
pub(crate) struct ListArgs {
    /// Only images whose name is this, or is this with any tag
    #[arg(value_name = "IMAGE", add = images())]
    image: Option<String>,
    /// Print image IDs only
    #[arg(short = 'q', long)]
    ids: bool,
    /// Only images without a name
    #[arg(long)]
    dangling: bool,
}

/// An entry of `load --json`; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct LoadedImage {
    names: Vec<String>,
    digest: String,
}

/// An entry of `image list --json`; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ListedImage {
    image: String,
    digest: String,
    id: Option<String>,
    platform: Option<String>,
    size: Option<u64>,
    created_at: Option<String>,
    /// Blobs are missing or damaged; the rest is then not known.
    damaged: bool,
}

pub(crate) fn load(global: &Global, args: &LoadArgs) -> Result<Exit, Failure> {
    let store = open_store(global)?;
    let platform = args.platform.clone().unwrap_or_else(Platform::of_host);
    let options = LoadOptions { platform, name: args.name.clone(), archive_size: limits()?.archive_size };
    let loaded = match &args.input {
        Some(path) if path.as_os_str() != "-" => from_path(global, &store, path, &options),
        _ if crate::terminal::is_input() => {
            return Err(Failure::usage("cannot load an image from a terminal").hint(Some(
                "name a file with --input, or pipe one in: docker save IMAGE | microagent load",
            )));
        }
        _ => image::load(&store, std::io::stdin(), &options),
    };
    let loaded = loaded.map_err(|error| Failure::new("load_failed", &error).hint(error.hint()))?;
    let loaded: Vec<_> = loaded.iter().map(describe).collect();
    match global.format() {
        Format::Json => output::json(&loaded),
        Format::Text => {
            for image in loaded {
                let name = image.names.first().cloned();
                output::data(&name.unwrap_or(image.digest));
            }
        }
    }
    Ok(Exit::Success)
}

/// Loads from a file with a bar, and from anything else without.
fn from_path(
    global: &Global,
    store: &Store,
    path: &Path,
    options: &LoadOptions,
) -> Result<Vec<Loaded>, LoadError> {
    let size = std::fs::metadata(path).ok().filter(Metadata::is_file).map(|metadata| metadata.len());
    match (size, File::open(path)) {
        (Some(size), Ok(file)) => {
            let mut steps = Steps::new(global);
            let loaded =
                image::load_file(store, &file, options, &mut |so_far| steps.bytes("reading", so_far, size));
            steps.done();
            loaded
        }
        _ => image::load_path(store, path, options),
    }
}

fn describe(loaded: &Loaded) -> LoadedImage {
    LoadedImage {
        names: loaded.names.iter().map(ToString::to_string).collect(),
        digest: loaded.manifest_digest.to_string(),
    }
}

pub(crate) fn list(global: &Global, args: &ListArgs) -> Result<Exit, Failure> {
    let store = open_store(global)?;
    let mut listed = store.list().map_err(|error| store_failure(&error))?;
    if let Some(text) = &args.image {
        let wanted: Reference =
            text.parse().map_err(|error: InvalidReference| Failure::usage(error.to_string()))?;
        // A name without a tag is for all tags.
        let any_tag = wanted.tag() == Some("latest") && !text.ends_with(":latest");
        listed.retain(|listed| is_wanted(listed, &wanted, any_tag));
    }
    listed.retain(|listed| !args.dangling || listed.reference.is_none());
    let describe = |listed| describe_listed(&store, listed);
    let images = listed.iter().map(describe).collect::<Result<Vec<_>, _>>();
    let images = images.map_err(|error| store_failure(&error))?;
    if global.format() == Format::Json {
        output::json(&images);
        return Ok(Exit::Success);
    }
    if args.ids {
        for id in images.into_iter().filter_map(|image| image.id) {
            output::data(&id);
        }
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = images
        .into_iter()
        .map(|image| {
            let id = image.id.as_deref().map_or_else(|| "damaged".to_owned(), short);
            let size = image.size.map_or_else(|| "-".to_owned(), output::size);
            [image.image, id, image.platform.unwrap_or_else(|| "-".to_owned()), size]
        })
        .collect();
    output::table(["IMAGE", "ID", "PLATFORM", "SIZE"], &rows);
    Ok(Exit::Success)
}

fn is_wanted(listed: &Listed, wanted: &Reference, any_tag: bool) -> bool {
    let Some(own) = &listed.reference else { return false };
    let same = own.registry() == wanted.registry() && own.repository() == wanted.repository();
    same && (any_tag || wanted.tag() == own.tag())
}

fn describe_listed(store: &Store, listed: &Listed) -> Result<ListedImage, StoreError> {
    let image = match store.read(&listed.manifest_digest) {
        Ok(image) => Some(image),
        // One that is damaged is not hidden, so that it can be deleted or pulled again.
        Err(
            StoreError::Missing { .. }
            | StoreError::Damaged { .. }
            | StoreError::Document { .. }
            | StoreError::TooLarge { .. },
        ) => None,
        Err(error) => return Err(error),
    };
    let platform = image.as_ref().map(image::Image::platform).or_else(|| listed.platform.clone());
    Ok(ListedImage {
        image: listed.reference.as_ref().map_or_else(|| "<none>".to_owned(), ToString::to_string),
        digest: listed.manifest_digest.to_string(),
        id: image.as_ref().map(|image| image.config_digest.to_string()),
        platform: platform.as_ref().map(ToString::to_string),
        size: image.as_ref().map(image::Image::size),
        created_at: image.as_ref().and_then(|image| image.config.created().clone()),
        damaged: image.is_none(),
    })
}

/// The first digits of a digest, by which people know an image.
pub(crate) fn short(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().take(12).collect()
}

/// The image that `text` names or is the ID of.
pub(crate) fn find(store: &Store, text: &str, platform: Option<&Platform>) -> Result<FoundImage, Failure> {
    store.lookup(text, platform).map_err(|error| not_found(&error))
}

/// The images that `text` names, one for each platform that is here.
pub(crate) fn find_all(store: &Store, text: &str) -> Result<Vec<Image>, Failure> {
    store.lookup_all(text).map_err(|error| not_found(&error))
}

fn not_found(error: &LookupError) -> Failure {
    let kind = match error {
        LookupError::Unknown { .. } => "image_not_found",
        LookupError::Name(_) => return Failure::usage(error.to_string()),
        LookupError::Ambiguous { .. } => "ambiguous",
        LookupError::Store(_) => "image_store",
    };
    Failure::new(kind, error).hint(error.hint())
}

/// Why the store cannot be used.
pub(crate) fn store_failure(error: &StoreError) -> Failure {
    Failure::new("image_store", error).hint(error.hint())
}

/// Does something about each of `names`, goes on after one that fails, and tells how it went in all.
pub(crate) fn each<T>(
    global: &Global,
    names: &[String],
    mut verb: impl FnMut(&str) -> Result<T, Failure>,
) -> (Vec<T>, Exit) {
    let mut exit = Exit::Success;
    let mut done = Vec::new();
    for name in names {
        match verb(name) {
            Ok(outcome) => done.push(outcome),
            Err(failure) => exit = failure::print(&failure, global.format()),
        }
    }
    (done, exit)
}
