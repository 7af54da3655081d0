//! Signals at any moment: nothing is left, neither processes nor files.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use microagent_tests::{HostProcess, World, processes_of, wait_until};
use rustix::process::Signal;

const SOON: Duration = Duration::from_secs(2);
const MOMENTS: u64 = 5;

/// Signals runs at moments of the first `span` milliseconds, the same ones in each call of the test.
fn leaves_nothing(world: &World, signal: Signal, span: u64) {
    let before = world.listing();
    for number in 1..=MOMENTS {
        let random =
            (number * 64 + u64::from(signal.as_raw().unsigned_abs())).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let moment = Duration::from_millis((random >> 32) % span);
        let running = world.run(["busybox", "sleep", "600"]).start();
        std::thread::sleep(moment);
        running.signal(signal);
        let outcome = running.wait();
        let ends = [outcome.status.code().map(|code| code - 128), outcome.status.signal()];
        assert!(ends.contains(&Some(signal.as_raw())), "{moment:?}: {outcome:?}");
        wait_until(SOON, || processes_of(world.home()));
        wait_until(SOON, || world.new_since(&before));
    }
}

#[test]
fn interrupted_runs_leave_nothing() {
    leaves_nothing(&World::own().warm(), Signal::INT, 1200);
    leaves_nothing(&World::own(), Signal::INT, 3000);
}

#[test]
fn terminated_runs_leave_nothing() {
    leaves_nothing(&World::own().warm(), Signal::TERM, 1200);
    leaves_nothing(&World::own(), Signal::TERM, 3000);
}

#[test]
fn runs_whose_terminal_went_away_leave_nothing() {
    leaves_nothing(&World::own().warm(), Signal::HUP, 1200);
    leaves_nothing(&World::own(), Signal::HUP, 3000);
}

#[test]
fn killed_runs_leave_nothing() {
    leaves_nothing(&World::own().warm(), Signal::KILL, 1200);
    leaves_nothing(&World::own(), Signal::KILL, 3000);
}

#[test]
fn a_signal_is_the_commands_to_handle() {
    let world = World::shared();
    let script = "trap 'echo heard; exit 5' TERM; echo ready; while true; do sleep 0.1; done";
    let mut running = world.script(script).start();
    running.wait_for("ready\n");
    running.signal(Signal::TERM);
    assert_eq!(running.wait().output(5), "ready\nheard\n");
}

#[test]
fn a_command_that_ignores_its_end_is_ended() {
    let world = World::shared();
    let script = "trap '' TERM; echo ready; while true; do sleep 0.1; done";
    let mut running = world.run(["--stop-timeout", "1", "busybox", "sh", "-c", script]).start();
    running.wait_for("ready\n");
    running.signal(Signal::TERM);
    running.wait().output(143);
}

#[test]
fn a_machine_whose_process_is_killed_is_told() {
    let world = World::own();
    let mut running = world.script("echo ready; sleep 600").start();
    running.wait_for("ready\n");
    let is_machine = |process: &HostProcess| process.name.starts_with("qemu");
    let machines: Vec<_> = processes_of(world.home()).into_iter().filter(is_machine).collect();
    assert_eq!(machines.len(), 1, "{machines:?}");
    let pid = rustix::process::Pid::from_raw(machines[0].pid).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    let error = running.wait().error(125);
    assert!(error.contains("its process ended"), "{error}");
}
