//! Damaged and hostile layers fail to convert, and say why. None of them gets anything outside the image.

use microagent_rootfs::{ConvertError, EntryError, LayerError, Limits};

use crate::archive::{Archive, Entry, device, directory, file, hard_link, symlink};
use crate::image::{Layers, gzip, hex};

fn error(layers: &Layers) -> LayerError {
    error_within(layers, &Limits::default())
}

fn error_within(layers: &Layers, limits: &Limits) -> LayerError {
    match layers.convert_within(limits) {
        Err(ConvertError::Layer { source, digest }) => {
            assert!(layers.blobs.iter().any(|blob| hex(&blob.digest) == digest));
            source
        }
        other => panic!("{other:?}"),
    }
}

fn entry_error(entries: impl IntoIterator<Item = Entry>) -> (String, EntryError) {
    match error(&Layers::of([Archive::new(entries)])) {
        LayerError::Entry { path, source } => (path, source),
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_that_leave_the_root_are_refused() {
    for name in ["../x", "a/../../x", "/../x", "a/.."] {
        let (path, source) = entry_error([file(name, "")]);
        assert!(path == name && matches!(source, EntryError::Name(_)), "{path}: {source}");
        let (_, source) = entry_error([file("x", ""), hard_link("y", name)]);
        assert!(matches!(source, EntryError::Name(_)), "{name}: {source}");
    }
}

#[test]
fn the_root_stays_a_directory() {
    assert!(matches!(entry_error([symlink("./", "/etc")]).1, EntryError::Root));
    assert!(matches!(entry_error([file("/", "x")]).1, EntryError::Root));
}

#[test]
fn the_way_to_an_entry_leads_through_directories() {
    assert!(matches!(entry_error([file("a", ""), file("a/b", "")]).1, EntryError::NotDirectory(_)));
    assert!(matches!(
        entry_error([file("f", ""), symlink("a", "f"), file("a/b", "")]).1,
        EntryError::NotDirectory(_)
    ));
    assert!(matches!(
        entry_error([symlink("a", "b"), symlink("b", "a"), file("a/x", "")]).1,
        EntryError::Loop
    ));
}

#[test]
fn directories_cannot_be_stacked_without_end() {
    let link = |number: u32| {
        [file(format!("{}f", "d/".repeat(1000)), ""), symlink(format!("l{number}"), "d/".repeat(1000))]
    };
    let (_, source) =
        entry_error(link(0).into_iter().chain([file(format!("l0/{}f", "d/".repeat(1500)), "")]));
    assert!(matches!(source, EntryError::Name(_)), "{source}");
}

#[test]
fn hard_links_need_a_file_that_is_there() {
    assert!(matches!(entry_error([hard_link("a", "missing")]).1, EntryError::LinkMissing(_)));
    assert!(matches!(entry_error([hard_link("a", "no/such/way")]).1, EntryError::LinkMissing(_)));
    assert!(matches!(entry_error([directory("d"), hard_link("a", "d")]).1, EntryError::LinkToDirectory(_)));
    assert!(matches!(entry_error([hard_link("a", "/")]).1, EntryError::LinkToDirectory(_)));
}

#[test]
fn what_no_file_can_be_is_refused() {
    let long = "n".repeat(256);
    assert!(matches!(entry_error([file(&long, "")]).1, EntryError::Name(_)));
    assert!(matches!(entry_error([file("a", "").pax("path", "a\0b")]).1, EntryError::Name(_)));
    assert!(matches!(entry_error([symlink("a", "")]).1, EntryError::Target));
    assert!(matches!(entry_error([symlink("a", "t".repeat(4096))]).1, EntryError::Target));
    assert!(matches!(entry_error([device(b'3', "a", 5000, 0)]).1, EntryError::Field(_)));
    assert!(matches!(entry_error([file("a", "").pax("uid", "4294967296")]).1, EntryError::Field(_)));
    assert!(matches!(entry_error([Entry::new(b'V', b"a")]).1, EntryError::Type));
    let xattrs = (0..5)
        .fold(file("a", ""), |entry, number| entry.xattr(&format!("user.{number}"), vec![b'x'; 60_000]));
    assert!(matches!(entry_error([xattrs]).1, EntryError::Xattr { .. }));
}

#[test]
fn limits_hold() {
    let layers = Layers::of([Archive::new([file("a", vec![1; 100_000]), file("b", ""), file("c", "")])]);
    let limits = Limits { max_image_bytes: 50_000, ..Limits::default() };
    assert!(matches!(error_within(&layers, &limits), LayerError::TooLarge { limit: 50_000 }));
    let limits = Limits { max_entries: 2, ..Limits::default() };
    let source = error_within(&layers, &limits);
    assert!(
        matches!(source, LayerError::Entry { source: EntryError::TooManyEntries { limit: 2 }, .. }),
        "{source}"
    );
    let limits = Limits { max_metadata_bytes: 2, ..Limits::default() };
    let source = error_within(&layers, &limits);
    assert!(
        matches!(source, LayerError::Entry { source: EntryError::TooMuchMetadata { limit: 2 }, .. }),
        "{source}"
    );
    let limits = Limits { max_header_bytes: 100, ..Limits::default() };
    let layers = Layers::of([Archive::new([file("l".repeat(101), "")])]);
    assert!(matches!(error_within(&layers, &limits), LayerError::Header(_)));
}

#[test]
fn a_hole_larger_than_the_image_may_be_is_refused() {
    let sparse = file("a", "").pax("GNU.sparse.map", "").pax("GNU.sparse.size", "9223372036854775807");
    assert!(matches!(entry_error([sparse]).1, EntryError::Write(_)));
}

#[test]
fn a_bomb_is_stopped_early() {
    let archive = Archive::new([file("zeros", vec![0; 32 << 20])]).finish();
    let limits = Limits { max_image_bytes: 1 << 20, ..Limits::default() };
    let source = error_within(&Layers::new().gzip(&archive), &limits);
    let is_stopped = matches!(source, LayerError::Entry { source: EntryError::Write(_), .. });
    assert!(is_stopped, "{source}");
}

#[test]
fn wrong_digests_and_sizes_are_told() {
    let layers = || Layers::of([Archive::new([file("a", "data")])]);
    let mut wrong = layers();
    wrong.blobs[0].digest[0] ^= 1;
    assert!(matches!(error(&wrong), LayerError::Digest { .. }));
    let mut wrong = layers();
    wrong.blobs[0].diff_id[0] ^= 1;
    assert!(matches!(error(&wrong), LayerError::DiffId { .. }));
    let mut wrong = layers();
    wrong.blobs[0].size += 1;
    assert!(matches!(error(&wrong), LayerError::Size { .. }));
    let mut missing = layers();
    missing.blobs[0].path.push("missing");
    assert!(matches!(error(&missing), LayerError::Read { .. }));
}

#[test]
fn a_layer_cut_off_anywhere_is_refused() {
    let archive = Archive::new([file("a", vec![7; 3000]), directory("b")]).unfinished();
    for length in (1..archive.len()).filter(|length| length % 512 != 0 || (512..3584).contains(length)) {
        let source = error(&Layers::new().blob(&archive[..length], &archive[..length]));
        assert!(matches!(source, LayerError::Truncated), "{length}: {source}");
    }
    for blob in [gzip(&archive), zstd::encode_all(&archive[..], 1).unwrap()] {
        for length in 8..blob.len() {
            let source = error(&Layers::new().blob(&blob[..length], &archive));
            assert!(matches!(source, LayerError::Decompress(_)), "{length}: {source}");
        }
    }
}

#[test]
fn a_flipped_bit_never_goes_unseen() {
    let archive = Archive::new([file("a", vec![7; 700]).xattr("user.a", "1"), symlink("b", "a")]).finish();
    for blob in [archive.clone(), gzip(&archive), zstd::encode_all(&archive[..], 1).unwrap()] {
        let whole = Layers::new().blob(&blob, &archive);
        assert!(whole.convert().is_ok());
        for bit in (0..blob.len() * 8).step_by(7) {
            let mut damaged = blob.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&whole.blobs[0].path, damaged).unwrap();
            assert!(whole.convert().is_err(), "{bit}");
        }
    }
}
