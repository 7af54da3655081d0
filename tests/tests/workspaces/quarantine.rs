//! A workspace that must not change any more.

use microagent_tests::World;
use rustix::process::{Pid, Signal, kill_process};

use super::{SERVICE, eventually, said, started, state, status};

#[test]
fn a_quarantine_fences_every_verb_and_is_on_record() {
    let world = World::own().warm_machine();
    started(&world, "box", "while :; do echo tick; sleep 0.1; done");
    eventually("it ticks", || said(&world, "box").contains("tick"));
    world.microagent(["quarantine", "--reason", "odd traffic", "box"]).outcome().success();
    assert_eq!(state(&world, "box"), "quarantined");
    let frozen = said(&world, "box");
    for words in [
        &["start"][..],
        &["halt"],
        &["stop"],
        &["kill"],
        &["restart"],
        &["pause"],
        &["resume"],
        &["delete", "--force"],
        &["quarantine", "--reason", "again"],
    ] {
        let error = world.microagent(words).args(["box"]).outcome().error(1);
        assert!(error.contains("quarantined") && error.contains("--release"), "{words:?}: {error}");
    }
    let error = world.microagent(["rename", "box", "other"]).outcome().error(1);
    assert!(error.contains("quarantined"), "{error}");
    assert_eq!(said(&world, "box"), frozen);
    world.microagent(["quarantine", "--release", "--reason", "was nothing", "box"]).outcome().success();
    assert_eq!(state(&world, "box"), "halted");
    let events = world.microagent(["events", "box"]).outcome().success();
    assert!(
        events.contains("quarantined: odd traffic") && events.contains("released: was nothing"),
        "{events}"
    );
    world.microagent(["start", "box"]).outcome().success();
}

#[test]
fn a_quarantine_survives_its_supervisor() {
    let world = World::own().warm_machine();
    started(&world, "box", SERVICE);
    world.microagent(["quarantine", "--reason", "x", "box"]).outcome().success();
    let supervisor = i32::try_from(status(&world, "box")["supervisor_pid"].as_u64().unwrap()).unwrap();
    kill_process(Pid::from_raw(supervisor).unwrap(), Signal::KILL).unwrap();
    eventually("it is gone", || status(&world, "box")["supervisor_pid"].is_null());
    assert_eq!(state(&world, "box"), "quarantined");
    assert!(world.microagent(["start", "box"]).outcome().error(1).contains("quarantined"));
    world.microagent(["quarantine", "--release", "--reason", "y", "box"]).outcome().success();
    assert_eq!(state(&world, "box"), "halted");
}

#[test]
fn a_workspace_at_rest_can_be_fenced_too() {
    let world = World::own();
    world.microagent(["create", "--name", "box", "--image", "busybox", "true"]).outcome().success();
    world.microagent(["quarantine", "--reason", "x", "box"]).outcome().success();
    assert_eq!(state(&world, "box"), "quarantined");
    assert!(world.microagent(["delete", "--yes", "box"]).outcome().error(1).contains("--release"));
    world.microagent(["quarantine", "--release", "--reason", "y", "box"]).outcome().success();
    let error = world.microagent(["quarantine", "--release", "--reason", "y", "box"]).outcome().error(1);
    assert!(error.contains("not quarantined"), "{error}");
}
