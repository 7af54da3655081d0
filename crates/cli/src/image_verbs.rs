//! `load` and `image list`.

use image::{Listed, LoadOptions, Loaded, Platform, Store, StoreError};
use serde::Serialize;

use crate::args::{Global, ListArgs, LoadArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::pull::open_store;

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
    id: String,
    platform: String,
    size: u64,
    created_at: Option<String>,
}

pub(crate) fn load(global: &Global, args: &LoadArgs) -> Result<Exit, Failure> {
    let store = open_store(global)?;
    let platform = args.platform.clone().unwrap_or_else(Platform::of_host);
    let options = LoadOptions { platform, name: args.name.clone() };
    let loaded = match &args.input {
        Some(path) if path.as_os_str() != "-" => image::load_path(&store, path, &options),
        _ if crate::terminal::is_input() => {
            return Err(Failure::usage("cannot load an image from a terminal").hint(Some(
                "name a file with --input, or pipe one in: docker save IMAGE | microagent load",
            )));
        }
        _ => image::load(&store, std::io::stdin().lock(), &options),
    };
    let loaded = loaded.map_err(|error| Failure::new("load_failed", &error))?;
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

fn describe(loaded: &Loaded) -> LoadedImage {
    LoadedImage {
        names: loaded.names.iter().map(ToString::to_string).collect(),
        digest: loaded.manifest_digest.to_string(),
    }
}

pub(crate) fn list(global: &Global, args: &ListArgs) -> Result<Exit, Failure> {
    let store = open_store(global)?;
    let listed = store.list().map_err(|error| Failure::new("image_store", &error))?;
    let describe = |listed| describe_listed(&store, listed);
    let images = listed.iter().map(describe).collect::<Result<Vec<_>, _>>();
    let images = images.map_err(|error| Failure::new("image_store", &error))?;
    if global.format() == Format::Json {
        output::json(&images);
        return Ok(Exit::Success);
    }
    if args.ids {
        for image in &images {
            output::data(&image.id);
        }
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = images
        .into_iter()
        .map(|image| {
            let id = image.id.trim_start_matches("sha256:").chars().take(12).collect();
            [image.image, id, image.platform, output::size(image.size)]
        })
        .collect();
    output::table(["IMAGE", "ID", "PLATFORM", "SIZE"], &rows);
    Ok(Exit::Success)
}

fn describe_listed(store: &Store, listed: &Listed) -> Result<ListedImage, StoreError> {
    let image = store.read(&listed.manifest_digest)?;
    Ok(ListedImage {
        image: listed.reference.as_ref().map_or_else(|| "<none>".to_owned(), ToString::to_string),
        digest: image.manifest_digest.to_string(),
        id: image.config_digest.to_string(),
        platform: image.platform().to_string(),
        size: image.size(),
        created_at: image.config.created().clone(),
    })
}
