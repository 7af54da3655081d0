//! `image verify`: whether what is in the store is what it should be.

use image::{Digest, Fault, Problem, Store};
use serde::Serialize;

use super::{each, find, store_failure};
use crate::args::Global;
use crate::completion::images;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::progress::Steps;
use crate::pull::open_store;

/// Read images again, and tell what is damaged
///
/// Every byte of every layer is read and held against its digest. What is damaged is removed, so that the next pull or load
/// brings it again. Exit code 1 tells that something was damaged or missing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent image verify
  microagent image verify debian:12")]
pub(crate) struct VerifyArgs {
    /// The images, by names or by IDs; all if absent
    #[arg(value_name = "IMAGE", add = images())]
    images: Vec<String>,
}

/// What `image verify --json` prints; a contract. Sizes are in bytes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Document {
    images: usize,
    blobs: usize,
    bytes: u64,
    problems: Vec<Found>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Found {
    digest: String,
    fault: &'static str,
    images: Vec<String>,
}

pub(crate) fn verify(global: &Global, args: &VerifyArgs) -> Result<Exit, Failure> {
    let store = open_store(global)?;
    let (digests, found) = each(global, &args.images, |text| manifests(&store, text));
    let digests = digests.concat();
    let only: Option<&[Digest]> = if args.images.is_empty() { None } else { Some(&digests) };
    let mut steps = Steps::new(global);
    let verified = store.verify(only, &mut |done, total| steps.bytes("verifying", done, total));
    steps.done();
    let verified = verified.map_err(|error| store_failure(&error))?;
    let exit = if verified.problems.is_empty() { found } else { Exit::Failed };
    let document = Document {
        images: verified.images,
        blobs: verified.blobs,
        bytes: verified.bytes,
        problems: verified.problems.iter().map(describe).collect(),
    };
    if global.format() == Format::Json {
        output::json(&document);
        return Ok(exit);
    }
    for Found { digest, fault, images } in &document.problems {
        output::data(&format!("{digest}  {fault}  {}", images.join(" ")));
    }
    let size = output::size(document.bytes);
    output::talk(&format!("{} images, {} sound blobs, {size} read", document.images, document.blobs));
    if !document.problems.is_empty() {
        output::talk("hint: pull or load those images again");
    }
    Ok(exit)
}

/// The manifests of a name or an ID; a name is found however damaged its images are.
fn manifests(store: &Store, text: &str) -> Result<Vec<Digest>, Failure> {
    if let Ok(name) = text.parse() {
        let called = store.called(&name).map_err(|error| store_failure(&error))?;
        if !called.is_empty() {
            return Ok(called.into_iter().map(|listed| listed.manifest_digest).collect());
        }
    }
    Ok(vec![find(store, text, None)?.image.manifest_digest])
}

fn describe(problem: &Problem) -> Found {
    let named = problem.names.iter().map(ToString::to_string).collect::<Vec<_>>();
    Found {
        digest: problem.digest.to_string(),
        fault: match problem.fault {
            Fault::Missing => "missing",
            Fault::Damaged => "damaged",
            Fault::NoImage => "not an image",
        },
        images: if named.is_empty() { vec!["<none>".to_owned()] } else { named },
    }
}
