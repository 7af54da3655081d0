//! What happened to workspaces, as `events` shows it.

use microagent_tests::World;
use serde_json::Value;

use super::{SERVICE, started};

/// The words of each event, without when and to whom.
fn words(shown: &str) -> Vec<String> {
    shown.lines().map(|line| line.splitn(3, "  ").nth(2).unwrap().trim().to_owned()).collect()
}

#[test]
fn a_life_is_told_and_outlives_the_workspace() {
    let world = World::own().warm_machine();
    started(&world, "box", SERVICE);
    world.microagent(["rename", "box", "other"]).outcome().success();
    world.microagent(["stop", "other"]).outcome().success();
    world.microagent(["delete", "--yes", "other"]).outcome().success();
    let all = words(&world.microagent(["events"]).outcome().success());
    assert_eq!(all.first().unwrap(), "created");
    assert!(all[1].starts_with("started ("), "{all:?}");
    assert!(all.contains(&"renamed to other".to_owned()) && all.contains(&"stopped".to_owned()), "{all:?}");
    assert_eq!(all.last().unwrap(), "deleted");
    let old = words(&world.microagent(["events", "box"]).outcome().success());
    assert_eq!(old.last().unwrap(), "renamed to other");
    let new = words(&world.microagent(["events", "other"]).outcome().success());
    assert_eq!([&new[0], new.last().unwrap()], ["renamed to other", "deleted"]);
    let lines = world.microagent(["--json", "events", "other"]).outcome().success();
    let kinds: Vec<_> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].clone()).collect();
    assert_eq!(kinds[0], "renamed");
    assert_eq!(*kinds.last().unwrap(), "deleted");
}

#[test]
fn a_follower_hears_what_happens_and_ends_when_its_time_is_up() {
    let world = World::own();
    let mut follower = world.microagent(["events", "-f"]).start();
    world.microagent(["create", "--name", "box", "--image", "busybox", "true"]).outcome().success();
    follower.wait_for("created");
    world.microagent(["delete", "--yes", "box"]).outcome().success();
    follower.wait_for("deleted");
    drop(follower);
    let shown = world.microagent(["events", "-f", "--until", "0"]).outcome().success();
    assert_eq!(words(&shown), ["created", "deleted"]);
    assert_eq!(world.microagent(["events", "--until", "1h"]).outcome().success(), "");
    assert_eq!(world.microagent(["events", "nosuch"]).outcome().success(), "");
}
