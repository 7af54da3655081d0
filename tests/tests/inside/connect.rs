//! Shells and consoles.

use microagent_tests::World;

use super::idle;

#[test]
fn a_shell_is_left_and_the_workspace_goes_on() {
    let world = idle();
    for keys in [&b"\x1d"[..], b"\x10\x11"] {
        let mut first = world.microagent(["connect", "box"]).on_terminal(24, 80);
        let mut second = world.microagent(["connect", "box"]).on_terminal(24, 80);
        let before = first.mode();
        for terminal in [&mut first, &mut second] {
            terminal.expect("#");
            terminal.send(b"echo $((40 + 2))\n");
            terminal.expect("42");
        }
        first.send(keys);
        first.expect("left box");
        assert_eq!(first.wait().code(), Some(0));
        assert_ne!(before, "", "{before}");
        second.send(b"exit 3\n");
        assert_eq!(second.wait().code(), Some(3));
    }
    assert_eq!(world.microagent(["ps", "-q"]).outcome().success(), "box\n");
}

#[test]
fn lines_are_sent_by_scripts() {
    let world = idle();
    let call = world.microagent(["connect", "--send", "cd /tmp", "--send", "pwd; exit 4", "box"]);
    assert_eq!(call.outcome().output(4), "/tmp\n");
    let error = world.microagent(["connect", "box"]).outcome().error(2);
    assert!(error.contains("no terminal") && error.contains("--send"), "{error}");
}

#[test]
fn the_shell_is_the_accounts_or_the_best_there_is() {
    let world = World::own().warm_machine();
    world.run(["-d", "--name", "deb", "debian:12", "sleep", "1000"]).outcome().success();
    let call = world.microagent(["connect", "--send", "echo $BASH", "deb"]);
    assert_eq!(call.outcome().success(), "/bin/bash\n");
}

#[test]
fn the_console_shows_what_was_said_and_what_is() {
    let world = idle();
    let say = |words: &str| {
        let line = format!("echo {words} > /dev/ttyS0");
        world.microagent(["exec", "box", "sh", "-c", &line]).outcome().success();
    };
    say("early");
    let mut console = world.microagent(["connect", "--console", "box"]).start();
    console.wait_for("early");
    say("late");
    console.wait_for("late");
    world.microagent(["kill", "box"]).outcome().success();
    assert_eq!(console.wait().code(), 0);
}
