//! A distribution that is changed in every way there is, and the image that it becomes: the next run, and what other
//! tools make of it, agree with the workspace file by file.

use std::path::Path;

use microagent_tests::{World, succeed, tool};

use super::{blob, committed, document, in_box, names_in};

const LISTING: &str = include_str!("listing.py");
const CHANGES: &str = include_str!("changes.py");
const SHELL: &str = include_str!("changes.sh");

#[test]
fn an_image_has_what_its_workspace_had_file_by_file() {
    let world = World::own().warm_machine();
    world.run(["-d", "--name", "box", "debian:12", "sleep", "infinity"]).outcome().success();
    let package = package(world.path());
    world.microagent(["cp", &package, "box:/root/local.deb"]).outcome().success();
    in_box(&world, SHELL);
    world.microagent(["exec", "-i", "box", "python3", "-"]).bytes(CHANGES).outcome().success();
    let shown = world.microagent(["exec", "-i", "box", "python3", "-B", "-", "/"]).bytes(LISTING).outcome();
    let shown = shown.success();
    assert!(shown.contains("b'/usr/share/local/hello'") && shown.contains("user.bytes"), "{shown}");
    world.microagent(["halt", "box"]).outcome().success();

    let one = committed(&world, &["made:1", "-m", "all of it", "-a", "me"]);
    let two = committed(&world, &["made:2", "-m", "all of it", "-a", "me"]);
    for member in ["id", "digest", "layer"] {
        assert_eq!(one[member], two[member], "the same changes are the same image");
    }
    has_the_layers_of_its_base(&world, &one);

    let again = world.run(["-i", "made:1", "python3", "-B", "-", "/"]).bytes(LISTING).outcome().success();
    assert_same(&shown, &again);
    let unpacked = unpacked(&world, "made:1");
    let mut python = tool("python3", "python3-minimal");
    python.args(["-B", "-c", LISTING]).arg(unpacked);
    // To readers in Go, a pax record without a value is none.
    let shown = shown.replace(", 'user.empty': ''", "");
    assert_same(&shown, &String::from_utf8(succeed(&mut python)).unwrap());

    // A workspace of the image may be changed and become one in its turn.
    world.microagent(["delete", "--yes", "box"]).outcome().success();
    world.run(["-d", "--name", "box", "made:1", "sleep", "infinity"]).outcome().success();
    in_box(&world, "rm -r /made; mkdir /made; dpkg --purge local >/dev/null; ln -s x /usr/share/doc");
    world.microagent(["halt", "box"]).outcome().success();
    committed(&world, &["made:3"]);
    let line =
        "test -L /usr/share/doc && test -z \"$(ls -A /made)\" && test ! -e /usr/share/local && echo so";
    assert_eq!(world.run(["made:3", "sh", "-c", line]).outcome().success(), "so\n");
}

/// A package that is not the distribution's.
fn package(directory: &Path) -> String {
    let tree = directory.join("package");
    std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    std::fs::create_dir_all(tree.join("usr/share/local")).unwrap();
    let control =
        "Package: local\nVersion: 1\nArchitecture: all\nMaintainer: me <me@example.org>\nDescription: test\n";
    std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
    std::fs::write(tree.join("usr/share/local/hello"), "hello").unwrap();
    let package = directory.join("local.deb");
    succeed(tool("dpkg-deb", "dpkg").args(["--root-owner-group", "--build"]).arg(tree).arg(&package));
    package.display().to_string()
}

/// What differs, in few lines.
fn assert_same(shown: &str, other: &str) {
    let lines = |text: &'_ str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    let (shown, other) = (lines(shown), lines(other));
    let missing: Vec<_> = shown.difference(&other).take(20).collect();
    let new: Vec<_> = other.difference(&shown).take(20).collect();
    assert!(missing.is_empty() && new.is_empty(), "missing: {missing:#?}\nnew: {new:#?}");
}

/// The base's blobs are the image's, and there is one more.
fn has_the_layers_of_its_base(world: &World, committed: &serde_json::Value) {
    let images = world.microagent(["images", "--json"]).outcome().success();
    let images: serde_json::Value = serde_json::from_str(&images).unwrap();
    let base = images.as_array().unwrap().iter().find(|image| image["image"] == "debian:12").unwrap();
    let (base, made) = (document(world, &base["digest"]), document(world, &committed["digest"]));
    let (base_layers, layers) = (base["layers"].as_array().unwrap(), made["layers"].as_array().unwrap());
    assert_eq!(layers[..base_layers.len()], base_layers[..]);
    assert_eq!(layers.len(), base_layers.len() + 1);
    assert_eq!(layers[base_layers.len()]["digest"], committed["layer"]);
    assert_eq!(made["mediaType"], base["mediaType"]);
    let names = names_in(&blob(world, &committed["layer"]));
    for wanted in ["etc/apt/.wh..wh..opq", "usr/share/.wh.doc", ".wh.srv", "etc/.wh.issue.net", "etc/issue/"]
    {
        assert!(names.iter().any(|name| name == wanted), "{wanted}: {names:?}");
    }
    let unwanted =
        ["proc/", "sys/", "dev/", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/machine-id"];
    for name in unwanted {
        assert!(!names.iter().any(|found| found == name), "{name}");
    }
}

/// The image as skopeo reads it from the store, and umoci unpacks it.
fn unpacked(world: &World, image: &str) -> std::path::PathBuf {
    let from = format!("oci:{}:docker.io/library/{image}", world.home().join("images").display());
    let layout = world.path().join("layout");
    let to = format!("oci:{}:latest", layout.display());
    succeed(tool("skopeo", "skopeo").args(["--insecure-policy", "copy", "-q", &from, &to]));
    let bundle = world.path().join("bundle");
    let source = format!("{}:latest", layout.display());
    succeed(tool("umoci", "umoci").args(["unpack", "--image", &source]).arg(&bundle));
    bundle.join("rootfs")
}
