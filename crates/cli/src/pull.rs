//! `pull`: an image from a registry into the store.

use home::Home;
use image::{Image, Platform, PullError, Reference, Registries, RegistryError, Store};
use serde::Serialize;
use workspace::{ArrivingRoot, RootError};

use crate::args::{Global, PullArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::progress::{LayerBars, Steps};

/// What `pull --json` prints, and an entry of `pull --all-platforms --json`; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Pulled {
    image: String,
    digest: String,
    platform: String,
    size: u64,
}

pub(crate) fn pull(global: &Global, args: &PullArgs) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    let platform = args.platform.clone().unwrap_or_else(Platform::of_host);
    let mut registries = registries()?;
    registries.require_digest |= args.require_digest;
    if args.all_platforms {
        return pull_all(global, &home, &args.image, &registries);
    }
    let (image, prepared) = fetch_from(global, &home, &args.image, &platform, &registries)?;
    if let Err(failure) = prepared {
        // It is here, and can be pushed and saved.
        output::talk(&failure.as_warning());
    }
    let pulled = Pulled::new(&args.image, &image);
    match global.format() {
        Format::Json => output::json(&pulled),
        Format::Text => {
            pulled.tell();
            output::data(&pulled.image);
        }
    }
    Ok(Exit::Success)
}

/// An image for all platforms. None is made ready to run: who wants that pulls it for this host.
fn pull_all(
    global: &Global,
    home: &Home,
    reference: &Reference,
    registries: &Registries,
) -> Result<Exit, Failure> {
    let store = Store::open(&home.images()).map_err(|error| Failure::new("image_store", &error))?;
    let bars = LayerBars::new(global);
    let outcome = runtime()?.block_on(image::pull_all(&store, reference, registries, &bars));
    drop(bars);
    let images = outcome.map_err(|error| Failure::new(kind(&error), &error).hint(error.hint()))?;
    let mut pulled: Vec<_> = images.iter().map(|image| Pulled::new(reference, image)).collect();
    pulled.sort_by(|one, other| one.platform.cmp(&other.platform));
    match global.format() {
        Format::Json => output::json(&pulled),
        Format::Text => {
            pulled.iter().for_each(Pulled::tell);
            output::data(&reference.full());
        }
    }
    Ok(Exit::Success)
}

impl Pulled {
    fn new(reference: &Reference, image: &Image) -> Self {
        Self {
            image: reference.full(),
            digest: image.manifest_digest.to_string(),
            platform: image.platform().to_string(),
            size: image.size(),
        }
    }

    fn tell(&self) {
        output::talk(&format!("{} ({}, {})", self.digest, self.platform, output::size(self.size)));
    }
}

/// Fetches an image to run, with a bar for each layer.
pub(crate) fn fetch(
    global: &Global,
    home: &Home,
    reference: &Reference,
    platform: &Platform,
) -> Result<Image, Failure> {
    let (image, prepared) = fetch_from(global, home, reference, platform, &registries()?)?;
    prepared.map(|()| image)
}

/// Fetches an image, and makes its root file system as the layers come if it is one for this host. What the second came
/// to is told apart.
fn fetch_from(
    global: &Global,
    home: &Home,
    reference: &Reference,
    platform: &Platform,
    registries: &Registries,
) -> Result<(Image, Result<(), Failure>), Failure> {
    let store = Store::open(&home.images()).map_err(|error| Failure::new("image_store", &error))?;
    let bars = LayerBars::new(global);
    let failed = |error: PullError| Failure::new(kind(&error), &error).hint(error.hint());
    if !Platform::of_host().matches(platform) {
        let pull = image::pull(&store, reference, platform, registries, &bars);
        return Ok((runtime()?.block_on(pull).map_err(failed)?, Ok(())));
    }
    let root = ArrivingRoot::new(home, &bars);
    let image = runtime()?.block_on(image::pull(&store, reference, platform, registries, &root));
    let image = image.map_err(failed)?;
    bars.clear();
    let mut steps = Steps::new(global);
    let total = image.size();
    let prepared = root.finish(&image, &mut |bytes| steps.bytes("preparing the image", bytes, total));
    steps.done();
    let unusable = |error: RootError| {
        let about = format!("cannot use image `{reference}`");
        Failure::new("image_unusable", &error).about(&about).hint(error.hint())
    };
    Ok((image, prepared.map(drop).map_err(unusable)))
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
