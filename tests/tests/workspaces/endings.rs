//! Halt, stop and kill are three things.

use microagent_tests::World;

use super::{SERVICE, eventually, said, started, state, status};

/// A service that does not end when it is asked to.
const STUBBORN: &str = "trap '' TERM; echo up; while :; do sleep 0.1; done";

fn up(world: &World, line: &str) {
    started(world, "box", line);
    eventually("it is up", || said(world, "box").contains("up"));
}

#[test]
fn halt_lets_the_service_end_and_leaves_a_clean_disk() {
    let world = World::own().warm_machine();
    up(&world, SERVICE);
    world.microagent(["halt", "box"]).outcome().success();
    assert!(said(&world, "box").contains("bye"));
    let document = status(&world, "box");
    assert_eq!(document["state"], "halted");
    assert_eq!(document["last_end"]["exit"]["code"], 0);
    // Its superblock says so: at offset 58 the state is 1 for a file system that was unmounted, and at 96 the
    // flag 4 asks for recovery; Documentation/filesystems/ext4/super.rst.
    let mut superblock = [0; 1024];
    let disk = std::fs::File::open(world.home().join("workspaces/box/disk.ext4")).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&disk, &mut superblock, 1024).unwrap();
    assert_eq!((superblock[58] & 1, superblock[96] & 4), (1, 0));
    let again = world.microagent(["halt", "box"]).outcome();
    assert!(again.error(0).contains("down already"));
}

#[test]
fn halt_ends_a_service_that_does_not_want_to() {
    let world = World::own().warm_machine();
    world
        .run(["-d", "--name", "box", "--stop-timeout", "1", "busybox", "sh", "-c", STUBBORN])
        .outcome()
        .success();
    eventually("it is up", || said(&world, "box").contains("up"));
    world.microagent(["halt", "box"]).outcome().success();
    let document = status(&world, "box");
    assert_eq!((&document["state"], &document["last_end"]["exit"]["signal"]), (&"halted".into(), &9.into()));
}

#[test]
fn stop_asks_and_never_escalates() {
    let world = World::own().warm_machine();
    up(&world, STUBBORN);
    let error = world.microagent(["stop", "--timeout", "1", "box"]).outcome().error(1);
    assert!(error.contains("still up") && error.contains("microagent kill box"), "{error}");
    assert_eq!(state(&world, "box"), "running");
    world.microagent(["kill", "box"]).outcome().success();
    assert_eq!(state(&world, "box"), "stopped");
    world.microagent(["start", "box"]).outcome().success();
    assert_eq!(state(&world, "box"), "running");
}

#[test]
fn stop_ends_a_service_that_listens() {
    let world = World::own().warm_machine();
    up(&world, SERVICE);
    world.microagent(["stop", "box"]).outcome().success();
    assert_eq!(state(&world, "box"), "stopped");
    assert!(said(&world, "box").contains("bye"));
}

#[test]
fn a_signal_only_tells_the_service_something() {
    let world = World::own().warm_machine();
    up(&world, "trap 'echo hup' HUP; echo up; while :; do sleep 0.1; done");
    world.microagent(["kill", "--signal", "HUP", "box"]).outcome().success();
    eventually("it hears", || said(&world, "box").contains("hup"));
    assert_eq!(state(&world, "box"), "running");
}

#[test]
fn a_service_that_ends_takes_its_machine_along_and_leaves_its_code() {
    let world = World::own().warm_machine();
    for (code, expected) in [("0", "stopped"), ("3", "failed")] {
        let name = format!("ends-{code}");
        started(&world, &name, &format!("sleep 1; exit {code}"));
        assert_eq!(world.microagent(["wait", &name]).outcome().success(), format!("{code}\n"));
        assert_eq!(state(&world, &name), expected);
        assert_eq!(world.microagent(["wait", &name]).outcome().success(), format!("{code}\n"));
    }
}

#[test]
fn a_machine_that_is_switched_off_from_inside_is_stopped() {
    let world = World::own().warm_machine();
    started(&world, "box", "echo up; kill -USR2 1; sleep 1000");
    eventually("it goes off", || state(&world, "box") == "stopped");
    world.microagent(["start", "box"]).outcome().success();
}

#[test]
fn a_service_that_cannot_start_is_told() {
    let world = World::own().warm_machine();
    let call = world.run(["-d", "--name", "box", "busybox", "nothere"]);
    let error = call.outcome().error(125);
    assert!(error.contains("`box`") && error.contains("`nothere`: not found"), "{error}");
    assert_eq!(state(&world, "box"), "failed");
    let error = world.microagent(["start", "box"]).outcome().error(1);
    assert!(error.contains("not found"), "{error}");
}

#[test]
fn a_service_that_never_stops_speaking_can_be_ended() {
    let world = World::own().warm_machine();
    started(&world, "box", "trap 'exit 0' TERM; yes & while :; do echo loud; done");
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(world.microagent(["exec", "box", "echo", "heard"]).outcome().success(), "heard\n");
    world.microagent(["halt", "box"]).outcome().success();
    assert_eq!(state(&world, "box"), "halted");
    let logs = world.home().join("workspaces/box/logs");
    let sizes = std::fs::read_dir(logs).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
    assert!(sizes.sum::<u64>() <= 48 << 20, "the log is bounded");
}

#[test]
fn who_waits_is_told_the_end_for_good_also_across_restarts() {
    let world = World::own().warm_machine();
    let flags =
        ["-d", "--name", "box", "--restart", "on-failure:2", "busybox", "sh", "-c", "sleep 0.5; exit 9"];
    world.run(flags).outcome().success();
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(200));
            world.microagent(["wait", "box"]).start()
        })
        .collect();
    for waiting in waiting {
        assert_eq!(waiting.wait().success(), "9\n");
    }
    assert_eq!(status(&world, "box")["restarts"], 2);
}
