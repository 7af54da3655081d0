//! `image inspect`: everything known about images.

use std::collections::BTreeMap;

use image::{Compression, Configuration, FoundImage, Platform, Store};
use serde::Serialize;
use serde_json::Value;

use super::{each, find, store_failure};
use crate::args::Global;
use crate::completion::images;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format, printable};
use crate::pull::open_store;
use crate::status::words;

/// Show everything known about images
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent image inspect debian:12
  microagent image inspect --json busybox | jq '.[0].layers'")]
pub(crate) struct InspectArgs {
    /// The images, by names or by IDs
    #[arg(value_name = "IMAGE", required = true, add = images())]
    images: Vec<String>,
    /// The platform, where an image is there for several
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
}

/// An entry of `image inspect --json`; a contract. Sizes are in bytes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Document {
    id: String,
    digest: String,
    names: Vec<String>,
    platform: String,
    created_at: Option<String>,
    author: Option<String>,
    size: u64,
    entrypoint: Vec<String>,
    command: Vec<String>,
    env: Vec<String>,
    user: Option<String>,
    workdir: Option<String>,
    stop_signal: Option<String>,
    exposed_ports: Vec<String>,
    volumes: Vec<String>,
    labels: BTreeMap<String, String>,
    /// As Docker writes it.
    healthcheck: Option<Value>,
    layers: Vec<Layer>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Layer {
    digest: String,
    diff_id: String,
    size: u64,
    compression: &'static str,
}

pub(crate) fn inspect(global: &Global, args: &InspectArgs) -> Result<Exit, Failure> {
    let store = open_store(global)?;
    let (documents, exit) = each(global, &args.images, |text| {
        let found = find(&store, text, args.platform.as_ref())?;
        document(&store, found)
    });
    match global.format() {
        Format::Json => output::json(&documents),
        Format::Text => {
            for (number, document) in documents.iter().enumerate() {
                if number > 0 {
                    output::data("");
                }
                print(document);
            }
        }
    }
    Ok(exit)
}

fn document(store: &Store, found: FoundImage) -> Result<Document, Failure> {
    let FoundImage { image, names, .. } = found;
    let whole = Configuration::of(store, &image).map_err(|error| store_failure(&error))?;
    let config = image.config.config().clone().unwrap_or_default();
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let labels = config.labels().clone().unwrap_or_default();
    Ok(Document {
        id: image.config_digest.to_string(),
        digest: image.manifest_digest.to_string(),
        names: names.iter().map(ToString::to_string).collect(),
        platform: image.platform().to_string(),
        created_at: text(image.config.created()),
        author: text(image.config.author()),
        size: image.size(),
        entrypoint: list(config.entrypoint()),
        command: list(config.cmd()),
        env: list(config.env()),
        user: text(config.user()),
        workdir: text(config.working_dir()),
        stop_signal: text(config.stop_signal()),
        exposed_ports: list(config.exposed_ports()),
        volumes: list(config.volumes()),
        labels: labels.into_iter().collect(),
        healthcheck: whole.run_member("Healthcheck").cloned(),
        layers: image.layers.iter().map(layer).collect(),
    })
}

fn layer(layer: &image::Layer) -> Layer {
    Layer {
        digest: layer.digest.to_string(),
        diff_id: layer.diff_id.to_string(),
        size: layer.size,
        compression: match layer.compression {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        },
    }
}

fn print(document: &Document) {
    let line = |label: &str, value: &str| output::data(&format!("{label:<14}{}", printable(value)));
    let all = |label: &str, values: &[String]| values.iter().for_each(|value| line(label, value));
    let optional = |label: &str, value: &Option<String>| value.iter().for_each(|value| line(label, value));
    let command = |label: &str, argv: &[String]| {
        if !argv.is_empty() {
            line(label, &words(argv));
        }
    };
    line("ID", &document.id);
    line("Digest", &document.digest);
    all("Name", &document.names);
    line("Platform", &document.platform);
    optional("Created", &document.created_at);
    optional("Author", &document.author);
    line("Size", &output::size(document.size));
    command("Entrypoint", &document.entrypoint);
    command("Command", &document.command);
    optional("User", &document.user);
    optional("Workdir", &document.workdir);
    optional("Stop signal", &document.stop_signal);
    optional("Health", &document.healthcheck.as_ref().map(Value::to_string));
    all("Env", &document.env);
    all("Port", &document.exposed_ports);
    all("Volume", &document.volumes);
    for (name, value) in &document.labels {
        line("Label", &format!("{name}={value}"));
    }
    for layer in &document.layers {
        let Layer { digest, size, compression, .. } = layer;
        line("Layer", &format!("{digest}  {}  {compression}", output::size(*size)));
    }
}
