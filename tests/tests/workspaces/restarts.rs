//! Services that start again, and services that are looked after.

use microagent_tests::World;

use super::{eventually, said, state, status};

fn create(world: &World, flags: &[&str], line: &str) {
    let call = world.run(["-d", "--name", "box"]).args(flags).args(["busybox", "sh", "-c", line]);
    call.outcome().success();
}

#[test]
fn a_policy_starts_a_service_again_without_anybody() {
    let world = World::own().warm_machine();
    create(&world, &["--restart", "always"], "echo up; sleep 0.2");
    eventually("it starts three times", || said(&world, "box").matches("up").count() >= 3);
    assert!(status(&world, "box")["restarts"].as_u64().unwrap() >= 2);
    world.microagent(["stop", "box"]).outcome().success();
    let state = state(&world, "box");
    assert!(["stopped", "failed"].contains(&state.as_str()), "{state}");
}

#[test]
fn failures_are_counted() {
    let world = World::own().warm_machine();
    create(&world, &["--restart", "on-failure:2"], "echo up; exit 7");
    assert_eq!(world.microagent(["wait", "box"]).outcome().success(), "7\n");
    assert_eq!(said(&world, "box").matches("up").count(), 3);
    assert_eq!(state(&world, "box"), "failed");
}

#[test]
fn what_ends_well_does_not_start_again_on_failure() {
    let world = World::own().warm_machine();
    create(&world, &["--restart", "on-failure"], "echo up; sleep 0.5");
    assert_eq!(world.microagent(["wait", "box"]).outcome().success(), "0\n");
    assert_eq!(said(&world, "box"), "up\n");
}

#[test]
fn a_machine_that_dies_is_a_failure_and_starts_again() {
    let world = World::own().warm_machine();
    create(&world, &["--restart", "on-failure"], "echo up; sleep 1000");
    eventually("it is up", || said(&world, "box").matches("up").count() == 1);
    let machine = i32::try_from(status(&world, "box")["machine_pid"].as_u64().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(machine).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("it is up again", || said(&world, "box").matches("up").count() == 2);
    world.microagent(["delete", "--force", "box"]).outcome().success();
}

#[test]
fn a_health_check_tells_how_the_service_is() {
    let world = World::own().warm_machine();
    let flags = ["--health-cmd", "test -e /well", "--health-interval", "0.3", "--health-retries", "2"];
    create(&world, &flags, "touch /well; sleep 3; rm /well; sleep 1000");
    let health = || status(&world, "box")["health"].as_str().unwrap_or("none").to_owned();
    eventually("it is well", || health() == "healthy");
    assert!(world.microagent(["ps"]).outcome().success().contains("running (healthy)"));
    eventually("it is not", || health() == "unhealthy");
    let events = world.microagent(["events", "box"]).outcome().success();
    assert!(events.contains("health: healthy") && events.contains("health: unhealthy"), "{events}");
}
