//! Archives that other tools read.

use std::io::Cursor;
use std::path::Path;

use microagent_image::{
    ArchiveFormat, Compression, Content, Image, ImageToSave, ImportOptions, Platform, SaveError, Store,
    StoreError, import, load_path, save, save_directory,
};

use crate::push::sample_store;
use crate::registry::shown;
use crate::sample::{TestStore, assert_is_sample, options, podman, run, skopeo_copy, tar_of, tool};

fn to_save(image: &Image) -> Vec<ImageToSave> {
    vec![ImageToSave {
        content: Content::Image(Box::new(image.clone())),
        names: vec!["small:1".parse().unwrap()],
    }]
}

fn saved(store: &Store, image: &Image, format: ArchiveFormat, path: &Path) {
    let file = std::fs::File::create(path).unwrap();
    save(store, &to_save(image), format, file, &mut |_, _| ()).unwrap();
}

#[test]
fn skopeo_umoci_podman_and_we_read_what_is_saved() {
    let (target, image) = sample_store();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    saved(&target.store, &image, ArchiveFormat::Docker, &path("docker.tar"));
    saved(&target.store, &image, ArchiveFormat::Oci, &path("oci.tar"));
    save_directory(&target.store, &to_save(&image), &path("layout"), &mut |_, _| ()).unwrap();
    let again = save_directory(&target.store, &to_save(&image), &path("layout"), &mut |_, _| ());
    assert!(matches!(again, Err(SaveError::Occupied { .. })));
    for (number, source) in [
        format!("docker-archive:{}:docker.io/library/small:1", shown(&path("docker.tar"))),
        format!("oci-archive:{}:docker.io/library/small:1", shown(&path("docker.tar"))),
        format!("oci-archive:{}:docker.io/library/small:1", shown(&path("oci.tar"))),
        format!("oci:{}:docker.io/library/small:1", shown(&path("layout"))),
    ]
    .iter()
    .enumerate()
    {
        skopeo_copy(source, &format!("dir:{}", shown(&path(&format!("copy-{number}")))), &[]);
    }
    run(tool("umoci", "umoci")
        .args(["stat", "--image"])
        .arg(format!("{}:docker.io/library/small:1", shown(&path("layout")))));
    for archive in ["docker.tar", "oci.tar", "layout"] {
        let other = TestStore::new();
        let loaded = load_path(&other.store, &path(archive), &options()).unwrap();
        assert_eq!(loaded[0].names, ["small:1".parse().unwrap()], "{archive}");
        assert_eq!(loaded[0].manifest_digest, image.manifest_digest, "{archive}");
        assert_is_sample(&other.image("small:1").unwrap());
    }
    for archive in ["docker.tar", "oci.tar"] {
        let storage = tempfile::tempdir().unwrap();
        run(podman(&storage).args(["load", "-q", "-i"]).arg(path(archive)));
    }
}

#[test]
fn the_same_image_is_saved_as_the_same_bytes() {
    let (target, image) = sample_store();
    let bytes = || {
        let mut bytes = Vec::new();
        save(&target.store, &to_save(&image), ArchiveFormat::Docker, &mut bytes, &mut |_, _| ()).unwrap();
        bytes
    };
    let mut last = (0, 1);
    let mut none = Vec::new();
    save(&target.store, &to_save(&image), ArchiveFormat::Docker, &mut none, &mut |done, total| {
        last = (done, total);
    })
    .unwrap();
    assert_eq!(last.0, last.1);
    assert_eq!(bytes(), bytes());
}

#[test]
fn a_damaged_blob_fails_the_archive() {
    let (target, image) = sample_store();
    let path = &image.layers[0].path;
    let mut bytes = std::fs::read(path).unwrap();
    bytes[50] ^= 1;
    for content in [&bytes[..], &bytes[..100], b""] {
        std::fs::write(path, content).unwrap();
        let error = save(&target.store, &to_save(&image), ArchiveFormat::Oci, Vec::new(), &mut |_, _| ())
            .unwrap_err();
        assert!(matches!(error, SaveError::Store(StoreError::Damaged { .. })), "{error:?}");
        let directory = tempfile::tempdir().unwrap();
        let error =
            save_directory(&target.store, &to_save(&image), directory.path(), &mut |_, _| ()).unwrap_err();
        assert!(matches!(error, SaveError::Store(StoreError::Damaged { .. })), "{error:?}");
    }
    std::fs::remove_file(path).unwrap();
    let error =
        save(&target.store, &to_save(&image), ArchiveFormat::Oci, Vec::new(), &mut |_, _| ()).unwrap_err();
    assert!(matches!(error, SaveError::Store(StoreError::Missing { .. })), "{error:?}");
}

#[test]
fn an_imported_root_file_system_is_an_image_that_skopeo_reads() {
    let target = TestStore::new();
    let options = ImportOptions {
        platform: Platform::of_host(),
        changes: vec![r#"CMD ["/bin/sh"]"#.parse().unwrap()],
        history: microagent_image::History { created: "2026-01-01T00:00:00Z".into(), ..Default::default() },
        name: Some("made:1".parse().unwrap()),
        unpacked_size: 1 << 20,
    };
    let tar = tar_of("bin/sh", b"program");
    let zstd = zstd::encode_all(tar.as_slice(), 1).unwrap();
    let packed = import(&target.store, Cursor::new(zstd.clone()), &options).unwrap();
    assert_eq!(packed.layers[0].compression, Compression::Zstd);
    let plain = import(&target.store, Cursor::new(tar.clone()), &options).unwrap();
    assert_eq!(plain.layers[0].compression, Compression::Gzip);
    assert_eq!(plain.layers[0].diff_id, packed.layers[0].diff_id);
    let source = format!("oci:{}:docker.io/library/made:1", shown(target.path()));
    skopeo_copy(&source, &format!("docker-archive:{}:made:1", shown(&target.path().join("copy.tar"))), &[]);
    assert!(import(&target.store, Cursor::new(zstd[..zstd.len() / 2].to_vec()), &options).is_err());
    let narrow = ImportOptions { unpacked_size: tar.len() as u64 - 1, ..options };
    let error = import(&target.store, Cursor::new(zstd.clone()), &narrow).unwrap_err();
    assert!(error.hint().unwrap().contains("unpacked_size"), "{error}");
    assert_eq!(target.count("ingest"), 0);
}
