//! Exit codes: the command's own, and those that say why there is none.

use std::time::Duration;

use microagent_tests::World;

#[test]
fn the_commands_code_is_the_runs() {
    let world = World::shared();
    for code in [0, 1, 42, 255] {
        world.script(&format!("exit {code}")).outcome().output(code);
    }
}

#[test]
fn death_by_a_signal_is_128_and_its_number() {
    World::shared().script("kill -9 $$").outcome().output(137);
    World::shared().script("kill -SEGV $$").outcome().output(139);
}

#[test]
fn a_command_that_is_not_in_the_image_is_127() {
    let world = World::shared();
    let error = world.run(["busybox", "nosuch"]).outcome().error(127);
    assert!(error.contains("`nosuch`: not found in the image"), "{error}");
    world.run(["busybox", "/no/such"]).outcome().output(127);
}

#[test]
fn what_cannot_be_invoked_is_126() {
    let world = World::shared();
    for file in ["/etc/passwd", "/etc"] {
        let error = world.run(["busybox", file]).outcome().error(126);
        assert!(error.contains(file), "{error}");
    }
}

#[test]
fn a_command_that_takes_too_long_is_124() {
    let world = World::shared();
    let outcome = world.run(["--timeout", "2", "busybox", "sleep", "600"]).outcome();
    let error = outcome.error(124);
    assert!(error.contains("--timeout"), "{error}");
    assert!(outcome.elapsed > Duration::from_secs(2), "{:?}", outcome.elapsed);
}

#[test]
fn a_command_whose_time_is_up_is_asked_first() {
    let world = World::shared();
    let script = "trap 'echo asked; exit 0' USR1; while :; do sleep 0.1; done";
    let call = world.run(["--timeout", "2", "--stop-signal", "USR1", "busybox", "sh", "-c", script]);
    let outcome = call.outcome();
    outcome.error(124);
    assert_eq!(outcome.stdout, b"asked\n");
}

#[test]
fn an_image_names_the_signal_that_asks_its_command_to_end() {
    let world = World::shared();
    let script = "trap 'echo asked; exit 0' QUIT; trap '' TERM; while :; do sleep 0.1; done";
    let call = world.run(["--timeout", "2", "--entrypoint", "/bin/sh", "configured", "-c", script]);
    assert_eq!(call.outcome().stdout, b"asked\n");
}

#[test]
fn a_command_that_does_not_want_to_end_is_ended() {
    let world = World::shared();
    let script = "trap '' TERM; while :; do sleep 0.1; done";
    let call = world.run(["--timeout", "1", "--stop-timeout", "1", "busybox", "sh", "-c", script]);
    call.outcome().error(124);
}

#[test]
fn a_command_in_time_is_not_ended() {
    let world = World::shared();
    world.run(["--timeout", "1m", "busybox", "sh", "-c", "exit 3"]).outcome().output(3);
}

#[test]
fn mistakes_in_a_run_are_125() {
    let world = World::shared();
    world.run(["--no-such-flag", "busybox"]).outcome().output(125);
    world.run(["--cpus", "0", "busybox"]).outcome().output(125);
    world.microagent(["run"]).outcome().output(125);
    let home = world.home().to_str().unwrap();
    world.microagent(["--home", home, "run", "--no-such-flag"]).outcome().output(125);
}

#[test]
fn mistakes_elsewhere_are_2() {
    let world = World::shared();
    world.microagent(["nosuch"]).outcome().output(2);
    world.microagent(["images", "--no-such-flag"]).outcome().output(2);
}

#[test]
fn an_image_that_is_not_there_is_125_with_advice() {
    let world = World::shared();
    let error = world.run(["--pull", "never", "nosuch", "true"]).outcome().error(125);
    assert!(error.contains("image `nosuch") && error.contains("hint: "), "{error}");
    assert!(error.contains("microagent pull"), "{error}");
}

#[test]
fn without_a_kernel_the_command_that_installs_one_is_named() {
    let world = World::fresh();
    let archive = world.busybox_archive();
    world.microagent(["load", "--name", "busybox"]).input_from(archive).outcome().success();
    let error = world.run(["busybox", "true"]).outcome().error(125);
    assert!(error.contains("microagent kernel install"), "{error}");
}
