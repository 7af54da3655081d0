//! Registries that break off, lie, or never stop.

use microagent_image::{Digest, DocumentError, Logins, PullError, Registries, RegistryError, Silent};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::pull::{pull_in_a_process, pulled};
use crate::push::{pushed, several_layers};
use crate::registry::Registry;
use crate::sample::TestStore;
use crate::stub::{Answer, Parts, Request, Stub};

fn options() -> Registries {
    Registries::plain(Logins::none())
}

/// What a pull from a stub ends in, with nothing kept.
fn failure(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> PullError {
    let stub = Stub::new(answer);
    let target = TestStore::new();
    let error = pulled(&target.store, &stub.image(), &options(), &Silent).unwrap_err();
    assert_eq!(target.count("ingest"), 0);
    assert!(target.store.list().unwrap().is_empty());
    target.store.collect().unwrap();
    assert_eq!(target.count("blobs/sha256"), 0);
    error
}

#[test]
fn a_layer_whose_connection_breaks_goes_on_where_it_was() {
    let parts = Parts::new();
    let whole = parts.clone();
    let stub = Stub::new(move |request| match request.from {
        0 if parts.is_layer(request) => Answer::Broken(parts.layer[..300_000].to_vec(), parts.layer.len()),
        0 => parts.answer(request),
        from => Answer::Rest(parts.layer[from..].to_vec()),
    });
    let target = TestStore::new();
    let image = pulled(&target.store, &stub.image(), &options(), &Silent).unwrap();
    assert_eq!(std::fs::read(&image.layers[0].path).unwrap(), whole.layer);
    assert_eq!(stub.requests(), 4);
}

#[test]
fn a_registry_that_cannot_go_on_starts_the_layer_again() {
    let parts = Parts::new();
    let whole = parts.clone();
    let stub = Stub::new(move |request| match request.from {
        0 if parts.is_layer(request) => Answer::Broken(parts.layer[..300_000].to_vec(), parts.layer.len()),
        _ => parts.answer(request),
    });
    let target = TestStore::new();
    let image = pulled(&target.store, &stub.image(), &options(), &Silent).unwrap();
    assert_eq!(std::fs::read(&image.layers[0].path).unwrap(), whole.layer);
}

#[test]
fn a_layer_that_breaks_off_each_time_is_given_up() {
    let parts = Parts::new();
    let error =
        failure(move |request| parts.answer_with_layer(request, Answer::Broken(vec![], parts.layer.len())));
    assert!(matches!(error, PullError::Registry(RegistryError::Unreachable { .. })), "{error}");
}

#[test]
fn a_manifest_without_an_end_is_refused() {
    let error = failure(|_| Answer::Endless("200 OK"));
    assert!(error.to_string().ends_with("sent more than 8388608 bytes for a manifest"), "{error}");
}

#[test]
fn an_error_is_told_in_the_registrys_words() {
    let words = r#"{"errors":[{"code":"TEA","message":"short and stout"}]}"#;
    let error = failure(|_| Answer::Status("418 Teapot", words));
    assert!(error.to_string().ends_with("answered with status 418: short and stout"), "{error}");
}

#[test]
fn an_error_without_an_end_is_refused() {
    let error = failure(|_| Answer::Endless("500 Internal Server Error"));
    assert!(error.to_string().ends_with("sent more than 1048576 bytes for an error"), "{error}");
}

#[test]
fn a_layer_that_is_longer_than_announced_is_refused() {
    let parts = Parts::new();
    let error = failure(move |request| parts.answer_with_layer(request, Answer::Endless("200 OK")));
    assert!(matches!(error, PullError::Registry(RegistryError::TooLarge { .. })), "{error}");
}

#[test]
fn a_layer_with_other_content_is_refused() {
    let parts = Parts::new();
    let error =
        failure(move |request| parts.answer_with_layer(request, Answer::Ok(vec![0; parts.layer.len()])));
    assert!(matches!(error, PullError::Registry(RegistryError::WrongContent { .. })), "{error}");
}

#[test]
fn what_is_no_image_is_refused_by_name() {
    let chart =
        String::from_utf8(Parts::new().manifest).unwrap().replace("oci.image.config", "cncf.helm.config");
    let error = failure(move |_| Answer::Ok(chart.clone().into_bytes()));
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "media type `application/vnd.cncf.helm.config.v1+json` is not supported");
    let error = failure(|_| Answer::Ok(b"<html>".to_vec()));
    assert!(matches!(error, PullError::Unsupported { .. }), "{error}");
}

#[test]
fn a_layer_that_is_shorter_than_announced_is_given_up() {
    let parts = Parts::new();
    let error =
        failure(move |request| parts.answer_with_layer(request, Answer::Ok(parts.layer[..1000].to_vec())));
    assert!(matches!(error, PullError::Registry(RegistryError::Truncated { sent: 1000, .. })), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn a_registry_that_falls_silent_is_given_up_with_a_clear_line() {
    let parts = Parts::new();
    let stub = Stub::new(move |request| {
        parts.answer_with_layer(request, Answer::Stalled(parts.layer[..1000].to_vec(), parts.layer.len()))
    });
    let mut impatient = options();
    impatient.stall = Duration::from_millis(200);
    let target = TestStore::new();
    let error = pulled(&target.store, &stub.image(), &impatient, &Silent).unwrap_err();
    assert_eq!(error.to_string(), format!("registry `{}` was silent for 0.2 s", stub.name()));
    assert_eq!((target.count("ingest"), target.count("blobs/sha256")), (0, 1), "the configuration is whole");
}

#[test]
fn a_registry_that_is_busy_is_asked_again() {
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let parts = Parts::new();
        let refused = AtomicUsize::new(0);
        let stub = Stub::new(move |request| {
            if refused.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                return Answer::Headers(
                    status,
                    vec![("Retry-After", "0".to_owned()), ("Content-Length", "0".to_owned())],
                );
            }
            parts.answer(request)
        });
        pulled(&TestStore::new().store, &stub.image(), &options(), &Silent).unwrap();
        assert_eq!(stub.requests(), 6);
    }
    let error =
        failure(|_| Answer::Headers("429 Too Many Requests", vec![("Retry-After", "86400".to_owned())]));
    assert!(matches!(error, PullError::Registry(RegistryError::Answer { status: 429, .. })), "{error}");
}

#[test]
fn a_web_page_is_no_registry() {
    let error =
        failure(|_| Answer::Headers("200 OK", vec![("Content-Type", "text/html; charset=utf-8".to_owned())]));
    assert!(error.to_string().ends_with("answered with a web page"), "{error}");
}

#[test]
fn redirects_in_a_circle_and_to_nowhere_are_given_up() {
    for location in ["/v2/stub/manifests/1", "https://", ""] {
        let error = failure(move |_| Answer::Headers("302 Found", vec![("Location", location.to_owned())]));
        assert!(matches!(error, PullError::Registry(RegistryError::Redirects { .. })), "{location} {error}");
    }
}

#[test]
fn indexes_that_lead_to_indexes_are_given_up() {
    let mut documents = vec![Parts::new().manifest];
    for _ in 0..9 {
        let last = documents.last().unwrap();
        let (digest, size) = (Digest::of(last), last.len());
        let kind = "application/vnd.oci.image.index.v1+json";
        let entry = format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#);
        documents.push(format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#).into_bytes());
    }
    let all = documents.clone();
    let answer = move |request: &Request| {
        let named = all.iter().find(|document| request.path.ends_with(&Digest::of(document).to_string()));
        Answer::Ok(named.or(all.last()).unwrap().clone())
    };
    let error = failure(answer);
    assert!(matches!(error, PullError::Unsupported { source: DocumentError::Indexes, .. }), "{error}");
    // One that says that it is in itself has another digest than it says.
    let lying = documents[1].clone();
    let error = failure(move |_| Answer::Ok(lying.clone()));
    assert!(
        matches!(
            error,
            PullError::Registry(RegistryError::WrongContent { .. } | RegistryError::TooLarge { .. })
        ),
        "{error}"
    );
}

#[test]
fn an_image_of_too_many_layers_is_refused() {
    let Parts { manifest, .. } = Parts::new();
    let text = String::from_utf8(manifest).unwrap();
    let (before, layer) = text.split_once(r#""layers":["#).unwrap();
    let layer = layer.strip_suffix("]}").unwrap();
    let many = format!(r#"{before}"layers":[{}]}}"#, vec![layer; 1001].join(","));
    let error = failure(move |_| Answer::Ok(many.clone().into_bytes()));
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "the image has 1001 layers, and 1000 are the most that are supported");
}

#[test]
fn foreign_layers_are_told_by_name() {
    let foreign = String::from_utf8(Parts::new().manifest)
        .unwrap()
        .replace("image.layer.v1.tar", "image.layer.nondistributable.v1.tar");
    let error = failure(move |_| Answer::Ok(foreign.clone().into_bytes()));
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.ends_with("is a foreign layer, which is not in the image"), "{source}");
    assert!(error.hint().is_some());
}

#[test]
fn a_token_server_without_an_end_is_given_up() {
    let stub_name: Arc<Mutex<String>> = Arc::default();
    let name = Arc::clone(&stub_name);
    let stub = Stub::new(move |request| {
        if request.path.starts_with("/token") {
            return Answer::Endless("200 OK");
        }
        Answer::Challenge(format!(r#"Bearer realm="http://{}/token",service="x""#, name.lock().unwrap()))
    });
    *stub_name.lock().unwrap() = stub.name();
    let error = pulled(&TestStore::new().store, &stub.image(), &options(), &Silent).unwrap_err();
    assert!(error.to_string().ends_with("sent more than 1048576 bytes for a token"), "{error}");
}

#[test]
fn pulls_of_the_same_layers_at_once_fetch_them_once() {
    let parts = Parts::new();
    let fetched = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&fetched);
    let stub = Stub::new(move |request| {
        if parts.is_layer(request) {
            count.fetch_add(1, Ordering::SeqCst);
            // The others come meanwhile.
            std::thread::sleep(Duration::from_millis(300));
        }
        parts.answer(request)
    });
    let target = TestStore::new();
    let children: Vec<_> = (0..4)
        .map(|number| {
            let name = format!("{}/stub:{number}", stub.name());
            pull_in_a_process(target.path(), &name).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(fetched.load(Ordering::SeqCst), 1);
    assert_eq!(target.store.list().unwrap().len(), 4);
    assert_eq!((target.count("ingest"), target.count("blobs/sha256")), (0, 3));
}

#[test]
fn whoever_waits_for_a_pull_that_is_killed_fetches_itself() {
    let parts = Parts::new();
    let asked = AtomicUsize::new(0);
    let stub = Stub::new(move |request| {
        if parts.is_layer(request) && asked.fetch_add(1, Ordering::SeqCst) == 0 {
            return Answer::Stalled(parts.layer[..300_000].to_vec(), parts.layer.len());
        }
        parts.answer(request)
    });
    let target = TestStore::new();
    let mut first = pull_in_a_process(target.path(), &stub.image()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while half_written(&target) < 300_000 {
        assert!(Instant::now() < deadline, "the other process pulls nothing");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut second = pull_in_a_process(target.path(), &stub.image()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(second.try_wait().unwrap().is_none(), "it waits");
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(second.wait().unwrap().success());
    assert!(target.image(&stub.image()).is_some());
}

/// Every blob is what its name says, and every image that can be seen is whole.
fn assert_sound(target: &TestStore) {
    for entry in std::fs::read_dir(target.path().join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let digest = Digest::of(&std::fs::read(&path).unwrap());
        assert_eq!(path.file_name().unwrap().to_str().unwrap(), digest.hex());
    }
    for listed in target.store.list().unwrap() {
        target.store.read(&listed.manifest_digest).unwrap();
    }
}

#[test]
fn pulls_killed_at_twenty_random_moments_leave_verified_blobs_and_the_next_one_a_whole_image() {
    let registry = Registry::open();
    let source = TestStore::new();
    let image = several_layers(&source.store);
    let name = format!("{}/team/several:1", registry.name());
    pushed(&source.store, &image, &name, &options()).unwrap();
    let target = TestStore::new();
    let started = Instant::now();
    assert!(pull_in_a_process(target.path(), &name).status().unwrap().success());
    let whole = started.elapsed();
    let mut left = 0;
    for _ in 0..20 {
        target.store.remove(&name.parse().unwrap()).unwrap();
        target.store.collect().unwrap().unwrap();
        let mut child = pull_in_a_process(target.path(), &name).spawn().unwrap();
        let random = Instant::now().duration_since(started).subsec_nanos() % 1000;
        std::thread::sleep(whole * random / 1000);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_sound(&target);
        left += target.count("ingest");
    }
    assert!(left > 0, "some were killed while they wrote");
    assert!(pull_in_a_process(target.path(), &name).status().unwrap().success());
    assert_sound(&target);
    assert_eq!(target.image(&name).unwrap().manifest_digest, image.manifest_digest);
    assert_eq!((target.count("ingest"), target.count("blobs/sha256")), (0, 8));
}

#[test]
fn a_pull_that_is_killed_leaves_nothing_that_the_next_does_not_clear() {
    let parts = Parts::new();
    let target = TestStore::new();
    let stalling = {
        let parts = parts.clone();
        Stub::new(move |request| {
            parts.answer_with_layer(
                request,
                Answer::Stalled(parts.layer[..300_000].to_vec(), parts.layer.len()),
            )
        })
    };
    let mut child =
        pull_in_a_process(target.path(), &stalling.image()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while half_written(&target) < 300_000 {
        assert!(Instant::now() < deadline, "the other process pulls nothing");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(target.store.collect().unwrap(), None);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    // The half-written blob, and the claim that it is being fetched.
    assert_eq!(target.count("ingest"), 2);

    let whole = parts.layer.clone();
    let honest = Stub::new(move |request| parts.answer(request));
    let image = pulled(&target.store, &honest.image(), &options(), &Silent).unwrap();
    assert_eq!(std::fs::read(&image.layers[0].path).unwrap(), whole);
    assert_eq!((target.count("ingest"), target.count("blobs/sha256")), (0, 3));
}

fn half_written(target: &TestStore) -> u64 {
    let entries = std::fs::read_dir(target.path().join("ingest")).unwrap();
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}
