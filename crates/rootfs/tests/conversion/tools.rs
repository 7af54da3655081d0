//! The same awkward image, unpacked by `umoci` and extracted by `fsck.erofs`, has the same files.

use std::path::Path;
use std::process::Command;

use crate::archive::{Archive, device, directory, fifo, file, hard_link, symlink};
use crate::image::Layers;
use crate::listing::{Listing, of_directory, of_image};

/// Runs a tool, naming the package that has it if it is missing.
pub(crate) fn run(package: &str, command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?} does not run ({error}); install it: apt-get install {package}")
    });
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn unpack_with_umoci(layout: &Path, bundle: &Path) {
    assert!(rustix::process::geteuid().is_root(), "this test needs root, for owners and devices");
    let image = format!("{}:latest", layout.display());
    run("umoci", Command::new("umoci").args(["raw", "unpack", "--image", &image]).arg(bundle));
}

pub(crate) fn assert_same(ours: &Listing, theirs: &Listing) {
    for (path, seen) in theirs {
        assert_eq!(ours.get(path), Some(seen), "{path}");
    }
    let extra: Vec<_> = ours.keys().filter(|path| !theirs.contains_key(*path)).collect();
    assert!(extra.is_empty(), "{extra:?}");
}

/// A version 2 capability set, as `setcap cap_net_raw+ep` makes it.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// An access control list: `user::rw- user:1000:r-- group::r-- mask::r-- other::r--`.
const ACL: [u8; 44] = [
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16,
    0, 4, 0, 255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255,
];

fn lower() -> Archive {
    let deep = (0..60).map(|level| directory("deep-directory/".repeat(level + 1)));
    let many =
        (0..500).map(|number| file(format!("many/{number:03}-{}", "n".repeat(40)), number.to_string()));
    let block: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
    let entries = vec![
        directory("./").mode(0o755).mtime(1_600_000_000),
        directory("etc"),
        directory("usr"),
        directory("usr/local").mode(0o2755).owner(0, 50),
        directory("usr/bin"),
        symlink("bin", "usr/bin"),
        symlink("lib", "/usr/lib/../lib"),
        file("bin/sh", "through a link").mode(0o4755),
        file("lib/made/on/the/way", "x"),
        directory("tmp").mode(0o1777),
        file(b"etc/odd \xff\xfe\n\t\"\\name", "odd").owner(1000, 3_000_000),
        file("etc/!before-dots", ""),
        file("etc/hosts", "127.0.0.1 localhost\n").pax("mtime", "1700000000.123456789"),
        file("etc/large-owner", "").pax("uid", "4000000000").pax("gid", "4000000001"),
        file("etc/exact-block", &block[..4096]),
        file("etc/blocks", &block).xattr("user.note", "v\0w\n").xattr("security.capability", CAPABILITY),
        file("etc/acl", "acl").xattr("system.posix_acl_access", ACL).mode(0o644),
        file("etc/large-xattr", "x").xattr("user.large", vec![b'x'; 3000]),
        directory("etc/with-xattr").xattr("user.dir", "1").xattr("trusted.t", "2"),
        symlink("etc/long-target", "t/".repeat(1000)),
        file(format!("etc/{}", "l".repeat(255)), "long name"),
        hard_link("etc/hosts-too", "etc/hosts"),
        hard_link("usr/hosts-three", "/etc/hosts"),
        symlink("etc/link", "hosts"),
        hard_link("etc/link-too", "etc/link"),
        directory("dev"),
        device(b'3', "dev/null", 1, 3).mode(0o666),
        device(b'4', "dev/disk", 259, 70_000).mode(0o660).owner(0, 6),
        hard_link("dev/null-too", "dev/null"),
        fifo("dev/pipe").mode(0o600),
        directory("gone"),
        file("gone/file", "gone"),
        directory("opaque").mode(0o700),
        file("opaque/hidden", "hidden"),
        directory("opaque/sub"),
        file("opaque/sub/hidden", "hidden"),
        directory("replaced-by-file"),
        file("replaced-by-file/x", "x"),
        file("replaced-by-directory", "x"),
        directory("kept").mode(0o700),
        file("kept/child", "child"),
        file("shared-1", "shared"),
        hard_link("shared-2", "shared-1"),
    ];
    Archive::new(entries.into_iter().chain(deep).chain([directory("many")]).chain(many))
}

fn upper() -> Archive {
    let sparse = [vec![b'd'; 512], vec![b'e'; 1000]].concat();
    Archive::new([
        file(".wh.gone", ""),
        directory("opaque").mode(0o711),
        file("opaque/.wh..wh..opq", ""),
        file("opaque/new", "new"),
        file("replaced-by-file", "file").mode(0o600),
        directory("replaced-by-directory"),
        file("replaced-by-directory/x", "x"),
        directory("kept").mode(0o750).owner(7, 8).mtime(1_500_000_000),
        file("kept/added", "added"),
        file("shared-1", "no longer shared"),
        hard_link("etc/over-layers", "usr/hosts-three"),
        file("bin/tool", "through a link of the lower layer"),
        file("etc/.wh.exact-block", ""),
        file("etc/.wh.never-there", ""),
        file("sparse", &sparse)
            .pax("GNU.sparse.major", "0")
            .pax("GNU.sparse.minor", "1")
            .pax("GNU.sparse.name", "sparse-renamed")
            .pax("GNU.sparse.numblocks", "2")
            .pax("GNU.sparse.size", "10000000")
            .pax("GNU.sparse.map", "1000000,512,9000000,1000"),
    ])
}

fn top() -> Archive {
    Archive::new([
        file("gone", "back as a file"),
        file("many/.wh.007-nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn", ""),
        hard_link("etc/hosts", "etc/over-layers"),
        symlink("kept/child", "added"),
    ])
}

#[test]
fn umoci_makes_the_same_files() {
    let layers = Layers::of([lower(), upper(), top()]);
    let work = tempfile::tempdir().unwrap();
    layers.write_layout(&work.path().join("layout"));
    unpack_with_umoci(&work.path().join("layout"), &work.path().join("bundle"));
    let theirs = undated(of_directory(&work.path().join("bundle")));
    assert_same(&undated(layers.listing()), &theirs);
    assert!(theirs.len() > 600);
}

/// Takes the times away from directories that no layer describes, and from the one they are made in: `umoci`
/// gives them the present.
fn undated(mut listing: Listing) -> Listing {
    for path in ["/usr", "/usr/lib", "/usr/lib/made", "/usr/lib/made/on", "/usr/lib/made/on/the"] {
        listing.get_mut(path).unwrap().mtime = (0, 0);
    }
    listing
}

#[test]
fn fsck_finds_nothing_and_extracts_the_same_files() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root, for owners and devices");
    let image = Layers::of([lower(), upper(), top()]).convert().unwrap();
    let work = tempfile::tempdir().unwrap();
    let out = work.path().join("out");
    let extract = format!("--extract={}", out.display());
    run("erofs-utils", Command::new("fsck.erofs").arg(extract).arg(image.path()));
    let mut ours = of_image(image.as_file());
    let mut theirs = of_directory(&out);
    // It extracts neither extended attributes nor hard links, loses the setuid bit to the change of owner, and
    // sets times to the second.
    for listing in [&mut ours, &mut theirs] {
        for seen in listing.values_mut() {
            (seen.xattrs, seen.links, seen.mtime) = (vec![], None, (0, 0));
            seen.mode &= 0o1777;
        }
    }
    assert_same(&ours, &theirs);
}
