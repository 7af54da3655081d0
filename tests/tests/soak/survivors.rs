//! What is there when the clients are gone: each workspace and volume is sound, and has what was acknowledged.

use std::process::Command;
use std::time::Duration;

use microagent_tests::{World, peak_memory};
use rustix::process::Pid;
use serde_json::Value;

use super::super::workspaces::eventually;
use super::Scene;

const PATIENCE: Duration = Duration::from_secs(180);

/// A supervisor's memory, however long it has been there; debug builds are fat.
const SUPERVISOR: u64 = 96 << 20;

fn call(world: &World, words: &[&str]) -> microagent_tests::Outcome {
    world.microagent(words).deadline(PATIENCE).outcome()
}

fn names(world: &World, words: &[&str]) -> Vec<String> {
    call(world, words).success().lines().map(str::to_owned).collect()
}

fn status(world: &World, name: &str) -> Value {
    let all: Vec<Value> = serde_json::from_str(&call(world, &["status", "--json", name]).success()).unwrap();
    all[0].clone()
}

/// Starts and reads all that survived.
pub(super) fn check(scene: &Scene<'_>) {
    let world = scene.world;
    for name in names(world, &["list", "-q"]) {
        check_workspace(scene, &name);
    }
    for name in names(world, &["volume", "list", "--quiet"]) {
        let mount = format!("{name}:/data:ro");
        let script = "cat /data/identity 2>/dev/null; echo; ls /data";
        let said = call(world, &["run", "-v", &mount, "busybox", "sh", "-c", script]).success();
        let mut lines = said.lines();
        let identity = lines.next().unwrap_or_default().to_owned();
        let found: Vec<&str> = lines.filter(|line| line.contains('-')).collect();
        let missing = scene.ledger.missing(&identity, &found);
        assert!(missing.is_empty(), "{}\nvolume {name} lacks {missing:?}", scene.history);
    }
}

fn check_workspace(scene: &Scene<'_>, name: &str) {
    let world = scene.world;
    eventually(&format!("{name} settles"), || {
        let state = status(world, name)["state"].as_str().unwrap_or_default().to_owned();
        !matches!(&*state, "starting" | "stopping")
    });
    let first: &[&str] = match status(world, name)["state"].as_str() {
        Some("quarantined") => &["quarantine", "--release", "--reason", "x", name],
        Some("paused") => &["resume", name],
        _ => &["status", name],
    };
    call(world, first).success();
    let mut started = call(world, &["start", name]);
    if String::from_utf8_lossy(&started.stderr).contains("is in use") {
        // A copy of it has its volume, as long as that runs.
        for other in names(world, &["list", "-q"]).iter().filter(|other| *other != name) {
            call(world, &["resume", other]);
            call(world, &["halt", other]);
        }
        started = call(world, &["start", name]);
    }
    assert_eq!(started.code(), 0, "{}\n{name}: {}", scene.history, String::from_utf8_lossy(&started.stderr));
    let script = "cat /etc/machine-id; ls /kept 2>/dev/null; true";
    let said = call(world, &["exec", name, "--", "sh", "-c", script]).success();
    let (machine, found) = said.split_once('\n').expect("a machine has an ID");
    let found: Vec<&str> = found.lines().collect();
    let missing = scene.ledger.missing(machine, &found);
    assert!(missing.is_empty(), "{}\nworkspace {name} lacks {missing:?}: {found:?}", scene.history);

    let supervisor = status(world, name)["supervisor_pid"].as_u64().expect("it runs");
    let peak = Pid::from_raw(i32::try_from(supervisor).unwrap()).and_then(peak_memory).expect("it is there");
    assert!(peak < SUPERVISOR, "the supervisor of {name} took {peak} bytes");
    call(world, &["halt", name]).success();
    let disk = world.home().join("workspaces").join(name).join("disk.ext4");
    let checked = Command::new("/sbin/e2fsck").arg("-fn").arg(&disk).output().expect("e2fsprogs is there");
    assert!(checked.status.success(), "{}\n{name}: {checked:?}", scene.history);
}

/// Deletes all of it.
pub(super) fn delete(scene: &Scene<'_>) {
    let world = scene.world;
    for name in names(world, &["list", "-q"]) {
        call(world, &["delete", "--yes", &name]).success();
    }
    for name in names(world, &["volume", "list", "--quiet"]) {
        call(world, &["volume", "delete", "--yes", &name]).success();
    }
    if !names(world, &["images", "-q", "committed"]).is_empty() {
        call(world, &["image", "verify", "committed"]).success();
        call(world, &["rmi", "committed"]).success();
    }
}
