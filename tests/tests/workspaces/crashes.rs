//! A crash at every step of every verb, and what the next command finds.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use microagent_tests::{World, processes_of, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{SERVICE, eventually, started, state, status};

/// Verbs that pass every step there is, on a workspace `box`.
const LIFE: [&[&str]; 24] = [
    &["volume", "create", "data"],
    &["create", "--name", "box", "-v", "data:/data", "--image", "busybox", "sh", "-c", SERVICE],
    &["start", "box"],
    &["pause", "box"],
    &["resume", "box"],
    &["halt", "box"],
    &["start", "box"],
    &["stop", "--timeout", "30", "box"],
    &["start", "box"],
    &["quarantine", "--reason", "x", "box"],
    &["quarantine", "--release", "--reason", "y", "box"],
    &["quarantine", "--reason", "x", "box"],
    &["quarantine", "--release", "--reason", "y", "box"],
    &["start", "box"],
    &["kill", "box"],
    &["resize", "box", "--size", "11g"],
    &["commit", "box", "committed"],
    &["clone", "box", "copy"],
    &["delete", "--yes", "copy"],
    &["rename", "box", "moved"],
    &["rename", "moved", "box"],
    &["delete", "--yes", "box"],
    &["volume", "resize", "data", "--size", "11g"],
    &["volume", "delete", "--yes", "data"],
];

#[test]
fn a_crash_at_any_step_leaves_nothing_half_made() {
    let world = World::own().warm_machine();
    let trace = world.path().join("trace");
    // With room for a volume; else each start would boot.
    world.microagent(["template", "warm", "--disk-slots", "1"]).outcome().success();
    for words in LIFE {
        world.microagent(words).env("MICROAGENT_FAULT_TRACE", &trace).outcome().success();
    }
    let trace = std::fs::read_to_string(trace).unwrap();
    let points: BTreeSet<&str> = trace.lines().collect();
    assert!(points.len() >= 30, "{points:?}");
    for point in &points {
        assert!(crash_at(&world, point), "nothing crashed at {point}");
        recover(&world, point);
    }
}

/// Lives until something crashes at `point`, in the command or in the supervisor that it speaks to.
fn crash_at(world: &World, point: &str) -> bool {
    LIFE.iter().any(|words| {
        let outcome = world.microagent(*words).env("MICROAGENT_FAULT", point).outcome();
        outcome.status.signal() == Some(Signal::ABORT.as_raw()) || !outcome.status.success()
    })
}

/// Whatever crashed: lists are whole, what is there works, and when it is deleted nothing is left.
fn recover(world: &World, point: &str) {
    let text = world.microagent(["list", "--json"]).outcome().success();
    let all: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(all.len() <= 2, "{point}: {text}");
    for found in &all {
        let name = found["name"].as_str().unwrap();
        eventually("its supervisor is gone, or it runs", || {
            status(world, name)["supervisor_pid"].is_null() || state(world, name) == "running"
        });
        if state(world, name) == "quarantined" {
            let release = ["quarantine", "--release", "--reason", "z", name];
            world.microagent(release).outcome().success();
        }
        world.microagent(["start", name]).outcome().success();
        assert_eq!(state(world, name), "running", "{point}");
        world.microagent(["halt", name]).outcome().success();
        world.microagent(["delete", "--yes", name]).outcome().success();
    }
    wait_until(Duration::from_secs(20), || processes_of(world.home()));
    let volumes = world.microagent(["volume", "list", "--quiet"]).outcome().success();
    assert!(matches!(&*volumes, "" | "data\n"), "{point}: {volumes}");
    world.microagent(["volume", "delete", "--yes", "data"]).outcome().success();
    assert!(std::fs::read_dir(world.home().join("volumes")).unwrap().next().is_none(), "{point}");
    // An image that was made is whole; what is only half an image has no name.
    if !world.microagent(["images", "-q", "committed"]).outcome().success().is_empty() {
        world.microagent(["image", "verify", "committed"]).outcome().success();
        world.microagent(["rmi", "committed"]).outcome().success();
    }
    // Whoever works there next removes what a crash left.
    world.microagent(["create", "--name", "next", "--image", "busybox", "true"]).outcome().success();
    world.microagent(["delete", "--yes", "next"]).outcome().success();
    let left: Vec<_> = std::fs::read_dir(world.home().join("tmp")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{point}: {left:?}");
    assert!(std::fs::read_dir(world.home().join("workspaces")).unwrap().next().is_none(), "{point}");
}

#[test]
fn a_supervisor_that_is_killed_takes_its_machine_along() {
    let world = World::own().warm_machine();
    for victim in ["supervisor_pid", "machine_pid"] {
        started(&world, "box", SERVICE);
        let pid = i32::try_from(status(&world, "box")[victim].as_u64().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        eventually("it is down", || state(&world, "box") == "failed");
        wait_until(Duration::from_secs(10), || processes_of(world.home()));
        world.microagent(["start", "box"]).outcome().success();
        assert_eq!(state(&world, "box"), "running");
        let events = world.microagent(["events", "box"]).outcome().success();
        assert!(events.contains("failed: "), "{events}");
        world.microagent(["delete", "--force", "box"]).outcome().success();
    }
}

#[test]
fn a_reboot_of_the_host_is_a_failure_of_what_ran() {
    let world = World::own().warm_machine();
    started(&world, "box", SERVICE);
    let directory = world.home().join("workspaces/box");
    let facts = std::fs::read(directory.join("state.json")).unwrap();
    world.microagent(["kill", "box"]).outcome().success();
    // The record says that it runs, the socket is there, and nobody is behind it.
    std::fs::write(directory.join("state.json"), facts).unwrap();
    drop(std::os::unix::net::UnixListener::bind(directory.join("control.sock")).unwrap());
    assert_eq!(state(&world, "box"), "failed");
    world.microagent(["start", "box"]).outcome().success();
    assert_eq!(state(&world, "box"), "running");
    world.microagent(["delete", "--force", "box"]).outcome().success();
}

#[test]
fn a_supervisor_of_another_release_is_told_apart_and_can_be_ended() {
    let world = World::own().warm_machine();
    let start = world.run(["-d", "--name", "box", "busybox", "sh", "-c", SERVICE]);
    start.env("MICROAGENT_CONTROL_VERSION", "99").outcome().success();
    assert_eq!(state(&world, "box"), "running");
    for words in [&["halt"][..], &["stop"], &["pause"]] {
        let error = world.microagent(words).args(["box"]).outcome().error(1);
        assert!(error.contains("another release") && error.contains("microagent kill box"), "{error}");
    }
    assert!(world.microagent(["exec", "box", "true"]).outcome().error(125).contains("another release"));
    world.microagent(["kill", "box"]).outcome().success();
    assert_eq!(state(&world, "box"), "stopped");
    wait_until(Duration::from_secs(10), || processes_of(world.home()));
    world.microagent(["start", "box"]).outcome().success();
    assert_eq!(state(&world, "box"), "running");
}
