//! What is kept, and what nobody needs any more.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use microagent_tests::World;
use serde_json::Value;

#[test]
fn the_parts_add_up_to_what_du_says() {
    let world = World::own();
    world.microagent(["create", "--name", "box", "--image", "busybox", "true"]).outcome().success();
    world.microagent(["volume", "create", "data"]).outcome().success();
    let parts: Vec<Value> =
        serde_json::from_str(&world.microagent(["df", "--json"]).outcome().success()).unwrap();
    let sum: u64 = parts.iter().map(|part| part["allocated"].as_u64().unwrap()).sum();
    assert_eq!(sum, du(world.home()));
    let of = |kind: &str| parts.iter().find(|part| part["kind"] == kind).unwrap().clone();
    assert_eq!((&of("workspaces")["count"], &of("volumes")["count"]), (&1.into(), &1.into()));
    assert!(of("images")["allocated"].as_u64().unwrap() > 1 << 20);
    assert_eq!(of("images")["allocated"], du(&world.home().join("images")));
    assert!(world.microagent(["df"]).outcome().success().contains("RECLAIMABLE"));
}

#[test]
fn what_is_needed_stays_and_the_rest_goes_when_it_is_told() {
    let world = World::own();
    world.microagent(["create", "--name", "box", "--image", "busybox", "true"]).outcome().success();
    let rootfs = world.home().join("rootfs");
    let unneeded = rootfs.join(format!("{}.erofs", "0".repeat(64)));
    std::fs::write(&unneeded, vec![1; 1 << 20]).unwrap();
    let old = SystemTime::now() - Duration::from_secs(3600);
    for entry in std::fs::read_dir(&rootfs).unwrap().flatten() {
        std::fs::File::options().write(true).open(entry.path()).unwrap().set_modified(old).unwrap();
    }
    let before = std::fs::read_dir(&rootfs).unwrap().count();
    let refused = world.microagent(["prune"]).outcome();
    let error = refused.error(2);
    assert!(error.contains("root file systems") && error.contains("--yes"), "{error}");
    assert!(unneeded.metadata().unwrap().size() > 0);
    assert!(world.microagent(["prune", "--yes"]).outcome().success().starts_with("freed 1.0 MB"));
    assert_eq!(std::fs::read_dir(&rootfs).unwrap().count(), before - 1);
    assert_eq!(world.microagent(["prune", "--yes"]).outcome().success(), "freed 0 B\n");
    assert_eq!(world.microagent(["list", "-q"]).outcome().success(), "box\n");
    world.microagent(["volume", "create", "data"]).outcome().success();
    world.microagent(["prune", "--yes", "--workspaces"]).outcome().success();
    assert_eq!(world.microagent(["volume", "list", "-q"]).outcome().success(), "data\n");
    world.microagent(["prune", "--yes", "--volumes"]).outcome().success();
    assert_eq!(world.microagent(["volume", "list", "-q"]).outcome().success(), "");
    assert_eq!(world.microagent(["list", "-q"]).outcome().success(), "");
}

#[test]
fn blobs_that_no_image_has_are_what_du_says_and_go() {
    let world = World::own();
    let images = world.home().join("images");
    let old = SystemTime::now() - Duration::from_secs(3600);
    for (name, size) in
        [("blobs/sha256/".to_owned() + &"0".repeat(64), 300_000), ("ingest/blob-x".into(), 5_000)]
    {
        std::fs::write(images.join(&name), vec![1; size]).unwrap();
        std::fs::File::options().write(true).open(images.join(&name)).unwrap().set_modified(old).unwrap();
    }
    let before = du(&images);
    let parts = world.microagent(["df", "--json"]).outcome().success();
    let parts: Vec<Value> = serde_json::from_str(&parts).unwrap();
    let part = parts.iter().find(|part| part["kind"] == "images").unwrap().clone();
    let refused = world.microagent(["prune"]).outcome();
    let error = refused.error(2);
    assert!(error.contains("blob sha256:0000") && error.contains("blob-x"), "{error}");
    let pruned: Value =
        serde_json::from_str(&world.microagent(["prune", "--yes", "--json"]).outcome().success()).unwrap();
    assert_eq!(pruned["removed"].as_array().unwrap().len(), 2, "{pruned}");
    assert_eq!(pruned["freed"], part["reclaimable"]);
    assert_eq!(before - du(&images), part["reclaimable"].as_u64().unwrap());
    world.microagent(["image", "verify"]).outcome().success();
    assert_eq!(world.microagent(["run", "busybox", "echo", "whole"]).outcome().success(), "whole\n");
}

/// What `du` says that a tree takes, in bytes.
fn du(path: &std::path::Path) -> u64 {
    let du = std::process::Command::new("du").args(["-s", "--block-size=1"]).arg(path).output().unwrap();
    String::from_utf8_lossy(&du.stdout).split_whitespace().next().unwrap().parse().unwrap()
}
