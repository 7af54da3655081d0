//! Which workspaces can become an image, and what they are afterwards.

use microagent_tests::{World, processes_of, wait_until};
use rustix::process::Signal;
use serde_json::Value;
use std::time::Duration;

use super::{assert_sound, blob, committed, in_box, names_in};

fn idle() -> World {
    let world = World::own().warm_machine();
    world.run(["-d", "--name", "box", "busybox", "sleep", "100000"]).outcome().success();
    world
}

fn names(world: &World) -> Vec<String> {
    let text = world.microagent(["images", "--json"]).outcome().success();
    let images: Vec<Value> = serde_json::from_str(&text).unwrap();
    images.iter().map(|image| image["image"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn one_that_runs_or_is_in_quarantine_is_refused() {
    let world = idle();
    let error = world.microagent(["commit", "box", "made"]).outcome().error(1);
    assert!(error.contains("cannot commit workspace `box`: it is running"), "{error}");
    assert!(error.contains("microagent halt box"), "{error}");
    world.microagent(["quarantine", "--reason", "x", "box"]).outcome().success();
    let error = world.microagent(["commit", "box", "made"]).outcome().error(1);
    assert!(error.contains("quarantined") && error.contains("--release"), "{error}");
    assert!(!names(&world).contains(&"made:latest".to_owned()));
}

#[test]
fn what_a_machine_needs_in_a_small_image_is_no_change() {
    // It has no /proc, /sys, /dev, and none of the files that are bound over.
    let world = idle();
    world.microagent(["halt", "box"]).outcome().success();
    let started = committed(&world, &["started"]);
    assert_eq!(names_in(&blob(&world, &started["layer"])), ["./"]);
    world.microagent(["delete", "--yes", "box"]).outcome().success();
    world
        .microagent(["create", "--name", "box", "--image", "busybox", "sleep", "100000"])
        .outcome()
        .success();
    let created = committed(&world, &["created"]);
    assert_eq!(created["layer"], started["layer"]);
    assert_eq!(world.run(["created", "echo", "runs"]).outcome().success(), "runs\n");
    world.microagent(["start", "box"]).outcome().success();
    in_box(&world, "echo x > /etc/new; mkdir /tmp/new");
    world.microagent(["halt", "box"]).outcome().success();
    let changed = committed(&world, &["changed"]);
    assert_eq!(names_in(&blob(&world, &changed["layer"])), ["./", "etc/", "etc/new", "tmp/", "tmp/new/"]);
}

#[test]
fn one_that_was_killed_is_read_as_its_journal_says_and_left_clean() {
    let world = idle();
    in_box(&world, "echo kept > /kept; sync; rm /bin/yes; sync");
    world.microagent(["kill", "box"]).outcome().success();
    let made = committed(&world, &["made"]);
    assert_eq!(names_in(&blob(&world, &made["layer"])), ["./", "bin/", "bin/.wh.yes", "kept"]);
    assert_sound(&world, "box");
    assert_eq!(world.run(["made", "cat", "/kept"]).outcome().success(), "kept\n");
    world.microagent(["start", "box"]).outcome().success();
    assert_eq!(in_box(&world, "cat /kept"), "kept\n");
}

#[test]
fn a_name_that_means_something_in_layers_is_refused_and_nothing_is_made() {
    let world = idle();
    in_box(&world, "mkdir /d; touch /d/.wh.x");
    world.microagent(["halt", "box"]).outcome().success();
    let before = names(&world);
    let error = world.microagent(["commit", "box", "made"]).outcome().error(1);
    assert!(error.contains("`d/.wh.x` cannot be in a layer") && error.contains("hint: rename"), "{error}");
    assert_eq!(names(&world), before);
    assert_sound(&world, "box");
    let ingest = world.home().join("images/ingest");
    assert_eq!(std::fs::read_dir(ingest).unwrap().count(), 0);
}

#[test]
fn one_that_is_interrupted_makes_nothing_and_leaves_the_workspace_as_it_was() {
    let world = idle();
    in_box(&world, "head -c 200000000 /dev/urandom > /big; sync");
    world.microagent(["halt", "box"]).outcome().success();
    let running = world.microagent(["commit", "box", "made"]).start();
    // It is at work once a blob is on its way.
    let ingest = world.home().join("images/ingest");
    let at_work = || {
        let blobs = std::fs::read_dir(&ingest).unwrap().flatten();
        blobs.filter_map(|blob| blob.metadata().ok()).any(|blob| blob.len() > 1 << 20)
    };
    super::super::workspaces::eventually("a layer is being made", at_work);
    running.signal(Signal::INT);
    assert_eq!(running.wait().code(), 130);
    wait_until(Duration::from_secs(20), || processes_of(world.home()));
    assert!(!names(&world).contains(&"made:latest".to_owned()));
    assert_eq!(std::fs::read_dir(&ingest).unwrap().count(), 0);
    assert_sound(&world, "box");
    world.microagent(["start", "box"]).outcome().success();
    assert_eq!(in_box(&world, "wc -c < /big"), "200000000\n");
}
