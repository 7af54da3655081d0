//! Signals at any moment: nothing is left, neither processes nor files.

use std::path::PathBuf;
use std::time::Duration;

use microagent_tests::{HostProcess, World, processes_of, wait_until};
use rustix::process::Signal;

const SOON: Duration = Duration::from_secs(2);
const MOMENTS: u64 = 5;

/// Signals runs at moments between 0 and 3 s after their start, the same ones in each call of the test.
fn leaves_nothing(signal: Signal, seed: u64) {
    let world = World::own();
    let before = world.listing();
    for number in 0..MOMENTS {
        let random = (seed * MOMENTS + number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let moment = Duration::from_millis(random % 3000);
        let running = world.run(["busybox", "sleep", "600"]).start();
        std::thread::sleep(moment);
        running.signal(signal);
        let outcome = running.wait();
        let code = outcome.status.code();
        let expected = 128 + signal.as_raw();
        let by_signal = std::os::unix::process::ExitStatusExt::signal(&outcome.status);
        assert!(code == Some(expected) || by_signal == Some(signal.as_raw()), "{moment:?}: {outcome:?}");
        wait_until(SOON, || processes_of(world.home()));
        wait_until(SOON, || new_files(&world, &before));
    }
}

fn new_files(world: &World, before: &[PathBuf]) -> Vec<PathBuf> {
    world.listing().into_iter().filter(|path| !before.contains(path)).collect()
}

#[test]
fn interrupted_runs_leave_nothing() {
    leaves_nothing(Signal::INT, 1);
}

#[test]
fn terminated_runs_leave_nothing() {
    leaves_nothing(Signal::TERM, 2);
}

#[test]
fn runs_whose_terminal_went_away_leave_nothing() {
    leaves_nothing(Signal::HUP, 3);
}

#[test]
fn killed_runs_leave_nothing() {
    leaves_nothing(Signal::KILL, 4);
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
