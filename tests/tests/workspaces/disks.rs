//! Copies of workspaces, and larger disks.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use microagent_tests::World;

use super::{SERVICE, eventually, started, state, status};

fn in_guest(world: &World, name: &str, line: &str) -> String {
    world.microagent(["exec", name, "sh", "-c", line]).outcome().success()
}

/// What e2fsck(8) finds wrong with a disk that nobody uses.
fn assert_sound(world: &World, name: &str) {
    let disk = world.home().join("workspaces").join(name).join("disk.ext4");
    let output = Command::new("/sbin/e2fsck").args(["-f", "-n"]).arg(disk).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn disk(world: &World, name: &str) -> std::fs::Metadata {
    std::fs::metadata(world.home().join("workspaces").join(name).join("disk.ext4")).unwrap()
}

#[test]
fn a_clone_has_what_there_was_and_a_life_of_its_own() {
    let world = World::own().warm_machine();
    started(&world, "one", SERVICE);
    in_guest(&world, "one", "echo before > /file; ln -s file /link; head -c 3000000 /dev/urandom > /big");
    let error = world.microagent(["clone", "one", "two"]).outcome().error(1);
    assert!(error.contains("cannot clone workspace `one`: it is running"), "{error}");
    assert!(error.contains("microagent halt one"), "{error}");
    let sum = in_guest(&world, "one", "md5sum /big");
    world.microagent(["halt", "one"]).outcome().success();
    assert_eq!(world.microagent(["clone", "one", "two"]).outcome().success(), "two\n");
    assert!(disk(&world, "two").blocks() <= disk(&world, "one").blocks() + 64, "holes stay holes");
    assert_eq!((state(&world, "one"), state(&world, "two")), ("halted".to_owned(), "created".to_owned()));
    for name in ["one", "two"] {
        assert_sound(&world, name);
        world.microagent(["start", name]).outcome().success();
        assert_eq!(in_guest(&world, name, "cat /link"), "before\n");
        assert_eq!(in_guest(&world, name, "md5sum /big"), sum);
        in_guest(&world, name, "hostname > /file");
    }
    assert_eq!(in_guest(&world, "one", "cat /file"), "one\n");
    assert_eq!(in_guest(&world, "two", "cat /file"), "two\n");
    let machine_id = |name| in_guest(&world, name, "cat /etc/machine-id");
    assert_ne!(machine_id("one"), machine_id("two"));
    let error = world.microagent(["clone", "one", "two"]).outcome().error(1);
    assert!(error.contains("it is running"), "{error}");
    world.microagent(["halt", "one"]).outcome().success();
    let error = world.microagent(["clone", "one", "two"]).outcome().error(1);
    assert!(error.contains("`two` exists already"), "{error}");
    world.microagent(["delete", "--force", "one"]).outcome().success();
    assert_eq!(in_guest(&world, "two", "cat /link"), "two\n");
    let events = world.microagent(["events", "one"]).outcome().success();
    assert!(events.contains("cloned as two"), "{events}");
}

#[test]
fn a_disk_grows_with_what_is_on_it_and_does_not_shrink() {
    let world = World::own().warm_machine();
    let flags = ["-d", "--name", "box", "--disk-size", "256m", "busybox", "sh", "-c", SERVICE];
    world.run(flags).outcome().success();
    in_guest(&world, "box", "echo kept > /file");
    let error = world.microagent(["resize", "box", "--size", "1g"]).outcome().error(1);
    assert!(error.contains("cannot resize workspace `box`: it is running"), "{error}");
    world.microagent(["halt", "box"]).outcome().success();
    let error = world.microagent(["resize", "box", "--size", "128m"]).outcome().error(1);
    assert!(error.contains("cannot shrink the disk of workspace `box` from 256m to 128m"), "{error}");
    assert!(error.contains("hint:") && error.contains("microagent cp"), "{error}");
    for (size, megabytes) in [("1g", 900), ("1g", 900), ("100g", 95_000)] {
        assert_eq!(world.microagent(["resize", "box", "--size", size]).outcome().success(), "box\n");
        assert_sound(&world, "box");
        assert_eq!(status(&world, "box")["spec"]["disk_size"], size);
        world.microagent(["start", "box"]).outcome().success();
        assert_eq!(in_guest(&world, "box", "cat /file"), "kept\n");
        let total = in_guest(&world, "box", "df -m / | tail -n 1 | awk '{ print $2 }'");
        assert!(total.trim().parse::<u32>().unwrap() > megabytes, "{size}: {total}");
        world.microagent(["halt", "box"]).outcome().success();
    }
    assert!(disk(&world, "box").blocks() * 512 < 100 << 20, "it takes what is written");
    in_quarantine(&world);
}

fn in_quarantine(world: &World) {
    world.microagent(["quarantine", "--reason", "x", "box"]).outcome().success();
    for words in [&["resize", "box", "--size", "200g"][..], &["clone", "box", "other"]] {
        let error = world.microagent(words).outcome().error(1);
        assert!(error.contains("quarantined") && error.contains("--release"), "{error}");
    }
    assert!(!Path::new(&world.home().join("workspaces/other")).exists());
}

#[test]
fn what_a_guest_frees_the_host_has_again() {
    const MANY: u64 = 96 << 20;
    const FEW: u64 = 24 << 20;
    let world = World::own().warm_machine();
    let image = world.home().join("users.ext4");
    std::fs::write(&image, vec![0; 160 << 20]).unwrap();
    let made = Command::new("/sbin/mkfs.ext4").args(["-q", "-F", "-E", "nodiscard"]).arg(&image).status();
    assert!(made.unwrap().success());
    let whole = std::fs::metadata(&image).unwrap().blocks();
    let mount = format!("{}:/users", image.display());
    let words = ["-d", "--name", "box", "--network", "isolated", "-v", "data:/data", "-v", &mount];
    world.run(words.into_iter().chain(["busybox", "sleep", "1000"])).outcome().success();
    let allocated = || {
        let volume = std::fs::metadata(world.home().join("volumes/data/disk.ext4")).unwrap();
        [disk(&world, "box").blocks() * 512, volume.blocks() * 512]
    };
    in_guest(
        &world,
        "box",
        "for at in / /data /users; do head -c 100000000 /dev/urandom > $at/big; done; sync",
    );
    assert!(allocated().iter().all(|bytes| *bytes > MANY), "{:?}", allocated());
    in_guest(&world, "box", "rm /big /data/big /users/big; echo kept > /data/file; sync");
    eventually("the blocks are given back", || allocated().iter().all(|bytes| *bytes < FEW));
    // What is freed last is given back on the way down.
    in_guest(&world, "box", "head -c 100000000 /dev/urandom > /big; sync; rm /big");
    world.microagent(["halt", "box"]).outcome().success();
    assert!(allocated().iter().all(|bytes| *bytes < FEW), "{:?}", allocated());
    assert_sound(&world, "box");
    let users = std::fs::metadata(&image).unwrap().blocks();
    assert!(users >= whole, "a file of the user's keeps its blocks: {whole} before, {users} now");
}
