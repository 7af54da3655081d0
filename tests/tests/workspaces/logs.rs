//! What a workspace said, as `logs` shows it.

use microagent_tests::World;
use serde_json::Value;

use super::{SERVICE, eventually, said, started};

/// Speaks on both streams and ends.
const SPEAKER: &str = "echo out; echo err >&2; printf 'prompt? '";

fn logs(world: &World, flags: &[&str]) -> (String, String) {
    let outcome = world.microagent(["logs"]).args(flags).args(["box"]).outcome();
    (outcome.success(), String::from_utf8(outcome.stderr).unwrap())
}

#[test]
fn streams_stay_apart_and_survive_restarts() {
    let world = World::own().warm_machine();
    started(&world, "box", SPEAKER);
    world.microagent(["wait", "box"]).outcome().success();
    assert_eq!(logs(&world, &["--stdout"]), ("out\nprompt? ".to_owned(), String::new()));
    assert_eq!(logs(&world, &["--stderr"]), (String::new(), "err\n".to_owned()));
    world.microagent(["start", "box"]).outcome().success();
    world.microagent(["wait", "box"]).outcome().success();
    let (stdout, stderr) = logs(&world, &["--stdout", "--stderr"]);
    // Byte for byte alone, but a line of its own for each start where streams are mixed.
    assert_eq!(said(&world, "box"), "out\nprompt? out\nprompt? ");
    assert_eq!(stdout, "out\nprompt? \nout\nprompt? ");
    assert_eq!(stderr, "err\nerr\n");
    assert_eq!(logs(&world, &["--stdout", "--tail", "1"]).0, "prompt? ");
    assert_eq!(logs(&world, &["--tail", "0"]), (String::new(), String::new()));
}

#[test]
fn any_bytes_come_through() {
    let world = World::own().warm_machine();
    started(&world, "box", r"printf 'a\0b\377\033[1m\r\nend'");
    world.microagent(["wait", "box"]).outcome().success();
    let outcome = world.microagent(["logs", "--stdout", "box"]).outcome();
    assert_eq!(outcome.stdout, b"a\0b\xff\x1b[1m\r\nend");
    let lines = world.microagent(["--json", "logs", "--stdout", "box"]).outcome().success();
    let documents: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(documents[0]["base64"], "YQBi/xtbMW0NCg==");
    assert_eq!(documents[1]["text"], "end");
    assert!(documents.iter().all(|document| document["source"] == "stdout" && document["time"].is_string()));
}

#[test]
fn lines_have_times_and_are_selected_by_them() {
    let world = World::own().warm_machine();
    started(&world, "box", "echo one; sleep 1; echo two");
    world.microagent(["wait", "box"]).outcome().success();
    let shown = logs(&world, &["--stdout", "-t"]).0;
    let times: Vec<_> = shown.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!([times[0].1, times[1].1], ["one", "two"]);
    assert_eq!(times[0].0.len(), "2026-01-31T12:00:00.000000000Z".len());
    assert_eq!(logs(&world, &["--stdout", "--since", times[1].0]).0, "two\n");
    assert_eq!(logs(&world, &["--stdout", "--until", times[1].0]).0, "one\n");
    assert_eq!(logs(&world, &["--stdout", "--since", "1h"]).0, "one\ntwo\n");
    let error = world.microagent(["logs", "--since", "yesterday", "box"]).outcome().error(2);
    assert!(error.contains("`yesterday`"), "{error}");
}

#[test]
fn a_follower_hears_all_until_the_end_also_after_a_rename() {
    let world = World::own().warm_machine();
    started(&world, "box", SERVICE);
    let mut follower = world.microagent(["logs", "-f", "--stdout", "box"]).start();
    follower.wait_for("up");
    world.microagent(["rename", "box", "other"]).outcome().success();
    world.microagent(["stop", "other"]).outcome().success();
    assert_eq!(follower.wait().success(), "up\nbye\n");
    // One that does not run has nothing more to say.
    let outcome = world.microagent(["logs", "-f", "--stdout", "other"]).outcome();
    assert_eq!(outcome.success(), "up\nbye\n");
}

#[test]
fn a_prompt_without_an_end_is_shown_while_it_waits() {
    let world = World::own().warm_machine();
    started(&world, "box", "printf 'login: '; exec sleep 1000");
    eventually("the prompt is there", || said(&world, "box") == "login: ");
    world.microagent(["delete", "--force", "box"]).outcome().success();
}

#[test]
fn a_workspace_that_is_not_there_has_no_log() {
    let world = World::shared();
    let error = world.microagent(["logs", "nosuch"]).outcome().error(1);
    assert!(error.contains("there is no workspace `nosuch`") && error.contains("microagent list"), "{error}");
    let world = World::own();
    world.microagent(["create", "--name", "box", "--image", "busybox", "true"]).outcome().success();
    assert_eq!(logs(&world, &[]), (String::new(), String::new()));
    assert_eq!(logs(&world, &["-f"]), (String::new(), String::new()));
}

#[test]
fn followers_hear_all_from_the_first_byte_to_the_end_while_the_log_is_rotated() {
    const LINES: u32 = 300_000;
    let world = World::own().warm_machine();
    started(&world, "box", &format!("echo up; seq 1 {LINES}; echo bye"));
    let follow = || world.microagent(["logs", "-f", "--stdout", "box"]).start();
    let followers = [follow(), follow(), follow()];
    let numbers: Vec<_> = (1..=LINES).map(|number| number.to_string()).collect();
    let expected = format!("up\n{}\nbye\n", numbers.join("\n"));
    for follower in followers {
        let heard = follower.wait().success();
        // Not shown in full when it fails.
        assert!(heard == expected, "{} of {} lines", heard.lines().count(), LINES + 2);
    }
    let files = fs_err::read_dir(world.home().join("workspaces/box/logs")).unwrap().count();
    assert!(files > 1, "it was rotated");
    // One that does not run has nothing more to say.
    let tail = world.microagent(["logs", "-f", "--stdout", "--tail", "1", "box"]).outcome();
    assert_eq!(tail.success(), "bye\n");
}
