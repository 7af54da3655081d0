//! Commands in a workspace that runs.

use std::time::Duration;

use microagent_tests::{World, peak_memory};
use rustix::process::Signal;
use serde_json::Value;

use super::idle;

#[test]
fn streams_and_codes_are_the_commands_own() {
    let world = idle();
    let exec = |words: &[&str]| world.microagent(["exec", "box", "--"]).args(words);
    let outcome = exec(&["sh", "-c", "echo out; echo err >&2; exit 7"]).outcome();
    assert_eq!(outcome.output(7), "out\n");
    assert_eq!(String::from_utf8_lossy(&outcome.stderr), "err\n");
    assert_eq!(exec(&["sh", "-c", "kill -9 $$"]).outcome().code(), 137);
    assert!(exec(&["nothere"]).outcome().error(127).contains("`nothere`: not found"));
    assert!(exec(&["/etc"]).outcome().error(126).contains("not executable"));
    let timeout = world.microagent(["exec", "--timeout", "0.5", "box", "sleep", "100"]).outcome();
    assert!(timeout.error(124).contains("--timeout"));
    let error = world.microagent(["exec", "nothere", "true"]).outcome().error(125);
    assert!(error.contains("no workspace `nothere`") && error.contains("hint:"), "{error}");
}

#[test]
fn the_environment_is_the_services_and_what_is_typed_over_it() {
    let world = idle();
    let flags = ["exec", "-e", "TYPED=yes", "-w", "/tmp", "-u", "12:34", "box"];
    let said = world.microagent(flags).args(["sh", "-c", "echo $FROM $TYPED $(pwd) $(id -u) $(id -g)"]);
    assert_eq!(said.outcome().success(), "service yes /tmp 12 34\n");
    let error = world.microagent(["exec", "-w", "tmp", "box", "true"]).outcome().error(125);
    assert!(error.contains("absolute"), "{error}");
}

#[test]
fn bytes_go_through_both_ways_unchanged() {
    let world = idle();
    let bytes: Vec<u8> =
        (0..8 << 20_u32).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let outcome = world.microagent(["exec", "-i", "box", "cat"]).bytes(bytes.clone()).outcome();
    assert_eq!(outcome.code(), 0);
    assert!(outcome.stdout == bytes, "{} bytes of {}", outcome.stdout.len(), bytes.len());
    let counted = world.microagent(["exec", "box", "wc", "-c"]).outcome();
    assert_eq!(counted.success(), "0\n", "without -i there is no input");
}

#[test]
fn a_reader_that_stalls_holds_up_nobody_and_costs_little() {
    let world = idle();
    let (reader, writer) = std::io::pipe().unwrap();
    let stalled = world.microagent(["exec", "box", "cat", "/dev/zero"]).output_to(writer).start();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(world.microagent(["exec", "box", "echo", "on"]).outcome().success(), "on\n");
    let status = world.microagent(["status", "--json", "box"]).outcome().success();
    let status: Vec<Value> = serde_json::from_str(&status).unwrap();
    let supervisor = i32::try_from(status[0]["supervisor_pid"].as_u64().unwrap()).unwrap();
    for pid in [stalled.pid(), rustix::process::Pid::from_raw(supervisor).unwrap()] {
        assert!(peak_memory(pid).unwrap() < 64 << 20);
    }
    assert_eq!(world.microagent(["halt", "box"]).outcome().success(), "box\n");
    drop(reader);
}

#[test]
fn a_command_ends_with_its_client() {
    let world = idle();
    let left = || {
        world.microagent(["exec", "box", "sh", "-c", "ps | grep -q '[s]leep 777'"]).outcome().status.success()
    };
    for signal in [Signal::KILL, Signal::TERM] {
        let mut client = world.microagent(["exec", "box", "sh", "-c", "echo up; sleep 777; true"]).start();
        client.wait_for("up");
        assert!(left());
        client.signal(signal);
        super::super::workspaces::eventually("it ends", || !left());
    }
    world.microagent(["exec", "-d", "box", "sleep", "777"]).outcome().success();
    std::thread::sleep(Duration::from_secs(3));
    assert!(left(), "what is detached stays");
    assert!(world.microagent(["exec", "-d", "box", "nothere"]).outcome().error(125).contains("not found"));
}

#[test]
fn the_structured_result_says_everything() {
    let world = idle();
    let exec = |flags: &[&str], words: &[&str], code| -> Value {
        let call = world.microagent(["exec", "--json"]).args(flags).args(["box", "--"]).args(words);
        serde_json::from_str(&call.outcome().output(code)).unwrap()
    };
    let exited = exec(&[], &["sh", "-c", "echo out; echo err >&2; exit 3"], 3);
    assert_eq!((&exited["status"], &exited["exit_code"]), (&"exited".into(), &3.into()));
    assert_eq!((&exited["stdout"], &exited["stderr"]), (&"out\n".into(), &"err\n".into()));
    assert!(
        exited["duration_ms"].is_u64()
            && exited["started_at"].is_string()
            && exited["finished_at"].is_string()
    );
    let signaled = exec(&[], &["sh", "-c", "kill -15 $$"], 143);
    assert_eq!((&signaled["status"], &signaled["signal"]), (&"signaled".into(), &15.into()));
    assert_eq!(exec(&["--timeout", "0.5"], &["sleep", "9"], 124)["status"], "timeout");
    let missing = exec(&[], &["nothere"], 127);
    assert_eq!(missing["status"], "failed_to_start");
    assert!(missing["reason"].as_str().unwrap().contains("nothere"));
    let binary = exec(&[], &["printf", "\\377"], 0);
    assert_eq!((&binary["stdout"], &binary["stdout_encoding"]), (&"/w==".into(), &"base64".into()));
    let long = exec(&["--capture", "10"], &["seq", "1000"], 0);
    assert_eq!((&long["stdout"], &long["stdout_truncated"]), (&"1\n2\n3\n4\n5\n".into(), &true.into()));
}

#[test]
fn hundreds_at_once_work_and_more_are_refused() {
    let world = idle();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let hands: Vec<_> = (0..40)
            .map(|hand: u32| {
                let world = &world;
                scope.spawn(move || {
                    (0..5)
                        .map(|_| {
                            world.microagent(["exec", "box", "echo", &hand.to_string()]).outcome().success()
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        hands.into_iter().map(|hand| hand.join().unwrap()).collect()
    });
    for (hand, said) in outcomes.iter().enumerate() {
        assert!(said.iter().all(|line| *line == format!("{hand}\n")));
    }
    let script = "for n in $(seq 350); do :; done; echo ok";
    assert_eq!(world.microagent(["exec", "box", "sh", "-c", script]).outcome().success(), "ok\n");
    for _ in 0..299 {
        world.microagent(["exec", "-d", "box", "sleep", "1000"]).outcome().success();
    }
    let error = world.microagent(["exec", "box", "true"]).outcome().error(125);
    assert!(error.contains("300 run in this guest already"), "{error}");
    world.microagent(["kill", "box"]).outcome().success();
}

#[test]
fn a_workspace_that_does_not_run_says_what_to_do() {
    let world = idle();
    world.microagent(["pause", "box"]).outcome().success();
    let error = world.microagent(["exec", "box", "true"]).outcome().error(125);
    assert!(error.contains("it is paused") && error.contains("microagent resume box"), "{error}");
    world.microagent(["quarantine", "--reason", "x", "box"]).outcome().success();
    let error = world.microagent(["exec", "box", "true"]).outcome().error(125);
    assert!(error.contains("it is quarantined"), "{error}");
    world.microagent(["quarantine", "--release", "--reason", "x", "box"]).outcome().success();
    let error = world.microagent(["exec", "box", "true"]).outcome().error(125);
    assert!(error.contains("it is halted") && error.contains("microagent start box"), "{error}");
}

#[test]
fn a_terminal_has_a_size_that_follows_and_jobs() {
    let world: World = idle();
    let mut terminal = world.microagent(["exec", "-it", "box", "sh"]).on_terminal(31, 91);
    terminal.expect("#");
    terminal.send(b"stty size\n");
    terminal.expect("31 91");
    terminal.resize(41, 101);
    terminal.send(b"sleep 0.5; stty size\n");
    terminal.expect("41 101");
    terminal.send(b"sleep 1000\n");
    std::thread::sleep(Duration::from_millis(500));
    terminal.send(b"\x1a");
    terminal.send(b"jobs\n");
    terminal.expect("Stopped");
    terminal.send(b"kill -9 %1\n");
    // A shell that knows of a stopped job wants to be told twice.
    terminal.send(b"exit 5\n");
    terminal.send(b"exit 5\n");
    assert_eq!(terminal.wait().code(), Some(5));
}
