//! A workspace's changes become an image, which shows what the workspace showed.

use std::path::Path;
use std::process::Command;

use microagent_tests::{World, succeed};
use serde_json::Value;

/// Everything that can happen to a tree; `/old` and what is in it is the image's.
const CHANGES: &str = r"
set -e
mkdir -p /data/sub /old/kept; echo new > /data/file; echo x > '/data/odd  name
with newline'
chmod 4750 /data/file; chown 12:34 /data/sub; touch -d '2001-02-03 04:05:06' /data/file
ln /data/file /data/hard; ln -s ../nowhere /data/soft; mkfifo /data/fifo; mknod /data/node c 1 3; mknod /data/block b 7 9
dd if=/dev/zero of=/data/sparse bs=1 count=1 seek=5000000 2>/dev/null
rm /etc/group; rm -r /home; mkdir /home; echo mine > /home/mine; mv /bin/yes /bin/really
";

/// What a tree shows, without what is the machine's own: kind, mode, owner, links, size, time, target, and a sum of each file.
/// How many links a directory has is for its file system to say.
const LISTING: &str = r#"cd /; find . -path ./proc -prune -o -path ./sys -prune -o -path ./dev -prune -o -path ./etc/hosts -o -path ./etc/hostname -o -path ./etc/resolv.conf -o -path ./etc/machine-id -o -print0 | sort -z | while IFS= read -r -d '' f; do stat -c '%F %a %u %g' "$f"; [ -d "$f" ] || stat -c %h "$f"; if [ -f "$f" ] && [ ! -h "$f" ]; then stat -c '%s %Y' "$f"; md5sum < "$f"; fi; [ -h "$f" ] && readlink "$f"; [ -c "$f" -o -b "$f" ] && stat -c '%t %T' "$f"; printf '%s\n' "$f"; done"#;

fn exec(world: &World, name: &str, line: &str) -> String {
    world.microagent(["exec", name, "sh", "-c", line]).outcome().success()
}

fn started(world: &World, name: &str, image: &str) {
    let words = ["-d", "--name", name, "--network", "isolated", image, "sleep", "1000"];
    world.run(words).outcome().success();
}

fn committed(world: &World, words: &[&str]) -> Value {
    let text = world.microagent(["--json", "commit"]).args(words).outcome().success();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn an_image_of_a_workspace_shows_what_the_workspace_showed() {
    let world = World::own().warm_machine();
    started(&world, "box", "busybox");
    let error = world.microagent(["commit", "box", "new"]).outcome().error(1);
    assert!(error.contains("it is running") && error.contains("microagent halt box"), "{error}");
    exec(&world, "box", CHANGES);
    let shown = exec(&world, "box", LISTING);
    assert!(shown.contains("./data/sparse") && !shown.contains("./bin/yes\n"), "{shown}");
    world.microagent(["halt", "box"]).outcome().success();
    let made = committed(&world, &["-m", "changes", "-a", "me", "-c", "LABEL a=b", "box", "new"]);
    let again = committed(&world, &["-m", "changes", "-a", "me", "-c", "LABEL a=b", "box", "again:1"]);
    assert_eq!(made["digest"], again["digest"], "the same changes are the same image");
    started(&world, "copy", "new");
    let copied = exec(&world, "copy", LISTING);
    // All of it would be long.
    let differs = copied.lines().zip(shown.lines()).find(|(copied, shown)| copied != shown);
    assert!(differs.is_none() && copied.len() == shown.len(), "{differs:?}");
    let history = world.microagent(["image", "history", "new"]).outcome().success();
    assert!(history.contains("changes") && history.contains("sleep 1000"), "{history}");
    // The workspace goes on as before, and what is committed on top of the commit is one more layer.
    world.microagent(["start", "box"]).outcome().success();
    assert_eq!(exec(&world, "box", "cat /home/mine"), "mine\n");
    exec(&world, "copy", "rm /home/mine");
    world.microagent(["kill", "copy"]).outcome().success();
    committed(&world, &["copy", "third"]);
    assert_eq!(world.run(["third", "ls", "/home"]).outcome().success(), "");
    let inspected = world.microagent(["--json", "image", "inspect", "third"]).outcome().success();
    assert!(inspected.contains("third"), "{inspected}");
}

#[test]
fn other_tools_read_a_commit_as_it_is_meant() {
    let world = World::own().warm_machine();
    started(&world, "box", "busybox");
    exec(&world, "box", CHANGES);
    world.microagent(["halt", "box"]).outcome().success();
    let base: Value = image(&world, "busybox");
    committed(&world, &["box", "new"]);
    let new = image(&world, "new");
    let layers = |image: &Value| image["layers"].as_array().unwrap().clone();
    assert_eq!(layers(&new)[..layers(&base).len()], layers(&base)[..], "base layers are the same blobs");
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout");
    world
        .microagent(["save", "--format", "oci-dir", "-o", layout.to_str().unwrap(), "new"])
        .outcome()
        .success();
    let copied = format!("oci:{}:new", directory.path().join("copy").display());
    succeed(
        Command::new("skopeo")
            .args(["copy", "--quiet"])
            .arg(format!("oci:{}", layout.display()))
            .arg(&copied),
    );
    let bundle = directory.path().join("bundle");
    let image = format!("{}:new", directory.path().join("copy").display());
    succeed(Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle));
    check_unpacked(&bundle.join("rootfs"));
}

fn image(world: &World, name: &str) -> Value {
    let text = world.microagent(["--json", "image", "inspect", name]).outcome().success();
    let all: Value = serde_json::from_str(&text).unwrap();
    all[0].clone()
}

fn check_unpacked(root: &Path) {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let of = |path: &str| std::fs::symlink_metadata(root.join(path)).unwrap();
    let file = of("data/file");
    assert_eq!((file.mode() & 0o7777, file.nlink(), file.mtime()), (0o4750, 2, 981_173_106));
    assert_eq!(file.ino(), of("data/hard").ino());
    assert_eq!((of("data/sub").uid(), of("data/sub").gid()), (12, 34));
    assert!(of("data/fifo").file_type().is_fifo() && of("data/node").file_type().is_char_device());
    assert_eq!((of("data/node").rdev(), of("data/block").rdev()), (0x103, 0x709));
    assert_eq!(std::fs::read_link(root.join("data/soft")).unwrap(), Path::new("../nowhere"));
    assert_eq!(of("data/sparse").len(), 5_000_001);
    for gone in ["etc/group", "bin/yes", "etc/resolv.conf", "etc/machine-id"] {
        assert!(std::fs::symlink_metadata(root.join(gone)).is_err(), "{gone}");
    }
    let home: Vec<_> =
        std::fs::read_dir(root.join("home")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(home, ["mine"], "a directory that was replaced hides the old one");
    assert!(root.join("data/odd  name\nwith newline").exists());
}

#[test]
fn a_file_whose_name_means_something_in_layers_is_told() {
    let world = World::own().warm_machine();
    started(&world, "box", "busybox");
    exec(&world, "box", "mkdir /d; touch /d/.wh.file");
    world.microagent(["halt", "box"]).outcome().success();
    let error = world.microagent(["commit", "box", "new"]).outcome().error(1);
    assert!(error.contains("`d/.wh.file`") && error.contains("hint:"), "{error}");
    assert!(!world.microagent(["images"]).outcome().success().contains("new"));
    world.microagent(["start", "box"]).outcome().success();
}
