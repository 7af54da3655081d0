//! `rmi` and `image delete`: names of images go, and with its last name an image.

use std::collections::BTreeMap;

use home::Name;
use image::{Digest, Reference, Store, Untagged};
use serde::Serialize;
use workspace::image_users;

use super::{each, find, store_failure};
use crate::args::Global;
use crate::completion::images;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::pull::open_home;

/// Delete images, or names of images
///
/// A name is taken away; an image goes with its last name, and the layers that no other image has go with it. An image that
/// workspaces are made from is not deleted: with --force it loses its names, and stays for them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent rmi debian:12
  microagent rmi daa4044b17f1
  microagent rmi --force debian:12      # also if workspaces are made from it, which keep it")]
pub(crate) struct DeleteImagesArgs {
    /// The images, by names or by IDs
    #[arg(value_name = "IMAGE", required = true, add = images())]
    images: Vec<String>,
    /// Take names away from images that are used too, and all names of one that is given by its ID
    #[arg(short, long)]
    force: bool,
}

/// What `rmi --json` prints; a contract. Sizes are in bytes.
#[derive(Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Outcome {
    untagged: Vec<String>,
    deleted: Vec<String>,
    kept: Vec<String>,
    freed: u64,
}

type Users = BTreeMap<Digest, Vec<Name>>;

pub(crate) fn delete(global: &Global, args: &DeleteImagesArgs) -> Result<Exit, Failure> {
    let home = open_home(global)?;
    let store = Store::open(&home.images()).map_err(|error| store_failure(&error))?;
    let users = image_users(&home).map_err(|error| Failure::new("disk", &error))?;
    let (all, exit) = each(global, &args.images, |text| one(&store, &users, text, args.force));
    let mut deleted = Outcome::default();
    for untagged in all {
        deleted.untagged.extend(untagged.names.iter().map(Reference::to_string));
        deleted.deleted.extend(untagged.gone.iter().map(Digest::to_string));
        deleted.kept.extend(untagged.kept.iter().map(Digest::to_string));
    }
    // If others add content right now, whoever removes something next removes this too.
    let collected = store.collect().map_err(|error| store_failure(&error))?.unwrap_or_default();
    deleted.freed = collected.bytes;
    match global.format() {
        Format::Json => output::json(&deleted),
        Format::Text => print(&deleted),
    }
    Ok(exit)
}

fn print(deleted: &Outcome) {
    for (word, all) in [("untagged", &deleted.untagged), ("deleted", &deleted.deleted)] {
        for entry in all {
            output::data(&format!("{word}: {entry}"));
        }
    }
    for digest in &deleted.kept {
        output::talk(&format!("{digest} stays, without a name, for the workspaces made from it"));
    }
}

fn one(store: &Store, users: &Users, text: &str, force: bool) -> Result<Untagged, Failure> {
    if let Ok(name) = text.parse::<Reference>() {
        let last = store.only_called(&name).map_err(|error| store_failure(&error))?;
        refuse_used(users, text, &last, force)?;
        let untagged = store.untag(&name, &|digest| users.contains_key(digest));
        let untagged = untagged.map_err(|error| store_failure(&error))?;
        if !untagged.names.is_empty() {
            return Ok(untagged);
        }
    }
    match find(store, text, None) {
        Ok(found) => by_id(store, users, text, &found, force),
        // As in scripts that clear up, whatever is there.
        Err(failure) if force && failure.kind() == "image_not_found" => {
            output::talk(&format!("{text}: there is no such image"));
            Ok(Untagged::default())
        }
        Err(failure) => Err(failure),
    }
}

fn by_id(
    store: &Store,
    users: &Users,
    text: &str,
    found: &image::FoundImage,
    force: bool,
) -> Result<Untagged, Failure> {
    let digest = found.image.manifest_digest;
    refuse_used(users, text, &[digest], force)?;
    if found.names.len() > 1 && !force {
        let names: Vec<_> = found.names.iter().map(|name| format!("`{name}`")).collect();
        let message = format!("cannot delete image `{text}`: it has several names, {}", names.join(", "));
        return Err(Failure::refused("image_used", message)
            .hint(Some(format!("delete one of them, or all: microagent rmi --force {text}"))));
    }
    let kept = users.contains_key(&digest);
    let failed = |error| store_failure(&error);
    let mut untagged = Untagged { names: found.names.clone(), ..Untagged::default() };
    if kept {
        store.remove_names(&digest).map_err(failed)?;
        untagged.kept.push(digest);
    } else {
        store.remove_digest(&digest).map_err(failed)?;
        untagged.gone.push(digest);
    }
    Ok(untagged)
}

fn refuse_used(users: &Users, text: &str, digests: &[Digest], force: bool) -> Result<(), Failure> {
    let names: Vec<String> = digests
        .iter()
        .filter_map(|digest| users.get(digest))
        .flatten()
        .map(|name| format!("`{name}`"))
        .collect();
    if names.is_empty() || force {
        return Ok(());
    }
    let word = if names.len() == 1 { "workspace" } else { "workspaces" };
    let message = format!("cannot delete image `{text}`: {word} {} is made from it", names.join(", "));
    let message = if names.len() == 1 { message } else { message.replace(" is made", " are made") };
    Err(Failure::refused("image_used", message)
        .hint(Some("delete those first, or take its name away and leave it to them: microagent rmi --force")))
}
