//! The same image for several platforms: pushed and saved with an index of them, and fetched again.

use std::path::Path;

use microagent_image::{
    ArchiveFormat, Compression, Configuration, Content, Digest, History, Image, ImageToSave, LoadOptions,
    Logins, Platform, Pushed, Reference, Registries, Silent, Store, load_path, pull_all, push_index, save,
    save_directory,
};
use serde_json::Value;

use crate::registry::{Registry, shown};
use crate::sample::{TestStore, options, podman, run, skopeo_copy, tar_of, tool};

const PLATFORMS: [&str; 3] = ["linux/amd64", "linux/arm/v7", "linux/arm64"];

fn given<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// An image of each platform by this name; the lower layer is the same in all.
fn fill(store: &Store, name: &str) -> Vec<Image> {
    let ingest = store.add().unwrap();
    for platform in PLATFORMS {
        let mut config = Configuration::empty(&platform.parse().unwrap());
        let contents = [b"shared".as_slice(), platform.as_bytes()];
        let layers = contents.map(|content| {
            let tar = tar_of("content", content);
            let layer = ingest.layer(&mut tar.as_slice(), Compression::Gzip).unwrap();
            let history = History { created: "2026-01-01T00:00:00Z".into(), ..History::default() };
            config.add_layer(&layer.diff_id, &history);
            layer.descriptor
        });
        ingest.image(&config, layers.to_vec(), &[name.parse().unwrap()]).unwrap();
    }
    store.lookup_all(name).unwrap()
}

fn pushed(store: &Store, images: &[Image], name: &str) -> (Digest, Pushed) {
    let reference: Reference = name.parse().unwrap();
    given(push_index(store, images, &reference, &Registries::plain(Logins::none()), &Silent)).unwrap()
}

fn index_of(bytes: &[u8]) -> Vec<(String, String)> {
    let index: Value = serde_json::from_slice(bytes).unwrap();
    let entry = |entry: &Value| {
        let platform = ["os", "architecture", "variant"].map(|part| entry["platform"][part].as_str());
        let platform: Vec<&str> = platform.into_iter().flatten().collect();
        (platform.join("/"), entry["digest"].as_str().unwrap().to_owned())
    };
    index["manifests"].as_array().unwrap().iter().map(entry).collect()
}

fn expected(images: &[Image]) -> Vec<(String, String)> {
    images.iter().map(|image| (image.platform().to_string(), image.manifest_digest.to_string())).collect()
}

#[test]
fn what_is_pushed_for_all_platforms_is_read_by_skopeo_and_by_us() {
    let registry = Registry::open();
    let name = format!("{}/team/many:1", registry.name());
    let target = TestStore::new();
    let images = fill(&target.store, &name);
    assert_eq!(images.len(), 3);
    let (digest, first) = pushed(&target.store, &images, &name);
    // Three configurations, three upper layers, and the lower one once.
    assert_eq!((first.sent, first.present), (7, 2), "{first:?}");
    let (again, second) = pushed(&target.store, &images, &name);
    assert_eq!((again, second.sent, second.present), (digest, 0, 9));

    let raw = tool("skopeo", "skopeo")
        .args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")])
        .output()
        .unwrap();
    assert_eq!(Digest::of(&raw.stdout), digest);
    assert_eq!(index_of(&raw.stdout), expected(&images));
    let directory = tempfile::tempdir().unwrap();
    let copy = format!("oci:{}:all", shown(directory.path()));
    skopeo_copy(&format!("docker://{name}"), &copy, &["--src-tls-verify=false", "--all"]);

    let other = TestStore::new();
    let reference: Reference = name.parse().unwrap();
    let known = Registries::plain(Logins::none());
    let mut all = given(pull_all(&other.store, &reference, &known, &Silent)).unwrap();
    all.sort_by_key(Image::platform);
    assert_eq!(expected(&all), expected(&images));
    for platform in PLATFORMS {
        let platform: Platform = platform.parse().unwrap();
        let found = other.store.find(&reference, &platform).unwrap().unwrap();
        assert_eq!(found.platform(), platform);
    }
    // What came so goes on as the same index.
    let copied = name.replace("many", "copied");
    let images = other.store.lookup_all(&name).unwrap();
    assert_eq!(pushed(&other.store, &images, &copied).0, digest);
}

#[test]
fn one_image_that_is_no_index_is_all_there_is() {
    let registry = Registry::open();
    let name = format!("{}/team/one:1", registry.name());
    let (target, image) = crate::push::sample_store();
    crate::push::pushed(&target.store, &image, &name, &Registries::plain(Logins::none())).unwrap();
    let other = TestStore::new();
    let known = Registries::plain(Logins::none());
    let all = given(pull_all(&other.store, &name.parse().unwrap(), &known, &Silent)).unwrap();
    assert_eq!(expected(&all), expected(&[image]));
}

#[test]
fn what_is_saved_for_all_platforms_is_read_by_skopeo_podman_and_by_us() {
    let target = TestStore::new();
    let images = fill(&target.store, "many:1");
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let saved =
        [ImageToSave { content: Content::Index(images.clone()), names: vec!["many:1".parse().unwrap()] }];
    let write = |format, path: &Path| {
        save(&target.store, &saved, format, std::fs::File::create(path).unwrap(), &mut |_, _| ()).unwrap();
    };
    write(ArchiveFormat::Oci, &path("oci.tar"));
    write(ArchiveFormat::Docker, &path("docker.tar"));
    save_directory(&target.store, &saved, &path("layout"), &mut |_, _| ()).unwrap();
    for (number, source) in ["oci-archive", "oci"].iter().enumerate() {
        let archive = path(if number == 0 { "oci.tar" } else { "layout" });
        let copy = path(&format!("copy-{number}"));
        let source = format!("{source}:{}:docker.io/library/many:1", shown(&archive));
        skopeo_copy(&source, &format!("oci:{}:all", shown(&copy)), &["--all"]);
        for image in &images {
            assert!(copy.join("blobs/sha256").join(image.manifest_digest.hex()).exists(), "{source}");
        }
    }
    for archive in ["oci.tar", "docker.tar", "layout"] {
        for (platform, image) in PLATFORMS.iter().zip(&images) {
            let other = TestStore::new();
            let wanted = LoadOptions { platform: platform.parse().unwrap(), ..options() };
            let loaded = load_path(&other.store, &path(archive), &wanted).unwrap();
            assert_eq!(loaded[0].manifest_digest, image.manifest_digest, "{archive} {platform}");
            assert_eq!(loaded[0].names, ["many:1".parse().unwrap()]);
        }
    }
    // Docker's own part is for this host, which old versions of Docker and others read.
    let source = format!("docker-archive:{}:docker.io/library/many:1", shown(&path("docker.tar")));
    skopeo_copy(&source, &format!("oci:{}:one", shown(&path("one"))), &[]);
    for archive in ["oci.tar", "docker.tar"] {
        let storage = tempfile::tempdir().unwrap();
        run(podman(&storage).args(["load", "-q", "-i"]).arg(path(archive)));
    }
}
