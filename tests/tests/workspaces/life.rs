//! From creation to deletion.

use microagent_tests::{World, processes_of, wait_until};
use std::time::Duration;

use super::{SERVICE, eventually, said, started, state, status};

#[test]
fn a_workspace_keeps_its_disk_from_start_to_start() {
    let world = World::own().warm_machine();
    let service = "cat /count 2>/dev/null; echo again >> /count; sync; echo done; exec sleep 1000";
    let create = world.microagent(["create", "--name", "box", "--image", "busybox", "sh", "-c", service]);
    assert_eq!(create.outcome().success(), "box\n");
    assert_eq!(state(&world, "box"), "created");
    for time in 0..3 {
        assert_eq!(world.microagent(["start", "box"]).outcome().success(), "box\n");
        assert_eq!(state(&world, "box"), "running");
        eventually("it counts", || said(&world, "box").matches("done").count() == time + 1);
        assert_eq!(said(&world, "box").matches("again").count(), time * (time + 1) / 2);
        assert_eq!(world.microagent(["halt", "box"]).outcome().success(), "box\n");
        assert_eq!(state(&world, "box"), "halted");
    }
    assert_eq!(world.microagent(["delete", "--yes", "box"]).outcome().success(), "box\n");
    assert_eq!(world.microagent(["list", "-q"]).outcome().success(), "");
    wait_until(Duration::from_secs(5), || processes_of(world.home()));
}

#[test]
fn a_machine_is_the_same_one_at_every_start() {
    let world = World::own().warm_machine();
    started(&world, "box", "cat /etc/machine-id; hostname; sleep 1000");
    eventually("it speaks", || said(&world, "box").lines().count() == 2);
    world.microagent(["restart", "box"]).outcome().success();
    eventually("it speaks again", || said(&world, "box").lines().count() == 4);
    let said = said(&world, "box");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0..2], lines[2..4]);
    assert_eq!(lines[0], status(&world, "box")["id"]);
    assert_eq!(lines[1], "box");
}

#[test]
fn a_supervisor_outlives_the_command_that_started_it() {
    let world = World::own();
    let mut terminal = world.run(["-d", "--name", "box", "busybox", "sh", "-c", SERVICE]).on_terminal(24, 80);
    // Its terminal hangs up.
    terminal.wait();
    drop(terminal);
    assert_eq!(state(&world, "box"), "running");
    let document = status(&world, "box");
    for key in ["supervisor_pid", "machine_pid"] {
        let pid = document[key].as_u64().unwrap();
        assert!(std::fs::metadata(format!("/proc/{pid}")).is_ok(), "{key}");
    }
    world.microagent(["delete", "--yes", "box"]).outcome().success();
}

#[test]
fn a_workspace_that_runs_can_be_renamed() {
    let world = World::own().warm_machine();
    started(&world, "old", SERVICE);
    world.microagent(["rename", "old", "new"]).outcome().success();
    assert_eq!(state(&world, "new"), "running");
    let error = world.microagent(["status", "old"]).outcome().error(1);
    assert!(error.contains("no workspace `old`") && error.contains("microagent list"), "{error}");
    world.microagent(["halt", "new"]).outcome().success();
    assert_eq!(state(&world, "new"), "halted");
    world.microagent(["create", "--name", "other", "--image", "busybox", "true"]).outcome().success();
    let error = world.microagent(["rename", "new", "other"]).outcome().error(1);
    assert!(error.contains("`other` exists already"), "{error}");
}

#[test]
fn a_deletion_asks_or_is_told() {
    let world = World::own().warm_machine();
    started(&world, "box", SERVICE);
    let error = world.microagent(["delete", "box"]).outcome().error(2);
    assert!(error.contains("--yes") && error.contains("--force"), "{error}");
    let mut terminal = world.microagent(["delete", "box"]).on_terminal(24, 80);
    terminal.expect("[y/N]");
    terminal.send(b"n\n");
    terminal.wait();
    assert_eq!(state(&world, "box"), "running");
    let mut terminal = world.microagent(["delete", "box"]).on_terminal(24, 80);
    terminal.expect("[y/N]");
    terminal.send(b"y\n");
    terminal.wait();
    assert_eq!(world.microagent(["list", "-q"]).outcome().success(), "");
    let again = world.microagent(["rm", "--yes", "box"]).outcome();
    assert!(again.error(0).contains("no such workspace"));
}

#[test]
fn several_names_are_gone_through_to_the_end() {
    let world = World::own();
    for name in ["a", "b"] {
        world.microagent(["create", "--name", name, "--image", "busybox", "true"]).outcome().success();
    }
    let outcome = world.microagent(["delete", "--yes", "a", "nothere", "b"]).outcome();
    assert_eq!(outcome.output(0), "a\nb\n");
    let outcome = world.microagent(["start", "nothere", "x"]).outcome();
    assert_eq!(outcome.error(1).matches("no workspace").count(), 2);
}

#[test]
fn a_pause_freezes_and_a_resume_knows_the_time() {
    let world = World::own().warm_machine();
    started(&world, "box", "while :; do date +%s; sleep 0.2; done");
    eventually("it speaks", || !said(&world, "box").is_empty());
    world.microagent(["pause", "box"]).outcome().success();
    assert_eq!(state(&world, "box"), "paused");
    let frozen = said(&world, "box").lines().count();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(said(&world, "box").lines().count(), frozen);
    for verb in ["halt", "stop", "pause"] {
        let error = world.microagent([verb, "box"]).outcome().error(1);
        assert!(error.contains("it is paused") && error.contains("microagent resume box"), "{error}");
    }
    world.microagent(["resume", "box"]).outcome().success();
    // One line may come before the clock is set.
    eventually("it speaks again", || said(&world, "box").lines().count() > frozen + 2);
    let last: i64 = said(&world, "box").lines().last().unwrap().parse().unwrap();
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    assert!((now - 30..=now + 1).contains(&last), "{last} {now}");
}
