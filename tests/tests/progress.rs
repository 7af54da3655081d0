//! What takes a while shows that it goes on, to people alone; and tables fit their terminals.

use microagent_tests::{Invocation, World};

/// What a terminal of so many columns shows of a call until it ends with 0.
fn shown(call: Invocation, columns: u16) -> String {
    let mut terminal = call.env("TERM", "xterm").on_terminal(24, columns);
    assert_eq!(terminal.wait().code(), Some(0), "{}", terminal.shown());
    terminal.shown()
}

#[test]
fn a_boot_is_shown_on_a_terminal_and_nowhere_else() {
    let world = World::own();
    let boot = || world.microagent(["run", "--cold", "busybox", "true"]);
    let text = shown(boot(), 80);
    assert!(text.contains("booting"), "{text:?}");
    // It is gone afterwards, and there are no colours in it.
    let (_, after) = text.rsplit_once("booting").unwrap();
    assert!(after.contains("\x1b[2K") && !text.contains("\x1b[3"), "{text:?}");
    let quiet = shown(world.microagent(["--quiet", "run", "--cold", "busybox", "true"]), 80);
    assert_eq!(quiet, "");
    let piped = boot().outcome();
    assert_eq!((piped.code(), piped.stdout, piped.stderr), (0, Vec::new(), Vec::new()));
}

#[test]
fn what_is_done_at_once_is_not_shown() {
    let world = World::own();
    world.microagent(["create", "--name", "box", "--image", "busybox", "true"]).outcome().success();
    let text = shown(world.microagent(["halt", "box"]).env("NO_COLOR", "1"), 80);
    assert!(!text.contains('\x1b'), "{text:?}");
}

#[test]
fn tables_fit_narrow_terminals() {
    let world = World::own();
    let name = "a-workspace-with-a-name-of-fifty-characters-or-more";
    world.microagent(["create", "--name", name, "--image", "busybox", "true"]).outcome().success();
    for words in [&["list"][..], &["images"], &["df"], &["volume", "list"], &["kernel", "list"]] {
        for columns in [40, 60, 80] {
            let text = shown(world.microagent(words), columns);
            let longest = text.lines().map(|line| line.trim_end().chars().count()).max().unwrap_or(0);
            assert!(longest <= usize::from(columns), "{words:?} in {columns} columns:\n{text}");
        }
    }
    let piped = world.microagent(["list"]).outcome().success();
    assert!(piped.contains(name), "a pipe has room for all: {piped}");
}

#[test]
fn marks_have_colours_only_for_those_who_want_them() {
    let world = World::own();
    let doctor = |environment: &[(&str, &str)]| {
        let call = world.microagent(["doctor"]).env("TERM", "xterm");
        let call = environment.iter().fold(call, |call, (name, value)| call.env(name, value));
        let mut terminal = call.on_terminal(40, 100);
        terminal.wait();
        terminal.shown()
    };
    assert!(doctor(&[]).contains("\x1b[32m✓"), "{}", doctor(&[]));
    assert!(!doctor(&[("NO_COLOR", "1")]).contains('\x1b'));
    assert!(!doctor(&[("TERM", "dumb")]).contains('\x1b'));
}
