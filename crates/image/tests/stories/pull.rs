//! Pulls from a real registry.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use microagent_image::{
    Digest, Image, LayerProgress, Logins, Platform, PullError, Reference, Registries, RegistryError, Silent,
    Store, pull,
};

use crate::registry::{Registry, shown};
use crate::sample::{Sample, TestStore, assert_is_sample, skopeo_copy};

pub(crate) fn pulled(
    store: &Store,
    name: &str,
    options: &Registries,
    progress: &dyn LayerProgress,
) -> Result<Image, PullError> {
    pulled_for(store, name, &Platform::of_host(), options, progress)
}

fn pulled_for(
    store: &Store,
    name: &str,
    platform: &Platform,
    options: &Registries,
    progress: &dyn LayerProgress,
) -> Result<Image, PullError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reference: Reference = name.parse().unwrap();
    runtime.block_on(pull(store, &reference, platform, options, progress))
}

/// The example of that name, which cargo builds with the tests.
pub(crate) fn pull_in_a_process(store: &Path, image: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let example = tests.parent().and_then(Path::parent).unwrap().join("examples/pull");
    assert!(example.exists(), "build it first: cargo build -p microagent-image --examples");
    let mut command = Command::new(example);
    command.arg(store).arg(image);
    command
}

fn anonymous() -> Registries {
    Registries::plain(Logins::none())
}

fn with(docker_config: &Path) -> Registries {
    Registries::plain(Logins::in_file(docker_config.join("config.json")))
}

/// A registry with the sample in it, and the sample's name there.
fn filled(options: &[&str]) -> (Registry, String) {
    let registry = Registry::open();
    let name = format!("{}/team/small:1", registry.name());
    let sample = Sample::new();
    let mut all = vec!["--dest-tls-verify=false"];
    all.extend_from_slice(options);
    skopeo_copy(&format!("oci:{}:small", shown(&sample.layout())), &format!("docker://{name}"), &all);
    (registry, name)
}

/// The most that was said of each layer, and its size.
#[derive(Default)]
struct Counting(Mutex<BTreeMap<Digest, (u64, u64)>>);

impl LayerProgress for Counting {
    fn layer(&self, layer: &Digest, so_far: u64, total: u64) {
        self.0.lock().unwrap().insert(*layer, (so_far, total));
    }
}

#[test]
fn an_image_is_pulled_once_and_then_works_offline() {
    for format in ["oci", "v2s2"] {
        let (registry, name) = filled(&["--format", format]);
        let target = TestStore::new();
        let progress = Counting::default();
        let image = pulled(&target.store, &name, &anonymous(), &progress).unwrap();
        assert_is_sample(&image);
        let seen = progress.0.into_inner().unwrap();
        assert_eq!(seen.len(), 2);
        assert!(image.layers.iter().all(|layer| seen[&layer.digest] == (layer.size, layer.size)));
        registry.stop();
        assert_eq!(target.image(&name).unwrap(), image);
        let error = pulled(&target.store, &name, &anonymous(), &Silent).unwrap_err();
        assert!(matches!(error, PullError::Registry(RegistryError::Unreachable { .. })), "{error}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn a_pull_can_be_given_to_any_thread() {
    fn given(_: impl Future + Send) {}
    let target = TestStore::new();
    let (name, platform, options) = ("small".parse().unwrap(), Platform::of_host(), anonymous());
    given(pull(&target.store, &name, &platform, &options, &Silent));
}

#[test]
fn what_is_in_the_store_is_not_pulled_again() {
    let (registry, name) = filled(&[]);
    let target = TestStore::new();
    let image = pulled(&target.store, &name, &anonymous(), &Silent).unwrap();
    for layer in &image.layers {
        std::fs::remove_file(registry.blob(&layer.digest)).unwrap();
    }
    assert_eq!(pulled(&target.store, &name, &anonymous(), &Silent).unwrap(), image);
    std::fs::remove_file(&image.layers[0].path).unwrap();
    assert!(target.store.find(&name.parse().unwrap(), &Platform::of_host()).is_err());
    let error = pulled(&target.store, &name, &anonymous(), &Silent).unwrap_err();
    assert!(matches!(error, PullError::Registry(RegistryError::Answer { status: 404, .. })), "{error}");
}

#[test]
fn damaged_blobs_are_replaced_by_the_next_pull() {
    let (_registry, name) = filled(&[]);
    let target = TestStore::new();
    let image = pulled(&target.store, &name, &anonymous(), &Silent).unwrap();
    for digest in [image.manifest_digest, image.config_digest, image.layers[0].digest] {
        let path = target.store.blob_path(&digest);
        let size = std::fs::metadata(&path).unwrap().len();
        std::fs::write(&path, vec![0; size as usize]).unwrap();
    }
    assert!(target.store.find(&name.parse().unwrap(), &Platform::of_host()).is_err());
    assert!(!target.store.check(&image.layers[0].digest).unwrap());
    assert!(target.store.check(&image.layers[1].digest).unwrap());
    assert_is_sample(&pulled(&target.store, &name, &anonymous(), &Silent).unwrap());
}

#[test]
fn an_image_is_pulled_by_its_digest() {
    let (_registry, name) = filled(&[]);
    let target = TestStore::new();
    let image = pulled(&target.store, &name, &anonymous(), &Silent).unwrap();
    let pinned = format!("{}@{}", name.strip_suffix(":1").unwrap(), image.manifest_digest);
    let other = TestStore::new();
    assert_is_sample(&pulled(&other.store, &pinned, &anonymous(), &Silent).unwrap());
    assert!(other.image(&pinned).is_some());
    let wrong = format!("{}@{}", name.strip_suffix(":1").unwrap(), Digest::of(b"wrong"));
    let error = pulled(&other.store, &wrong, &anonymous(), &Silent).unwrap_err();
    assert!(matches!(error, PullError::NotFound { .. }), "{error}");
}

#[test]
fn what_does_not_exist_is_not_found() {
    let registry = Registry::open();
    let error =
        pulled(&TestStore::new().store, &format!("{}/no/such", registry.name()), &anonymous(), &Silent);
    let error = error.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("image `{0}/no/such:latest` was not found in registry `{0}`", registry.name())
    );
    assert_eq!(error.hint().unwrap(), "check the name; the repository may have no tag `latest`");
}

#[test]
fn a_blob_that_was_tampered_with_is_refused_and_not_kept() {
    let (registry, name) = filled(&[]);
    let target = TestStore::new();
    let image = pulled(&target.store, &name, &anonymous(), &Silent).unwrap();
    let blob = registry.blob(&image.layers[0].digest);
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let other = TestStore::new();
    let error = pulled(&other.store, &name, &anonymous(), &Silent).unwrap_err();
    assert!(
        matches!(&error, PullError::Registry(RegistryError::WrongContent { expected, .. }) if *expected == image.layers[0].digest),
        "{error}"
    );
    assert!(other.image(&name).is_none());
    assert!(!other.store.blob_path(&image.layers[0].digest).exists());
    assert_eq!(other.count("ingest"), 0);
}

#[test]
fn a_registry_with_logins_wants_the_right_one() {
    let registry = Registry::with_login();
    let name = format!("{}/small:1", registry.name());
    let sample = Sample::new();
    let options = ["--dest-tls-verify=false", "--dest-creds", "me:secret"];
    skopeo_copy(&format!("oci:{}:small", shown(&sample.layout())), &format!("docker://{name}"), &options);
    let target = TestStore::new();

    let error = pulled(&target.store, &name, &anonymous(), &Silent).unwrap_err();
    assert!(matches!(error, PullError::Unauthorized { login: false, source: None, .. }), "{error}");
    assert!(error.hint().unwrap().ends_with(&format!("microagent registry login {}", registry.name())));

    let wrong = registry.docker_config("me", "wrong");
    let error = pulled(&target.store, &name, &with(wrong.path()), &Silent).unwrap_err();
    assert_eq!(error.to_string(), format!("registry `{}` denied access to `{name}`", registry.name()));
    assert!(error.hint().unwrap().contains("may be wrong"));

    let broken = registry.docker_config_with_helper("that-is-not-installed");
    let error = pulled(&target.store, &name, &with(broken.path()), &Silent).unwrap_err();
    assert!(matches!(error, PullError::Unauthorized { source: Some(_), .. }), "{error}");

    let right = registry.docker_config("me", "secret");
    assert_is_sample(&pulled(&target.store, &name, &with(right.path()), &Silent).unwrap());
}

#[test]
fn a_login_that_cannot_be_read_does_not_stop_a_public_pull() {
    let (registry, name) = filled(&[]);
    let broken = registry.docker_config_with_helper("that-is-not-installed");
    assert!(pulled(&TestStore::new().store, &name, &with(broken.path()), &Silent).is_ok());
}

#[test]
fn the_platforms_own_image_is_taken_from_an_index() {
    let (registry, name) = filled(&["--format", "oci"]);
    let digest = pulled(&TestStore::new().store, &name, &anonymous(), &Silent).unwrap().manifest_digest;
    let manifest = std::fs::read_to_string(registry.blob(&digest)).unwrap();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let entry = |os: &str, architecture: &str, end: &str| {
        let manifest = manifest.clone() + end;
        registry.put("team/small", architecture, kind, &manifest);
        let (digest, size) = (Digest::of(manifest.as_bytes()), manifest.len());
        let platform = format!(r#"{{"os":"{os}","architecture":"{architecture}"}}"#);
        format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size},"platform":{platform}}}"#)
    };
    let entries =
        [entry("unknown", "unknown", "\n\n"), entry("linux", "arm64", "\n"), entry("linux", "amd64", "")];
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{}]}}"#, entries.join(","));
    registry.put("team/small", "many", kind, &index);
    let many = name.replace(":1", ":many");
    let target = TestStore::new();
    let amd64: Platform = "linux/amd64".parse().unwrap();
    let image = pulled_for(&target.store, &many, &amd64, &anonymous(), &Silent).unwrap();
    assert_eq!(image.manifest_digest, digest);
    let pinned = format!("{}@{}", name.strip_suffix(":1").unwrap(), Digest::of(index.as_bytes()));
    assert!(pulled_for(&target.store, &pinned, &amd64, &anonymous(), &Silent).is_ok());
    assert!(target.store.find(&pinned.parse().unwrap(), &amd64).unwrap().is_some());

    let s390x = "linux/s390x".parse().unwrap();
    let error = pulled_for(&target.store, &many, &s390x, &anonymous(), &Silent).unwrap_err();
    let said =
        format!("image `{many}` is not available for `linux/s390x`, only for `linux/arm64`, `linux/amd64`");
    assert_eq!(error.to_string(), said);
}

#[test]
fn the_same_image_is_pulled_by_many_at_once() {
    let (_registry, name) = filled(&[]);
    let target = TestStore::new();
    std::thread::scope(|scope| {
        for number in 0..6 {
            let (name, path) = (&name, target.path());
            scope.spawn(move || {
                let store = Store::open(path).unwrap();
                assert_is_sample(&pulled(&store, name, &anonymous(), &Silent).unwrap());
                store.tag(&name.parse().unwrap(), &format!("copy:{number}").parse().unwrap()).unwrap();
                store.collect().unwrap();
            });
        }
    });
    assert_eq!(target.store.list().unwrap().len(), 7);
    assert_is_sample(&target.image("copy:0").unwrap());
    assert_eq!((target.count("ingest"), target.count("blobs/sha256")), (0, 4));
}

#[test]
fn other_tools_read_the_store() {
    let (_registry, name) = filled(&["--format", "oci"]);
    let target = TestStore::new();
    pulled(&target.store, &name, &anonymous(), &Silent).unwrap();
    let copy = target.path().join("copy.tar");
    skopeo_copy(
        &format!("oci:{}:{name}", shown(target.path())),
        &format!("oci-archive:{}", shown(&copy)),
        &[],
    );
    assert!(copy.exists());
}
