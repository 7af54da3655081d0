//! Spares: a run may find its machine waiting, and notices nothing but the time.

use std::time::Duration;

use microagent_tests::{HostProcess, Invocation, World, processes_of, wait_until};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(60);
const IN_A_SPARE: &str = "starting in a spare";

/// A run that may start in a spare, that leaves one behind, and that says how it starts.
fn run<const N: usize>(world: &World, command: [&str; N]) -> Invocation {
    let words = ["-v", "--spares", "1", "--spare-time", "20", "run", "busybox"];
    world.microagent(words.iter().chain(&command)).env("MICROAGENT_TEMPLATES", "8g")
}

fn with_a_template() -> World {
    let world = World::own().warm();
    world.microagent(["template", "warm", "--templates", "8g", "busybox"]).outcome().success();
    world
}

fn wait_for_spare(world: &World) {
    let spares = world.home().join("spares");
    wait_until(PATIENCE, || {
        let mut names = std::fs::read_dir(&spares).unwrap().flatten().map(|entry| entry.file_name());
        let waits = names.any(|name| name.to_string_lossy().ends_with(".sock"));
        if waits { Vec::new() } else { vec!["no spare"] }
    });
}

fn wait_for_nobody(world: &World) {
    wait_until(PATIENCE, || processes_of(world.home()));
}

fn named(processes: &[HostProcess], part: &str) -> Vec<Pid> {
    let pids = processes.iter().filter(|process| process.name.contains(part));
    pids.filter_map(|process| Pid::from_raw(process.pid)).collect()
}

/// What tells one machine from another, a line each.
const IDENTITY: [&str; 3] = [
    "sh",
    "-c",
    "cat /proc/sys/kernel/random/boot_id /etc/machine-id /etc/hostname; \
     head -c 16 /dev/urandom | hexdump -e '16/1 \"%02x\"'; echo; mktemp; find /tmp /dev/shm -type f; echo x > /tmp/mark",
];

#[test]
fn a_run_starts_in_the_spare_that_the_one_before_left_and_shares_nothing_with_it() {
    let world = with_a_template();
    run(&world, ["true"]).outcome().success();
    let mut seen: Vec<Vec<String>> = Vec::new();
    for _ in 0..3 {
        wait_for_spare(&world);
        let outcome = run(&world, IDENTITY).outcome();
        assert!(String::from_utf8_lossy(&outcome.stderr).contains(IN_A_SPARE), "{outcome:?}");
        let identity: Vec<_> = outcome.success().lines().map(str::to_owned).collect();
        assert_eq!(identity.len(), 6, "no file of another run: {identity:?}");
        for earlier in &seen {
            for (own, other) in identity[..5].iter().zip(earlier) {
                assert_ne!(own, other);
            }
        }
        seen.push(identity);
    }
    wait_for_nobody(&world);
}

#[test]
fn of_two_runs_one_has_the_spare_and_both_succeed() {
    let world = with_a_template();
    run(&world, ["true"]).outcome().success();
    wait_for_spare(&world);
    let both = [run(&world, ["hostname"]).start(), run(&world, ["hostname"]).start()];
    let [one, other] = both.map(microagent_tests::Running::wait);
    assert_ne!(one.success(), other.success());
    wait_for_nobody(&world);
}

#[test]
fn the_machine_of_a_run_that_is_killed_ends_though_a_keeper_has_it() {
    let world = with_a_template();
    run(&world, ["true"]).outcome().success();
    wait_for_spare(&world);
    let mut running = run(&world, ["sh", "-c", "echo started; sleep 1000"]).start();
    running.wait_for("started");
    running.signal(Signal::KILL);
    running.wait();
    // What is left ends by itself: the keeper of this machine at once, the next spare in its time.
    wait_for_nobody(&world);
}

#[test]
fn a_run_whose_keeper_is_killed_says_so_and_the_next_one_works() {
    let world = with_a_template();
    run(&world, ["true"]).outcome().success();
    wait_for_spare(&world);
    let mut running = run(&world, ["sh", "-c", "echo started; sleep 1000"]).start();
    running.wait_for("started");
    for keeper in named(&processes_of(world.home()), "spare-keeper") {
        kill_process(keeper, Signal::KILL).unwrap();
    }
    let error = running.wait().error(125);
    assert!(error.contains("the machine ended before the command did"), "{error}");
    run(&world, ["true"]).outcome().success();
    wait_for_nobody(&world);
}

#[test]
fn a_spare_that_was_killed_is_not_missed() {
    let world = with_a_template();
    run(&world, ["true"]).outcome().success();
    wait_for_spare(&world);
    for machine in named(&processes_of(world.home()), "qemu") {
        kill_process(machine, Signal::KILL).unwrap();
    }
    run(&world, ["true"]).outcome().success();
    wait_for_nobody(&world);
    assert_eq!(std::fs::read_dir(world.home().join("spares")).unwrap().count(), 0);
}

#[test]
fn without_spares_nobody_waits() {
    let world = with_a_template();
    world.microagent(["run", "busybox", "true"]).outcome().success();
    wait_until(Duration::from_secs(5), || processes_of(world.home()));
}
