//! `pull`: an image from a registry into the store.

use image::{Image, Platform, PullError, Reference, Registries, RegistryError, Store};
use serde::Serialize;

use crate::args::{Global, PullArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::progress::LayerBars;

/// What `pull --json` prints; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Pulled {
    image: String,
    digest: String,
    platform: String,
    size: u64,
}

pub(crate) fn pull(global: &Global, args: &PullArgs) -> Result<Exit, Failure> {
    let store = open_store(global)?;
    let platform = args.platform.clone().unwrap_or_else(Platform::of_host);
    let mut registries = registries()?;
    registries.require_digest |= args.require_digest;
    let image = fetch_from(global, &store, &args.image, &platform, &registries)?;
    let pulled = Pulled {
        image: args.image.full(),
        digest: image.manifest_digest.to_string(),
        platform: image.platform().to_string(),
        size: image.size(),
    };
    match global.format() {
        Format::Json => output::json(&pulled),
        Format::Text => {
            output::talk(&format!("{} ({}, {})", pulled.digest, pulled.platform, output::size(pulled.size)));
            output::data(&pulled.image);
        }
    }
    Ok(Exit::Success)
}

/// Fetches an image, with a bar for each layer.
pub(crate) fn fetch(
    global: &Global,
    store: &Store,
    reference: &Reference,
    platform: &Platform,
) -> Result<Image, Failure> {
    fetch_from(global, store, reference, platform, &registries()?)
}

fn fetch_from(
    global: &Global,
    store: &Store,
    reference: &Reference,
    platform: &Platform,
    registries: &Registries,
) -> Result<Image, Failure> {
    let bars = LayerBars::new(global);
    let outcome = runtime()?.block_on(image::pull(store, reference, platform, registries, &bars));
    drop(bars);
    outcome.map_err(|error| Failure::new(kind(&error), &error).hint(error.hint()))
}

fn kind(error: &PullError) -> &'static str {
    match error {
        PullError::NotFound { .. } => "image_not_found",
        PullError::Unauthorized { .. } => "unauthorized",
        PullError::NoDigest { .. } => "digest_required",
        PullError::Registry(error) => registry_kind(error, "pull_failed"),
        _ => "pull_failed",
    }
}

/// The kind of a registry's failure, for programs.
pub(crate) fn registry_kind(error: &RegistryError, otherwise: &'static str) -> &'static str {
    match error {
        RegistryError::Unauthorized { .. } => "unauthorized",
        RegistryError::Unreachable { .. }
        | RegistryError::Stalled { .. }
        | RegistryError::Truncated { .. }
        | RegistryError::Answer { status: 429 | 500..=599, .. } => "unreachable",
        RegistryError::Configuration(_) => "registries",
        _ => otherwise,
    }
}

/// What the user's configuration says of registries.
pub(crate) fn registries() -> Result<Registries, Failure> {
    Registries::from_environment().map_err(|error| Failure::new("registries", &error))
}

/// What images and archives may take.
pub(crate) fn limits() -> Result<home::ContentLimits, Failure> {
    home::ContentLimits::from_environment().map_err(|error| Failure::new("limits", &error))
}

/// Opens the state directory.
pub(crate) fn open_home(global: &Global) -> Result<home::Home, Failure> {
    home::Home::open(global.home.as_deref()).map_err(|error| {
        Failure::new("home", &error).hint(Some("name a directory of your own with --home or MICROAGENT_HOME"))
    })
}

/// Opens the image store.
pub(crate) fn open_store(global: &Global) -> Result<Store, Failure> {
    let home = open_home(global)?;
    Store::open(&home.images()).map_err(|error| Failure::new("image_store", &error))
}

/// The runtime for what waits on many things at once. It drives everything on the calling thread.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("system", &error))
}
