//! The JSON schemas of `--json`, made of what prints the documents, and kept in `docs/reference/schemas`.
//!
//! They describe what is there: a later release may add keys, and neither removes nor changes them without a word in
//! the changelog (docs/reference/json.md).

pub(crate) mod records;

use std::path::Path;

use schemars::{Schema, schema_for};

/// Each document by the name of its file.
fn all() -> Vec<(&'static str, Schema)> {
    vec![
        ("artifacts", schema_for!(Vec<crate::artifacts::Entry>)),
        ("commit", schema_for!(crate::commit::Made)),
        ("cp", schema_for!(crate::cp::Done)),
        ("create", schema_for!(crate::create::Created<'_>)),
        ("df", schema_for!(Vec<crate::disk_verbs::Used>)),
        ("doctor", schema_for!(crate::doctor::Report)),
        ("error", schema_for!(crate::failure::Document<'_>)),
        ("events-line", schema_for!(records::EventLine)),
        ("exec", schema_for!(crate::exec::Document)),
        ("image-delete", schema_for!(crate::image_verbs::delete::Outcome)),
        ("image-history", schema_for!(Vec<crate::image_verbs::history::Step>)),
        ("image-inspect", schema_for!(Vec<crate::image_verbs::inspect::Document>)),
        ("image-list", schema_for!(Vec<crate::image_verbs::ListedImage>)),
        ("image-prune", schema_for!(crate::image_verbs::prune::Pruned)),
        ("image-verify", schema_for!(crate::image_verbs::verify::Document)),
        ("import", schema_for!(crate::image_verbs::import::Imported)),
        ("kernel-list", schema_for!(Vec<crate::kernel_verbs::ListedKernel>)),
        ("list", schema_for!(Vec<crate::list::Listed>)),
        ("load", schema_for!(Vec<crate::image_verbs::LoadedImage>)),
        ("logs-line", schema_for!(records::LogLine)),
        ("names", schema_for!(Vec<String>)),
        ("network", schema_for!(crate::network_verb::Document)),
        ("network-line", schema_for!(records::NetworkLine)),
        ("network-prune", schema_for!(crate::network_verb::named::Pruned)),
        ("network-list", schema_for!(Vec<crate::network_verb::named::NamedDocument>)),
        ("perf", schema_for!(crate::perf::Report)),
        ("perf-density", schema_for!(crate::perf::Density)),
        ("port", schema_for!(Vec<crate::port::PortDocument>)),
        ("prune", schema_for!(crate::disk_verbs::Pruned)),
        ("pull", schema_for!(crate::pull::Pulled)),
        ("push", schema_for!(crate::push::Document)),
        ("registry-list", schema_for!(Vec<crate::registry_verbs::Listed>)),
        ("registry-login", schema_for!(crate::registry_verbs::Listed)),
        ("registry-logout", schema_for!(crate::registry_verbs::LoggedOut)),
        ("save", schema_for!(crate::image_verbs::save::Saved)),
        ("stats", schema_for!(Vec<crate::stats::Entry>)),
        ("status", schema_for!(Vec<crate::status::Document>)),
        ("status-spec", schema_for!(Vec<records::Spec>)),
        ("tag", schema_for!(crate::image_verbs::tag::Tagged)),
        ("template-list", schema_for!(Vec<crate::template_verbs::ListedTemplate>)),
        ("template-warm", schema_for!(crate::template_verbs::WarmedTemplate)),
        ("version", schema_for!(crate::output::Version)),
        ("volume-prune", schema_for!(crate::volume_verbs::Pruned)),
        ("volume-status", schema_for!(Vec<crate::volume_verbs::VolumeStatus>)),
        ("wait", schema_for!(Vec<crate::end::Waited>)),
    ]
}

#[test]
fn the_schemas_are_those_of_what_is_printed() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/schemas");
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    if update {
        std::fs::create_dir_all(&directory).unwrap();
    }
    for (name, schema) in all() {
        let path = directory.join(format!("{name}.json"));
        let made = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if update {
            std::fs::write(&path, made).unwrap();
        } else {
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                kept == made,
                "bring `{name}` up to date: UPDATE_DOCS=1 cargo test -p microagent-cli schemas"
            );
        }
    }
    let kept = std::fs::read_dir(&directory).unwrap().count();
    assert_eq!(kept, all().len(), "each schema there is made here");
}
