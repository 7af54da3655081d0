//! Registries that break off, lie, or never stop.

use microagent_image::{Logins, PullError, Registries, RegistryError, Silent};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::pull::{pull_in_a_process, pulled};
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
