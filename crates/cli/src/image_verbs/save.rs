//! `save`: images as an archive or a directory.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use image::{
    ArchiveFormat, Content, Image, ImageToSave, Platform, Reference, SaveError, Store, save_directory,
};
use serde::Serialize;

use super::{find, find_all};
use crate::args::Global;
use crate::completion::images;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::progress::Steps;
use crate::pull::open_store;

/// Write images to an archive or directory
///
/// The archive goes to standard output if --output is not given. What `docker load`, `podman load`, skopeo and umoci take
/// is written.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent save -o debian.tar debian:12
  microagent save debian:12 busybox | ssh host docker load
  microagent save --format oci-dir -o ./layout debian:12
  microagent save --all-platforms --format oci-archive -o app.tar app:1")]
pub(crate) struct SaveArgs {
    /// The images, by names or by IDs; those by IDs have no name in the archive
    #[arg(value_name = "IMAGE", required = true, add = images())]
    images: Vec<String>,
    /// The file or directory to write
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// What to write
    #[arg(long, value_enum, default_value_t)]
    format: SavedFormat,
    /// The platform, where images are there for several
    #[arg(long, value_name = "OS/ARCH", conflicts_with = "all_platforms")]
    platform: Option<Platform>,
    /// Save images for all platforms that are here, each with an index of them
    #[arg(long)]
    all_platforms: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum SavedFormat {
    /// A tar that `docker load` takes, and that is an OCI image layout too
    #[default]
    DockerArchive,
    /// An OCI image layout as a tar
    OciArchive,
    /// An OCI image layout as a directory
    OciDir,
}

/// What `save --json` prints where the archive goes to a file; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Saved {
    output: PathBuf,
    images: Vec<SavedImage>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SavedImage {
    id: String,
    platform: String,
    names: Vec<String>,
}

pub(crate) fn save(global: &Global, args: &SaveArgs) -> Result<Exit, Failure> {
    let store = open_store(global)?;
    let chosen = chosen(&store, args)?;
    let mut steps = Steps::new(global);
    let mut progress = |done, total| steps.bytes("saving", done, total);
    let format = match args.format {
        SavedFormat::OciArchive => ArchiveFormat::Oci,
        SavedFormat::DockerArchive | SavedFormat::OciDir => ArchiveFormat::Docker,
    };
    let outcome = match (&args.output, args.format) {
        (Some(path), SavedFormat::OciDir) => save_directory(&store, &chosen, path, &mut progress),
        (None, SavedFormat::OciDir) => {
            return Err(Failure::usage("a directory cannot be written to standard output")
                .hint(Some("name one with --output")));
        }
        (Some(path), _) => to_file(&store, &chosen, format, path, &mut progress),
        (None, _) if io::stdout().is_terminal() => {
            return Err(Failure::usage("cannot write an archive to a terminal")
                .hint(Some("name a file with --output, or pipe it on")));
        }
        (None, _) => image::save(&store, &chosen, format, BufWriter::new(io::stdout().lock()), &mut progress),
    };
    steps.done();
    outcome.map_err(|error| Failure::new("save_failed", &error).hint(error.hint()))?;
    if let (Some(path), Format::Json) = (&args.output, global.format()) {
        let images = chosen.iter().flat_map(saved).collect();
        output::json(&Saved { output: path.clone(), images });
    }
    Ok(Exit::Success)
}

/// An entry for each platform.
fn saved(saved: &ImageToSave) -> Vec<SavedImage> {
    let images = match &saved.content {
        Content::Image(image) => std::slice::from_ref(image.as_ref()),
        Content::Index(images) => images,
    };
    let entry = |image: &Image| SavedImage {
        id: image.config_digest.to_string(),
        platform: image.platform().to_string(),
        names: saved.names.iter().map(ToString::to_string).collect(),
    };
    images.iter().map(entry).collect()
}

/// The images, each once, with the names by which they were given.
fn chosen(store: &Store, args: &SaveArgs) -> Result<Vec<ImageToSave>, Failure> {
    let mut chosen: Vec<ImageToSave> = Vec::new();
    for text in &args.images {
        let found = if args.all_platforms {
            find_all(store, text)?
        } else {
            vec![find(store, text, args.platform.as_ref())?.image]
        };
        let names: Vec<Reference> = found[0].reference.iter().cloned().collect();
        // The same image by another name is the same but for that.
        let mut images: Vec<Image> =
            found.into_iter().map(|image| Image { reference: None, ..image }).collect();
        let content = if args.all_platforms {
            Content::Index(images)
        } else {
            Content::Image(Box::new(images.remove(0)))
        };
        match chosen.iter_mut().find(|known| known.content == content) {
            Some(known) => known.names.extend(names),
            None => chosen.push(ImageToSave { content, names }),
        }
    }
    Ok(chosen)
}

/// A regular file is there whole or not at all; a pipe or a device is written as it is.
fn to_file(
    store: &Store,
    images: &[ImageToSave],
    format: ArchiveFormat,
    path: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), SaveError> {
    let failed = |source| SaveError::File { path: path.to_owned(), source };
    if path.exists() && !path.is_file() {
        let file = File::options().write(true).open(path).map_err(failed)?;
        return image::save(store, images, format, BufWriter::new(file), progress);
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".microagent-save-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory)
        .map_err(failed)?;
    image::save(store, images, format, BufWriter::new(file.as_file_mut()), progress)?;
    file.flush().map_err(failed)?;
    file.persist(path).map(drop).map_err(|error| failed(error.error))
}
