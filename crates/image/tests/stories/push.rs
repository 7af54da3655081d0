//! Pushes to a real registry, and to some that are odd.

use std::io::Write;
use std::sync::{Arc, Mutex};

use microagent_image::{
    Compression, Configuration, Digest, History, Image, Logins, Platform, PushError, Pushed, Reference,
    Registries, RegistryError, Silent, Store, StoreError, push,
};

use crate::pull::pulled;
use crate::registry::{Registry, shown};
use crate::sample::{Sample, TestStore, assert_is_sample, options, podman, run, skopeo_copy, tar_of, tool};
use crate::stub::{Answer, Request, Stub};

fn anonymous() -> Registries {
    Registries::plain(Logins::none())
}

pub(crate) fn pushed(
    store: &Store,
    image: &Image,
    name: &str,
    registries: &Registries,
) -> Result<Pushed, PushError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reference: Reference = name.parse().unwrap();
    runtime.block_on(push(store, image, &reference, registries, &Silent))
}

/// A store with the sample in it.
pub(crate) fn sample_store() -> (TestStore, Image) {
    let sample = Sample::new();
    let target = TestStore::new();
    let loaded = microagent_image::load_path(&target.store, &sample.layout(), &options()).unwrap();
    let image = target.store.read(&loaded[0].manifest_digest).unwrap();
    (target, image)
}

/// Bytes that do not compress.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    let mut state = seed;
    for chunk in content.chunks_mut(8) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    content
}

fn of_layers(store: &Store, contents: &[Vec<u8>]) -> Image {
    let ingest = store.add().unwrap();
    let mut config = Configuration::empty(&Platform::of_host());
    let mut layers = Vec::new();
    for content in contents {
        let layer = ingest.layer(&mut tar_of("content", content).as_slice(), Compression::None).unwrap();
        config.add_layer(&layer.diff_id, &History::default());
        layers.push(layer.descriptor);
    }
    ingest.image(&config, layers, &["made:1".parse().unwrap()]).unwrap()
}

/// An image of one layer of so many bytes, a multiple of 512.
fn large(store: &Store, bytes: usize) -> Image {
    // The tar has a header before the content, and two blocks of zeros after it.
    of_layers(store, &[noise(1, bytes - 1536)])
}

/// An image of six layers of four megabytes each.
pub(crate) fn several_layers(store: &Store) -> Image {
    of_layers(store, &(0..6).map(|seed| noise(seed, 4 << 20)).collect::<Vec<_>>())
}

#[test]
fn a_push_sends_what_is_missing_and_skopeo_reads_it() {
    let registry = Registry::open();
    let (target, image) = sample_store();
    let name = format!("{}/team/small:1", registry.name());
    let first = pushed(&target.store, &image, &name, &anonymous()).unwrap();
    assert_eq!((first.sent, first.mounted, first.present), (3, 0, 0));
    let second = pushed(&target.store, &image, &name, &anonymous()).unwrap();
    assert_eq!(second, Pushed { present: 3, ..Pushed::default() });
    let copy = target.path().join("copy");
    skopeo_copy(
        &format!("docker://{name}"),
        &format!("oci:{}:small", shown(&copy)),
        &["--src-tls-verify=false"],
    );
    run(tool("umoci", "umoci").args(["stat", "--image"]).arg(format!("{}:small", shown(&copy))));
    let other = TestStore::new();
    let again = pulled(&other.store, &name, &anonymous(), &Silent).unwrap();
    assert_eq!(again.manifest_digest, image.manifest_digest);
    assert_is_sample(&again);
}

#[test]
fn layers_of_another_repository_are_taken_from_there() {
    let registry = Registry::open();
    let (target, image) = sample_store();
    let [one, two] = ["one/small:1", "two/small:1"].map(|name| format!("{}/{name}", registry.name()));
    pushed(&target.store, &image, &one, &anonymous()).unwrap();
    assert!(target.store.tag_digest(&image.manifest_digest, &one.parse().unwrap()).unwrap());
    let mounted = pushed(&target.store, &image, &two, &anonymous()).unwrap();
    assert_eq!((mounted.sent, mounted.mounted), (1, 2), "only the configuration is sent");
    assert_is_sample(&pulled(&TestStore::new().store, &two, &anonymous(), &Silent).unwrap());
}

#[test]
fn a_large_layer_goes_in_parts() {
    let registry = Registry::open();
    let target = TestStore::new();
    let image = large(&target.store, 80 << 20);
    let name = format!("{}/large:1", registry.name());
    let pushed = pushed(&target.store, &image, &name, &anonymous()).unwrap();
    assert!(pushed.bytes > 80 << 20);
    let blob = std::fs::File::open(registry.blob(&image.layers[0].digest)).unwrap();
    assert_eq!(blob.metadata().unwrap().len(), 80 << 20);
}

/// A registry that takes uploads, and keeps what came in parts.
struct Taking {
    parts: Vec<(String, String, usize)>,
    received: usize,
}

/// An answer that tells where an upload goes on, and how far it is.
fn session(status: &'static str, range: Option<String>) -> Answer {
    let mut headers = vec![("Location", "/upload?state=a%3Db".to_owned())];
    headers.extend(range.map(|range| ("Range", range)));
    Answer::Headers(status, headers)
}

/// One that breaks the second part off in the middle, or wants no parts at all.
fn taking(accepts_parts: bool) -> (Stub, Arc<Mutex<Taking>>) {
    let state = Arc::new(Mutex::new(Taking { parts: Vec::new(), received: 0 }));
    let seen = Arc::clone(&state);
    let broken = Mutex::new(false);
    let stub = Stub::new(move |request: &Request| {
        let mut state = seen.lock().unwrap();
        let length = request.body_length;
        match (request.method.as_str(), request.path.as_str()) {
            ("HEAD", _) if state.parts.iter().any(|part| part.0 == "PUT") => {
                Answer::Headers("200 OK", Vec::new())
            }
            ("HEAD", _) => Answer::Status("404 Not Found", ""),
            ("POST", _) => {
                state.received = 0;
                session("202 Accepted", None)
            }
            ("PATCH", _) if !accepts_parts => Answer::Status("416 Requested Range Not Satisfiable", "{}"),
            ("PATCH", _) if state.received > 0 && !std::mem::replace(&mut *broken.lock().unwrap(), true) => {
                state.received += 1000;
                Answer::Nothing
            }
            ("GET", "/upload?state=a%3Db") => {
                let range = format!("0-{}", state.received - 1);
                session("204 No Content", Some(range))
            }
            (method, path) => {
                state.received += length;
                state.parts.push((method.to_owned(), path.to_owned(), length));
                session("201 Created", None)
            }
        }
    });
    (stub, state)
}

#[test]
fn a_part_that_breaks_off_goes_on_where_the_registry_is() {
    let target = TestStore::new();
    let image = large(&target.store, 70 << 20);
    let (stub, state) = taking(true);
    let error = pushed(&target.store, &image, &stub.image(), &anonymous()).unwrap_err();
    // It has no manifests.
    assert!(matches!(error, PushError::Registry(_)), "{error}");
    let state = state.lock().unwrap();
    let sent: usize = state.parts.iter().filter(|part| part.0 == "PATCH").map(|part| part.2).sum();
    assert_eq!(sent + 1000, 70 << 20, "{:?}", state.parts);
    let end = state.parts.iter().find(|part| part.0 == "PUT").unwrap();
    let digest = image.layers[0].digest.to_string().replace(':', "%3A");
    assert_eq!(end.1, format!("/upload?state=a%3Db&digest={digest}"));
}

#[test]
fn a_registry_that_wants_no_parts_gets_one_piece() {
    let target = TestStore::new();
    let image = large(&target.store, 40 << 20);
    let (stub, state) = taking(false);
    pushed(&target.store, &image, &stub.image(), &anonymous()).unwrap_err();
    let state = state.lock().unwrap();
    assert!(state.parts.iter().any(|part| part.0 == "PUT" && part.2 == 40 << 20), "{:?}", state.parts);
}

#[test]
fn a_registry_that_forgets_what_it_took_is_told_on() {
    let (target, image) = sample_store();
    let stub = Stub::new(|request| match request.method.as_str() {
        "HEAD" => Answer::Status("404 Not Found", ""),
        _ => session("202 Accepted", None),
    });
    let error = pushed(&target.store, &image, &stub.image(), &anonymous()).unwrap_err();
    assert!(matches!(error, PushError::Registry(RegistryError::NotKept { .. })), "{error}");
}

#[test]
fn a_damaged_layer_is_not_sent() {
    let registry = Registry::open();
    let (target, image) = sample_store();
    let path = &image.layers[0].path;
    let size = std::fs::metadata(path).unwrap().len() as usize;
    std::fs::File::create(path).unwrap().write_all(&vec![7; size]).unwrap();
    let name = format!("{}/small:1", registry.name());
    let error = pushed(&target.store, &image, &name, &anonymous()).unwrap_err();
    assert!(matches!(error, PushError::Store(StoreError::Damaged { .. })), "{error}");
    assert!(pulled(&TestStore::new().store, &name, &anonymous(), &Silent).is_err());
}

#[test]
fn a_push_needs_a_tag_and_leave() {
    let registry = Registry::with_login();
    let (target, image) = sample_store();
    let by_digest = format!("{}/small@{}", registry.name(), Digest::of(b"x"));
    let error = pushed(&target.store, &image, &by_digest, &anonymous()).unwrap_err();
    assert!(matches!(error, PushError::NoTag { .. }) && error.hint().is_some(), "{error}");
    let name = format!("{}/small:1", registry.name());
    let error = pushed(&target.store, &image, &name, &anonymous()).unwrap_err();
    assert!(matches!(error, PushError::Unauthorized { .. }), "{error}");
    assert!(error.hint().unwrap().contains("microagent registry login"), "{:?}", error.hint());
    let login = registry.docker_config("me", "secret");
    let registries = Registries::plain(Logins::in_file(login.path().join("config.json")));
    pushed(&target.store, &image, &name, &registries).unwrap();
}

#[test]
fn podman_pulls_what_was_pushed() {
    let registry = Registry::open();
    let (target, image) = sample_store();
    let name = format!("{}/team/small:1", registry.name());
    pushed(&target.store, &image, &name, &anonymous()).unwrap();
    let storage = tempfile::tempdir().unwrap();
    run(podman(&storage).args(["pull", "-q", "--tls-verify=false", &name]));
}
