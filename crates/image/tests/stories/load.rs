//! Archives of every kind that people have.

use std::fs::File;
use std::io::{Cursor, Write};
use std::path::Path;

use microagent_image::{Digest, LoadError, LoadOptions, load, load_path};

use crate::sample::{Sample, TestStore, assert_is_sample, options, podman, run, tar_of, tool};
use crate::stub::Parts;

#[test]
fn what_skopeo_writes_is_loaded_under_its_name() {
    let sample = Sample::new();
    for kind in ["docker-archive", "oci-archive", "oci"] {
        let path = sample.path(kind);
        sample.copy_to(&format!("{kind}:{}:docker.io/library/small:1", path.display()));
        let target = TestStore::new();
        let loaded =
            load_path(&target.store, &path, &options()).unwrap_or_else(|error| panic!("{kind}: {error:?}"));
        assert_eq!(loaded[0].names, ["small:1".parse().unwrap()], "{kind}");
        let image = target.image("small:1").unwrap();
        assert_eq!(image.manifest_digest, loaded[0].manifest_digest);
        assert_is_sample(&image);
        assert_eq!(target.count("blobs/sha256"), 4, "{kind}");
    }
}

#[test]
fn what_podman_saves_is_loaded_under_its_name() {
    let sample = Sample::new();
    let storage = tempfile::tempdir().unwrap();
    let archive = sample.path("in.tar");
    sample.copy_to(&format!("docker-archive:{}:localhost/small:1", archive.display()));
    run(podman(&storage).args(["load", "-q", "-i"]).arg(&archive));
    for format in ["docker-archive", "oci-archive"] {
        let saved = sample.path(&format!("{format}.tar"));
        run(podman(&storage)
            .args(["save", "-q", "--format", format, "-o"])
            .arg(&saved)
            .arg("localhost/small:1"));
        let target = TestStore::new();
        let loaded = load_path(&target.store, &saved, &options()).unwrap();
        assert_eq!(loaded[0].names, ["localhost/small:1".parse().unwrap()], "{format}");
        assert_is_sample(&target.image("localhost/small:1").unwrap());
    }
}

#[test]
fn an_archive_of_both_formats_with_an_index_inside_is_loaded() {
    let Parts { manifest, config, layer } = Parts::new();
    let path = |content: &[u8]| format!("blobs/sha256/{}", Digest::of(content).hex());
    let entry = |content: &[u8], more: &str| {
        let (digest, size) = (Digest::of(content), content.len());
        format!(r#"{{"mediaType":"application/vnd.oci.image","digest":"{digest}","size":{size}{more}}}"#)
    };
    let amd64 = entry(&manifest, r#","platform":{"os":"linux","architecture":"amd64"}"#);
    let absent = entry(b"not in the archive", r#","platform":{"os":"linux","architecture":"arm64"}"#);
    let inner = format!(r#"{{"schemaVersion":2,"manifests":[{absent},{amd64}]}}"#).into_bytes();
    let names = r#","annotations":{"io.containerd.image.name":"docker.io/team/both:1","org.opencontainers.image.ref.name":"1"}"#;
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entry(&inner, names)).into_bytes();
    let list = format!(
        r#"[{{"Config":"{}","RepoTags":["team/both:1"],"Layers":["{}"]}}]"#,
        path(&config),
        path(&layer)
    );
    let bytes = tar_with(&[
        (&path(&layer), &layer),
        (&path(&config), &config),
        (&path(&manifest), &manifest),
        (&path(&inner), &inner),
        ("index.json", &index),
        ("manifest.json", list.as_bytes()),
        ("oci-layout", b"{}"),
    ]);
    let target = TestStore::new();
    let loaded = load(&target.store, Cursor::new(bytes.clone()), &options()).unwrap();
    assert_eq!(loaded[0].manifest_digest, Digest::of(&manifest));
    assert_eq!(target.image("team/both:1").unwrap().layers[0].digest, Digest::of(&layer));
    assert_eq!(target.count("blobs/sha256"), 3);

    let arm64 = LoadOptions { platform: "linux/arm64".parse().unwrap(), ..options() };
    let error = load(&target.store, Cursor::new(bytes.clone()), &arm64).unwrap_err();
    assert!(matches!(error, LoadError::Missing { .. }), "{error}");
    let s390x = LoadOptions { platform: "linux/s390x".parse().unwrap(), ..options() };
    let error = load(&target.store, Cursor::new(bytes.clone()), &s390x).unwrap_err();
    assert!(error.to_string().ends_with("only for `linux/arm64`, `linux/amd64`"), "{error}");
}

#[test]
fn one_name_is_not_given_to_several_images() {
    let sample = Sample::new();
    let other = sample.layout();
    run(tool("umoci", "umoci")
        .args(["config", "--config.user", "7", "--tag", "second", "--image"])
        .arg(format!("{}:small", other.display())));
    let named = LoadOptions { name: Some("mine:2".parse().unwrap()), ..options() };
    let target = TestStore::new();
    let error = load_path(&target.store, &other, &named).unwrap_err();
    assert!(matches!(error, LoadError::OneName { count: 2, .. }), "{error}");
    assert_eq!(load_path(&target.store, &other, &options()).unwrap().len(), 2);
}

#[test]
fn the_same_image_gets_the_same_manifest_each_time() {
    let sample = Sample::new();
    let archive = sample.path("archive.tar");
    sample.copy_to(&format!("docker-archive:{}:small:1", archive.display()));
    let load = || load_path(&TestStore::new().store, &archive, &options()).unwrap();
    assert_eq!(load(), load());
}

#[test]
fn compressed_archives_and_pipes_are_loaded() {
    let sample = Sample::new();
    let archive = sample.path("archive.tar");
    sample.copy_to(&format!("docker-archive:{}:small:1", archive.display()));
    let plain = std::fs::read(&archive).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    for bytes in [plain, gzip.finish().unwrap(), zstd] {
        let target = TestStore::new();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let feeding = std::thread::spawn(move || writer.write_all(&bytes).unwrap());
        load(&target.store, reader, &options()).unwrap();
        feeding.join().unwrap();
        assert_is_sample(&target.image("small:1").unwrap());
    }
}

#[test]
fn an_image_without_a_name_is_loaded_and_can_be_given_one() {
    let sample = Sample::new();
    let target = TestStore::new();
    let loaded = load_path(&target.store, &sample.layout(), &options()).unwrap();
    assert!(loaded[0].names.is_empty());
    assert_is_sample(&target.store.read(&loaded[0].manifest_digest).unwrap());
    let named = LoadOptions { name: Some("mine:2".parse().unwrap()), ..options() };
    let again = load_path(&target.store, &sample.layout(), &named).unwrap();
    assert_eq!(again[0].manifest_digest, loaded[0].manifest_digest);
    assert_is_sample(&target.image("mine:2").unwrap());
}

#[test]
fn layers_may_be_links_inside_the_archive_and_never_outside() {
    let target = TestStore::new();
    let layer = tar_of("file", b"content");
    let links = [("1/layer.tar", "../0/layer.tar")];
    let bytes = docker_archive(&layer, &["0/layer.tar", "1/layer.tar"], &links);
    load(&target.store, Cursor::new(bytes.clone()), &options()).unwrap();
    let image = target.image("made:1").unwrap();
    assert_eq!(image.layers[0], image.layers[1]);

    let links = [("1/layer.tar", "../../../../etc/passwd")];
    let bytes = docker_archive(&layer, &["0/layer.tar", "1/layer.tar"], &links);
    let error = load(&TestStore::new().store, Cursor::new(bytes.clone()), &options()).unwrap_err();
    assert!(matches!(&error, LoadError::Missing { path } if path == "1/layer.tar"), "{error}");

    let links = [("1/layer.tar", "../2/layer.tar"), ("2/layer.tar", "../1/layer.tar")];
    let bytes = docker_archive(&layer, &["0/layer.tar", "1/layer.tar"], &links);
    assert!(matches!(
        load(&TestStore::new().store, Cursor::new(bytes.clone()), &options()),
        Err(LoadError::Missing { .. })
    ));
}

#[test]
fn an_archive_that_lies_leaves_nothing_behind() {
    let layer = tar_of("file", &vec![7; 200_000]);
    let wrong = Digest::of(b"something else").to_string();
    let right = Digest::of(&layer).to_string();
    let list = r#"[{"Config":"config.json","RepoTags":["made:1"],"Layers":["0/layer.tar"]}]"#;
    let config = config_of(&[&wrong]);
    let lying = tar_with(&[
        ("0/layer.tar", &layer),
        ("config.json", config.as_bytes()),
        ("manifest.json", list.as_bytes()),
    ]);
    let config = config_of(&[&right, &right]);
    let too_few = tar_with(&[
        ("0/layer.tar", &layer),
        ("config.json", config.as_bytes()),
        ("manifest.json", list.as_bytes()),
    ]);
    let whole = docker_archive(&layer, &["0/layer.tar"], &[]);
    let cut = &whole[..whole.len() / 2];
    let nothing = tar_with(&[("etc/passwd", b"root")]);
    for (bytes, said) in [
        (lying.as_slice(), "file `0/layer.tar` of the image archive is not"),
        (too_few.as_slice(), "file `config.json` of the image archive does not describe an image"),
        (cut, "it ends in the middle of a file"),
        (nothing.as_slice(), "this is neither an image archive nor an image layout"),
        (
            b"plain words, which are longer than five hundred and twelve bytes".repeat(9).as_slice(),
            "the checksum of a header",
        ),
    ] {
        let target = TestStore::new();
        let error = load(&target.store, Cursor::new(bytes.to_vec()), &options()).unwrap_err();
        let text = format!("{error}: {:?}", std::error::Error::source(&error));
        assert!(text.contains(said), "{text}");
        assert_eq!((target.count("blobs/sha256"), target.count("ingest")), (0, 0), "{said}");
        assert!(target.store.list().unwrap().is_empty());
    }
}

#[test]
fn an_archive_that_unpacks_to_more_than_it_may_is_stopped() {
    let bomb = docker_archive(&tar_of("zeros", &vec![0; 8 << 20]), &["0/layer.tar"], &[]);
    for packed in [gzipped(&bomb), zstd::encode_all(bomb.as_slice(), 3).unwrap()] {
        assert!(packed.len() < 100_000);
        let target = TestStore::new();
        let narrow = LoadOptions { archive_size: 1 << 20, ..options() };
        let error = load(&target.store, Cursor::new(packed.clone()), &narrow).unwrap_err();
        assert!(matches!(error, LoadError::Unpacked { limit: 1_048_576 }), "{error}");
        assert!(error.hint().unwrap().contains("archive_size"));
        assert_eq!((target.count("blobs/sha256"), target.count("ingest")), (0, 0));
        load(&target.store, Cursor::new(packed.clone()), &options()).unwrap();
    }
}

#[test]
fn a_tampered_layout_is_refused() {
    let sample = Sample::new();
    let largest =
        std::fs::read_dir(sample.layout().join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let layer = largest.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    File::options().append(true).open(layer).unwrap().write_all(b"x").unwrap();
    let target = TestStore::new();
    let error = load_path(&target.store, &sample.layout(), &options()).unwrap_err();
    assert!(matches!(error, LoadError::WrongContent { .. }), "{error}");
    assert_eq!(target.count("blobs/sha256"), 0);
}

#[test]
fn an_image_for_another_platform_is_refused_with_what_there_is() {
    let sample = Sample::new();
    let other = LoadOptions { platform: "linux/s390x".parse().unwrap(), ..options() };
    let error = load_path(&TestStore::new().store, &sample.layout(), &other).unwrap_err();
    assert_eq!(error.to_string(), "the image is not available for `linux/s390x`, only for `linux/amd64`");
}

#[test]
fn a_missing_file_is_named() {
    let error = load_path(&TestStore::new().store, Path::new("/does/not/exist.tar"), &options()).unwrap_err();
    assert_eq!(error.to_string(), "failed to read `/does/not/exist.tar`");
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn docker_archive(layer: &[u8], layers: &[&str], links: &[(&str, &str)]) -> Vec<u8> {
    let diff_id = Digest::of(layer).to_string();
    let config = config_of(&vec![diff_id.as_str(); layers.len()]);
    let list = format!(r#"[{{"Config":"config.json","RepoTags":["made:1"],"Layers":{layers:?}}}]"#);
    let mut builder = tar::Builder::new(Vec::new());
    append(&mut builder, &[("config.json", config.as_bytes()), ("./manifest.json", list.as_bytes())]);
    for (path, target) in links {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, path, target).unwrap();
    }
    append(&mut builder, &[("0/layer.tar", layer)]);
    builder.into_inner().unwrap()
}

fn config_of(diff_ids: &[&str]) -> String {
    format!(r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":{diff_ids:?}}}}}"#)
}

fn tar_with(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    append(&mut builder, files);
    builder.into_inner().unwrap()
}

fn append(builder: &mut tar::Builder<Vec<u8>>, files: &[(&str, &[u8])]) {
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, *content).unwrap();
    }
}
