//! Disks beside a workspace's own: volumes, bundles, disk images.

use std::path::{Path, PathBuf};
use std::process::Command;

use microagent_tests::World;
use serde_json::Value;

const ISOLATED: [&str; 2] = ["--network", "isolated"];

fn run(world: &World, volumes: &[&str], line: &str) -> microagent_tests::Outcome {
    let mut words: Vec<&str> = ISOLATED.to_vec();
    for volume in volumes {
        words.extend(["-v", volume]);
    }
    words.extend(["busybox", "sh", "-c", line]);
    world.run(words).outcome()
}

fn status(world: &World, name: &str) -> Value {
    let text = world.microagent(["volume", "status", "--json", name]).outcome().success();
    serde_json::from_str::<Vec<Value>>(&text).unwrap().remove(0)
}

fn assert_sound(disk: &Path) {
    let output = Command::new("/sbin/e2fsck").args(["-f", "-n"]).arg(disk).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn volume_disk(world: &World, name: &str) -> PathBuf {
    world.home().join("volumes").join(name).join("disk.ext4")
}

#[test]
fn what_a_run_writes_to_a_volume_is_there_for_the_next_one() {
    let world = World::own().warm();
    assert_eq!(
        run(&world, &["data:/data"], "echo kept > /data/file; ls -a /data").success(),
        ".\n..\nfile\n"
    );
    assert_sound(&volume_disk(&world, "data"));
    assert_eq!(run(&world, &["data:/elsewhere/deep:ro"], "cat /elsewhere/deep/file").success(), "kept\n");
    let error = run(&world, &["data:/data:ro"], "echo x > /data/file").error(1);
    assert!(error.contains("Read-only file system"), "{error}");
    let told = status(&world, "data");
    assert_eq!((&told["size"], &told["in_use"]), (&(10_u64 << 30).into(), &"free".into()));
    assert!(told["used"].as_u64().unwrap() < 1 << 20 && told["allocated"].as_u64().unwrap() < 64 << 20);
    let list = world.microagent(["volume", "ls", "--quiet"]).outcome().success();
    assert_eq!(list, "data\n");
}

#[test]
fn a_new_volume_has_what_the_image_has_at_the_place() {
    let world = World::own().warm();
    let look = "stat -c '%a %u %n' /etc/passwd; cat /etc/passwd";
    let before = run(&world, &[], look).success();
    assert_eq!(run(&world, &["etc:/etc"], &format!("echo x >> /etc/group; {look}")).success(), before);
    // From now on it has what was written to it, and nothing of another place.
    let again =
        run(&world, &["etc:/bin/none:ro"], "cat /bin/none/passwd; tail -n 1 /bin/none/group").success();
    assert!(again.starts_with("root:") && again.ends_with("x\n"), "{again}");
    let modes = run(&world, &["tmp:/tmp"], "stat -c %a /tmp").success();
    assert_eq!(modes, "1777\n", "the mount point's mode is kept");
    let error = run(&world, &["file:/etc/passwd"], "true").error(125);
    assert!(error.contains("the image has a file there"), "{error}");
}

#[test]
fn one_writes_or_many_read_and_who_is_in_the_way_is_told() {
    let world = World::own().warm_machine();
    run(&world, &["data:/data"], "echo 1 > /data/file").success();
    let start = |name: &str, volume: &str| {
        let words = ["-d", "--name", name, "--network", "isolated", "-v", volume, "busybox", "sleep", "1000"];
        world.run(words).outcome()
    };
    start("one", "data:/data:ro").success();
    start("two", "data:/data:ro").success();
    let error = run(&world, &["data:/data"], "true").error(125);
    assert!(error.contains("volume `data` is in use") && error.contains(":ro everywhere"), "{error}");
    let told = status(&world, "data");
    assert_eq!(told["in_use"], "readers");
    assert_eq!(told["workspaces"], serde_json::json!(["one", "two"]));
    assert!(told["used"].as_u64().is_some(), "a guest that has it is asked: {told}");
    let error = world.microagent(["volume", "delete", "--yes", "data"]).outcome().error(1);
    assert!(error.contains("workspaces `one`, `two` attach it"), "{error}");
    world.microagent(["delete", "--force", "one", "two"]).outcome().success();
    start("three", "data:/data").success();
    let error = run(&world, &["data:/data:ro"], "true").error(125);
    assert!(error.contains("in use by one that writes"), "{error}");
    world.microagent(["delete", "--force", "three"]).outcome().success();
    assert_eq!(world.microagent(["volume", "delete", "--yes", "data"]).outcome().success(), "data\n");
    assert!(!volume_disk(&world, "data").exists());
    let error = world.microagent(["volume", "delete", "--yes", "data"]).outcome().error(0);
    assert!(error.contains("no such volume"), "{error}");
}

#[test]
fn a_volume_survives_kills_and_is_repaired_when_it_is_read() {
    let world = World::own().warm_machine();
    let words =
        ["-d", "--name", "box", "--network", "isolated", "-v", "data:/data", "busybox", "sleep", "1000"];
    world.run(words).outcome().success();
    for round in 0..3 {
        let line = format!("echo {round} >> /data/rounds && sync");
        world.microagent(["exec", "box", "sh", "-c", &line]).outcome().success();
        world.microagent(["kill", "box"]).outcome().success();
        let wanted = &"0\n1\n2\n"[..2 * (round + 1)];
        assert_eq!(run(&world, &["data:/d:ro"], "cat /d/rounds").success(), wanted);
        assert_sound(&volume_disk(&world, "data"));
        world.microagent(["start", "box"]).outcome().success();
    }
    world.microagent(["halt", "box"]).outcome().success();
    // Copies of a workspace at rest see its volumes.
    let there = world.microagent(["cp", "box:/data/rounds", "-"]).outcome().success();
    assert!(there.contains("rounds"), "a tar archive");
    world.microagent(["delete", "--yes", "box"]).outcome().success();
    let pruned = world.microagent(["volume", "prune", "--yes", "--json"]).outcome().success();
    assert!(pruned.contains("\"data\""), "{pruned}");
}

#[test]
fn a_volume_grows_with_what_is_on_it() {
    let world = World::own().warm_machine();
    world.microagent(["volume", "create", "data", "--size", "128m"]).outcome().success();
    let error = world.microagent(["volume", "create", "data"]).outcome().error(1);
    assert!(error.contains("`data` exists already"), "{error}");
    run(&world, &["data:/data"], "echo kept > /data/file").success();
    let error = world.microagent(["volume", "resize", "data", "--size", "64m"]).outcome().error(1);
    assert!(error.contains("cannot shrink volume `data` from 128m to 64m"), "{error}");
    world.microagent(["volume", "resize", "data", "--size", "2g"]).outcome().success();
    assert_sound(&volume_disk(&world, "data"));
    let total = run(&world, &["data:/data"], "cat /data/file; df -m /data | tail -n 1 | awk '{ print $2 }'")
        .success();
    let (file, total) = total.split_once('\n').unwrap();
    assert_eq!(file, "kept");
    assert!(total.trim().parse::<u32>().unwrap() > 1800, "{total}");
    assert_eq!(status(&world, "data")["size"], 2_u64 << 30);
}

#[test]
fn a_bundle_brings_files_in_and_changes_to_it_are_the_workspaces_own() {
    let world = World::own().warm_machine();
    let directory = tempfile::tempdir().unwrap();
    let files = directory.path().join("files");
    std::fs::create_dir_all(files.join("sub")).unwrap();
    std::fs::write(files.join("sub/file"), "from the host\n").unwrap();
    std::fs::write(files.join(".wh.name"), "a plain name\n").unwrap();
    for (name, flag) in [("b.tar", "--no-auto-compress"), ("b.tar.gz", "--gzip"), ("b.tar.zst", "--zstd")] {
        let archive = directory.path().join(name);
        let made =
            Command::new("tar").arg("-C").arg(&files).arg(flag).arg("-cf").arg(&archive).arg(".").status();
        assert!(made.unwrap().success());
        let volume = format!("{}:/in:ro", archive.display());
        let text = run(&world, &[&volume], "cat /in/sub/file /in/.wh.name").success();
        assert_eq!(text, "from the host\na plain name\n");
    }
    let volume = format!("{}:/in", directory.path().join("b.tar").display());
    assert_eq!(run(&world, &[&volume], "echo new > /in/sub/file; cat /in/sub/file").success(), "new\n");
    assert_eq!(run(&world, &[&volume], "cat /in/sub/file").success(), "from the host\n");
    let words = ["-d", "--name", "box", "--network", "isolated", "-v", &volume, "busybox", "sleep", "1000"];
    world.run(words).outcome().success();
    world.microagent(["exec", "box", "sh", "-c", "echo own > /in/sub/file"]).outcome().success();
    world.microagent(["restart", "box"]).outcome().success();
    let own = world.microagent(["exec", "box", "cat", "/in/sub/file"]).outcome().success();
    assert_eq!(own, "own\n");
    world.microagent(["halt", "box"]).outcome().success();
    world.microagent(["clone", "box", "copy"]).outcome().success();
    world.microagent(["start", "copy"]).outcome().success();
    assert_eq!(world.microagent(["exec", "copy", "cat", "/in/sub/file"]).outcome().success(), "own\n");
}

#[test]
fn a_bundle_that_is_no_archive_is_refused() {
    let world = World::own().warm();
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("b.tar");
    std::fs::write(&archive, [7; 3000]).unwrap();
    let volume = format!("{}:/in", archive.display());
    let error = run(&world, &[&volume], "true").error(125);
    assert!(error.contains("cannot use the bundle") && error.contains("b.tar"), "{error}");
    std::fs::remove_file(&archive).unwrap();
    let error = run(&world, &[&volume], "true").error(125);
    assert!(error.contains("failed to read the bundle") && error.contains("No such file"), "{error}");
}

#[test]
fn a_disk_image_is_attached_as_it_is() {
    let world = World::own().warm_machine();
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("x.ext4");
    std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let volume = format!("{}:/disk", image.display());
    let error = run(&world, &[&volume], "true").error(125);
    assert!(error.contains("x.ext4") && error.contains("there is no ext4 file system on it"), "{error}");
    assert!(Command::new("/sbin/mkfs.ext4").args(["-q", "-F"]).arg(&image).status().unwrap().success());
    run(&world, &[&volume], "echo kept > /disk/file").success();
    assert_sound(&image);
    let read_only = format!("{volume}:ro");
    assert_eq!(run(&world, &[&read_only], "cat /disk/file").success(), "kept\n");
    let words = ["-d", "--name", "box", "--network", "isolated", "-v", &volume, "busybox", "sleep", "1000"];
    world.run(words).outcome().success();
    let error = run(&world, &[&read_only], "true").error(125);
    assert!(error.contains("is in use"), "{error}");
    world.microagent(["exec", "box", "sh", "-c", "echo more > /disk/file; sync"]).outcome().success();
    world.microagent(["kill", "box"]).outcome().success();
    let error = run(&world, &[&read_only], "true").error(125);
    assert!(error.contains("was not left clean") && error.contains("without :ro"), "{error}");
    assert_eq!(run(&world, &[&volume], "cat /disk/file").success(), "more\n");
    assert_eq!(run(&world, &[&read_only], "cat /disk/file").success(), "more\n");
}

#[test]
fn directories_of_the_host_are_refused_with_what_to_do() {
    let world = World::own().warm();
    for words in [["run", "-v", "/tmp:/tmp", "busybox"], ["run", "-v", "./x:/x", "busybox"]] {
        let error = world.microagent(words).outcome().error(125);
        assert!(error.contains("a guest never sees a live file system of the host"), "{error}");
        assert!(error.contains("hint:") && error.contains(".tar"), "{error}");
    }
    let error = run(&world, &["a:/x", "b:/x"], "true").error(125);
    assert!(error.contains("two volumes at `/x`"), "{error}");
    assert!(std::fs::read_dir(world.home().join("volumes")).unwrap().next().is_none(), "nothing was made");
}
