//! Workspaces: units that outlive their machines.

use std::time::{Duration, Instant};

use microagent_tests::World;
use serde_json::Value;

mod crashes;
mod crowd;
mod damage;
mod disks;
mod durability;
mod endings;
mod events;
mod hosts;
mod life;
mod listing;
mod logs;
mod quarantine;
mod restarts;
mod settings;

/// A service that runs until it is asked to end.
const SERVICE: &str = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done";

/// A workspace `name` with a service that is a shell's line; it is running.
fn started(world: &World, name: &str, line: &str) {
    world.run(["-d", "--name", name, "busybox", "sh", "-c", line]).outcome().success();
}

/// What `status --json` says of a workspace.
fn status(world: &World, name: &str) -> Value {
    let text = world.microagent(["status", "--json", name]).outcome().success();
    let mut all: Vec<Value> = serde_json::from_str(&text).unwrap();
    all.remove(0)
}

fn state(world: &World, name: &str) -> String {
    status(world, name)["state"].as_str().unwrap().to_owned()
}

/// What the service said so far.
fn said(world: &World, name: &str) -> String {
    world.microagent(["logs", "--stdout", name]).outcome().success()
}

/// Waits for something that a machine does in its own time.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "it did not happen: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
