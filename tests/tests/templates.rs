//! Templates: a run makes one for those that follow, and nobody notices anything but the time.

use std::time::Duration;

use microagent_tests::{HostProcess, World, processes_of, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(90);

fn templates(world: &World) -> Vec<Value> {
    let listed = world.microagent(["template", "list", "--json"]).outcome().success();
    serde_json::from_str(&listed).unwrap()
}

fn run(world: &World) {
    let call = world.run(["--templates", "8g", "busybox", "echo", "hello"]);
    assert_eq!(call.outcome().success(), "hello\n");
}

/// Makes a template and returns its key.
fn warm(world: &World) -> String {
    let call = world.microagent(["template", "warm", "--templates", "8g", "busybox"]);
    call.outcome().success().trim().to_owned()
}

#[test]
fn a_run_makes_a_template_and_the_next_starts_from_it() {
    let world = World::own();
    run(&world);
    wait_until(PATIENCE, || processes_of(world.home()));
    let [made] = templates(&world).try_into().unwrap();
    run(&world);
    let [used] = templates(&world).try_into().unwrap();
    assert_eq!(made["key"], used["key"]);
    assert_ne!(made["used_at"], used["used_at"]);
    assert_eq!(processes_of(world.home()), []);
}

#[test]
fn a_template_whose_making_was_killed_is_made_again() {
    let world = World::own();
    run(&world);
    for process in processes_of(world.home()) {
        kill(&process);
    }
    wait_until(Duration::from_secs(5), || processes_of(world.home()));
    assert_eq!(templates(&world), Vec::<Value>::new());
    warm(&world);
    assert_eq!(templates(&world).len(), 1);
    let unfinished = std::fs::read_dir(world.home().join("tmp")).unwrap().count();
    assert_eq!(unfinished, 0);
}

fn kill(process: &HostProcess) {
    if let Some(pid) = Pid::from_raw(process.pid) {
        // It may have ended with another one.
        let _ = kill_process(pid, Signal::KILL);
    }
}

#[test]
fn a_damaged_template_costs_a_boot_and_no_more() {
    for part in ["memory", "state", "disk"] {
        let world = World::own();
        let path = world.home().join("templates").join(warm(&world)).join(part);
        std::fs::File::options().write(true).open(path).unwrap().set_len(1000).unwrap();
        run(&world);
        wait_until(PATIENCE, || processes_of(world.home()));
    }
}

#[test]
fn templates_are_deleted_by_key() {
    let world = World::own();
    let key = warm(&world);
    world.microagent(["template", "delete", &key]).outcome().success();
    assert_eq!(templates(&world), Vec::<Value>::new());
    let error = world.microagent(["template", "delete", &key]).outcome().error(1);
    assert!(error.contains("hint:"), "{error}");
}
