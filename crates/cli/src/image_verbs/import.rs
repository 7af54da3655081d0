//! `import`: a root file system becomes an image.

use std::fs::{File, Metadata};
use std::io::Read;

use image::{Change, History, ImportOptions, Platform, Reference};
use jiff::Timestamp;
use serde::Serialize;

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::progress::Reading;
use crate::pull::{limits, open_store};

/// Make an image of a root file system
///
/// The root file system is a tar, which may be packed with gzip or zstd. The image has it as its only layer, and runs
/// nothing by itself unless a change says so.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent import rootfs.tar.gz base:1
  mmdebstrap bookworm - | microagent import - debian:mine
  microagent import -c 'CMD [\"/bin/sh\"]' -c 'ENV LANG=C.UTF-8' rootfs.tar base:1")]
pub(crate) struct ImportArgs {
    /// The tar; `-` for standard input
    #[arg(value_name = "FILE")]
    file: std::path::PathBuf,
    /// The image's name; none if absent
    #[arg(value_name = "IMAGE")]
    image: Option<Reference>,
    /// Change how it is run, in the words of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD,
    /// SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR
    #[arg(short, long, value_name = "CHANGE")]
    change: Vec<Change>,
    /// What to remember of it
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// The platform that its programs are for; the host's if absent
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
}

/// What `import --json` prints; a contract. Sizes are in bytes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Imported {
    image: Option<String>,
    id: String,
    digest: String,
    platform: String,
    size: u64,
}

pub(crate) fn import(global: &Global, args: &ImportArgs) -> Result<Exit, Failure> {
    let tar = open(global, args)?;
    let store = open_store(global)?;
    let options = ImportOptions {
        platform: args.platform.clone().unwrap_or_else(Platform::of_host),
        changes: args.change.clone(),
        history: History {
            created: format!("{:.0}", Timestamp::now()),
            created_by: "microagent import".to_owned(),
            author: None,
            comment: args.message.clone(),
        },
        name: args.image.clone(),
        unpacked_size: limits()?.unpacked_size,
    };
    let image = image::import(&store, tar, &options)
        .map_err(|error| Failure::new("import_failed", &error).hint(error.hint()))?;
    match global.format() {
        Format::Json => output::json(&Imported {
            image: args.image.as_ref().map(Reference::full),
            id: image.config_digest.to_string(),
            digest: image.manifest_digest.to_string(),
            platform: image.platform().to_string(),
            size: image.size(),
        }),
        Format::Text => output::data(&image.config_digest.to_string()),
    }
    Ok(Exit::Success)
}

fn open(global: &Global, args: &ImportArgs) -> Result<Box<dyn Read + Send>, Failure> {
    if args.file.as_os_str() == "-" {
        if crate::terminal::is_input() {
            return Err(Failure::usage("cannot import a root file system from a terminal")
                .hint(Some("name a file, or pipe one in")));
        }
        return Ok(Box::new(std::io::stdin()));
    }
    let shown = args.file.display().to_string();
    if shown.starts_with("http://") || shown.starts_with("https://") {
        return Err(Failure::usage("cannot import from a URL")
            .hint(Some(format!("fetch it on the way: curl -fL {shown} | microagent import - IMAGE"))));
    }
    let file = File::open(&args.file)
        .map_err(|error| Failure::new("import_failed", &error).about(&format!("failed to read `{shown}`")))?;
    let size = file.metadata().ok().filter(Metadata::is_file).map(|metadata| metadata.len());
    Ok(Box::new(Reading::new(global, file, size)))
}
