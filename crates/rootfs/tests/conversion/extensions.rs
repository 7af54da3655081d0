//! The formats of archives and blobs that are in use.

use std::os::unix::fs::{FileExt, MetadataExt};

use erofs::FileType;

use crate::archive::{Archive, Entry, directory, file, symlink};
use crate::image::{Layers, gzip};
use crate::listing::{Listing, of_image};

fn listing(archive: Archive) -> Listing {
    Layers::of([archive]).listing()
}

#[test]
fn blobs_of_every_compression_are_read() {
    let archive = Archive::new([file("a", vec![5; 100_000])]).finish();
    let expected = Layers::new().gzip(&archive).listing();
    let (first, second) = archive.split_at(5000);
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    for blob in [
        archive.clone(),
        zstd(&archive),
        [gzip(first), gzip(second)].concat(),
        [zstd(first), zstd(second)].concat(),
    ] {
        assert_eq!(Layers::new().blob(&blob, &archive).listing(), expected);
    }
}

#[test]
fn what_follows_the_end_of_an_archive_is_hashed_but_not_read() {
    let mut archive = Archive::new([file("a", "")]).finish();
    archive.extend_from_slice(&[0xff; 5000]);
    assert_eq!(Layers::new().gzip(&archive).listing().len(), 2);
    let unfinished = Archive::new([file("a", "")]).unfinished();
    assert_eq!(Layers::new().gzip(&unfinished).listing().len(), 2);
    assert_eq!(Layers::new().gzip(&[]).listing().len(), 1);
}

#[test]
fn old_archives_mark_directories_with_a_slash() {
    let entry = Entry::new(0, b"old/").header(|header| header.as_gnu_mut().unwrap().magic = [0; 6]);
    let found = listing(Archive::new([entry]));
    assert_eq!(found["/old"].kind, FileType::Directory);
}

#[test]
fn a_ustar_name_continues_its_prefix() {
    let entry = Entry::new(b'0', b"").header(|header| {
        *header = tar::Header::new_ustar();
        for set in [tar::Header::set_uid, tar::Header::set_gid, tar::Header::set_mtime] {
            set(header, 0);
        }
        header.set_mode(0o600);
        let ustar = header.as_ustar_mut().unwrap();
        ustar.typeflag = [b'0'];
        ustar.prefix[..5].copy_from_slice(b"a/dir");
        ustar.name[..4].copy_from_slice(b"name");
    });
    // The helper would set an empty name.
    let found = listing(Archive::default().raw(&{
        let mut bytes = Archive::new([entry]).unfinished();
        bytes[..4].copy_from_slice(b"name");
        let mut header = tar::Header::from_byte_slice(&bytes).clone();
        header.set_cksum();
        header.as_bytes().to_vec()
    }));
    assert!(found.contains_key("/a/dir/name"), "{found:?}");
}

#[test]
fn global_records_hold_until_others_replace_them() {
    let archive = Archive::default()
        .extension(
            b'g',
            &[crate::archive::record("uid", b"5"), crate::archive::record("mtime", b"7.5")].concat(),
        )
        .with(file("a", ""))
        .with(file("b", "").pax("uid", "6"))
        .extension(b'g', &crate::archive::record("uid", b""))
        .with(file("c", ""));
    let found = listing(archive);
    let owners = ["/a", "/b", "/c"].map(|path| found[path].owner.0);
    assert_eq!(owners, [5, 6, 0]);
    assert_eq!(found["/c"].mtime, (7, 500_000_000));
}

#[test]
fn pax_names_targets_and_sizes_replace_those_of_the_header() {
    let long = "p/".repeat(300) + "name";
    let found = listing(Archive::new([
        file("short", "12345").pax("path", &long).pax("mtime", "-1.5"),
        symlink("link", "short").pax("linkpath", &long),
        file("sized", "12345").pax("size", "5").header(|header| header.set_size(0)),
    ]));
    assert_eq!(found[&format!("/{long}")].mtime, (-2, 500_000_000));
    assert_eq!(found["/link"].content, long);
    assert_eq!(found["/sized"].size, 5);
}

#[test]
fn numbers_in_base_256_are_read() {
    let found = listing(Archive::new([file("a", "").owner(4_000_000_000, 3_000_000).mtime(1 << 35)]));
    assert_eq!((found["/a"].owner, found["/a"].mtime), ((4_000_000_000, 3_000_000), (1 << 35, 0)));
}

#[test]
fn sparse_files_of_every_version_come_out_the_same() {
    let data = [vec![1; 600], vec![2; 512]].concat();
    let sparse =
        |version: &str, entry: Entry| entry.pax("GNU.sparse.name", version).pax("GNU.sparse.size", "100000");
    let v00 = sparse("v00", file("x", &data))
        .pax("GNU.sparse.numblocks", "2")
        .pax("GNU.sparse.offset", "512")
        .pax("GNU.sparse.numbytes", "600")
        .pax("GNU.sparse.offset", "50000")
        .pax("GNU.sparse.numbytes", "512");
    let v01 = sparse("v01", file("x", &data)).pax("GNU.sparse.map", "512,600,50000,512");
    let mut map = b"2\n512\n600\n50000\n512\n".to_vec();
    map.resize(512, 0);
    let v10 = file("x", [map, data.clone()].concat())
        .pax("GNU.sparse.name", "v10")
        .pax("GNU.sparse.realsize", "100000")
        .pax("GNU.sparse.major", "1")
        .pax("GNU.sparse.minor", "0");
    let old = Entry::new(b'S', b"old").data(&data).header(|header| {
        let gnu = header.as_gnu_mut().unwrap();
        gnu.realsize.copy_from_slice(b"00000303240\0");
        gnu.sparse[0].offset.copy_from_slice(b"00000001000\0");
        gnu.sparse[0].numbytes.copy_from_slice(b"00000001130\0");
        gnu.sparse[1].offset.copy_from_slice(b"00000141520\0");
        gnu.sparse[1].numbytes.copy_from_slice(b"00000001000\0");
    });
    let mut plain = vec![0; 100_000];
    plain[512..1112].copy_from_slice(&data[..600]);
    plain[50_000..50_512].copy_from_slice(&data[600..]);
    let found = listing(Archive::new([v00, v01, v10, old, file("plain", &plain)]));
    for path in ["/v00", "/v01", "/v10", "/old"] {
        assert_eq!((found[path].size, &found[path].content), (100_000, &found["/plain"].content), "{path}");
    }
}

#[test]
fn a_file_of_5_gib_with_little_in_it_takes_little() {
    let size = 5_u64 << 30;
    let entry = file("big", "end")
        .pax("GNU.sparse.map", format!("{},3", size - 3))
        .pax("GNU.sparse.size", size.to_string())
        .pax("GNU.sparse.name", "big");
    let image = Layers::of([Archive::new([directory("d"), entry, file("behind", "it")])]).convert().unwrap();
    assert!(image.as_file().metadata().unwrap().blocks() * 512 < 64 << 10);
    let reader = erofs::Reader::open(image.as_file()).unwrap();
    assert_eq!(reader.check().unwrap().data, size + 2);
    let root = reader.inode(reader.root()).unwrap();
    let entry = reader.entries(&root).unwrap().into_iter().find(|entry| entry.name == b"big").unwrap();
    let big = reader.inode(entry.nid).unwrap();
    let mut end = [9; 6];
    assert_eq!(reader.read_at(&big, size - 5, &mut end).unwrap(), 5);
    assert_eq!(end, *b"\0\0end\x09");
}

#[test]
fn the_same_layers_give_the_same_image() {
    let layers =
        Layers::of([Archive::new([file("b", "1"), file("a", "22")]), Archive::new([file("b", "333")])]);
    let images = [(); 2].map(|()| {
        let image = layers.convert().unwrap();
        let mut bytes = vec![0; image.as_file().metadata().unwrap().len() as usize];
        image.as_file().read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(of_image(image.as_file()).len(), 3);
        bytes
    });
    assert!(images[0] == images[1]);
}
