//! Terminals: `-it`, from the user's keyboard to the guest's foreground process, and back to a sane mode.

use std::time::Duration;

use microagent_tests::{Terminal, World, processes_of, wait_until};
use rustix::process::Signal;

const INTERRUPT: &[u8] = b"\x03";
const END_OF_INPUT: &[u8] = b"\x04";

fn shell(world: &World) -> Terminal {
    let mut terminal = world.run(["-it", "-e", "PS1=[ready] ", "busybox", "sh"]).on_terminal(41, 123);
    terminal.expect("[ready] ");
    terminal
}

#[test]
fn the_guest_has_a_terminal_of_the_same_size_and_follows_it() {
    let world = World::shared();
    let mut terminal = shell(&world);
    terminal.send(b"tty; stty size\n");
    terminal.expect("/dev/pts/");
    terminal.expect("41 123\r\n");
    terminal.expect("[ready] ");
    terminal.resize(30, 90);
    terminal.send(b"sleep 1; stty size\n");
    terminal.expect("30 90\r\n");
    terminal.send(b"exit 4\n");
    assert_eq!(terminal.wait().code(), Some(4));
}

#[test]
fn an_interrupt_is_for_the_guests_foreground_process() {
    let world = World::shared();
    let mut terminal = shell(&world);
    terminal.send(b"sleep 600\n");
    terminal.expect("sleep 600\r\n");
    std::thread::sleep(Duration::from_millis(500));
    terminal.send(INTERRUPT);
    terminal.expect("[ready] ");
    terminal.send(b"echo $?\n");
    terminal.expect("130\r\n");
    terminal.expect("[ready] ");
    terminal.send(END_OF_INPUT);
    assert_eq!(terminal.wait().code(), Some(0));
}

#[test]
fn an_interrupt_while_it_boots_ends_the_run() {
    let world = World::own();
    let mut terminal = world.run(["-it", "busybox", "sh"]).on_terminal(24, 80);
    std::thread::sleep(Duration::from_millis(300));
    terminal.send(INTERRUPT);
    assert_eq!(terminal.wait().code(), Some(130));
    wait_until(Duration::from_secs(2), || processes_of(world.home()));
}

#[test]
fn the_terminals_mode_comes_back_after_a_normal_end() {
    let world = World::shared();
    let mut terminal = world.run(["-it", "busybox", "sh", "-c", "echo up; read line"]).on_terminal(24, 80);
    let before = terminal.mode();
    terminal.expect("up");
    assert_ne!(terminal.mode(), before);
    terminal.send(b"\n");
    assert!(terminal.wait().success());
    assert_eq!(terminal.mode(), before);
}

#[test]
fn the_terminals_mode_comes_back_however_the_program_ends() {
    for signal in [Signal::TERM, Signal::HUP, Signal::KILL] {
        let world = World::own();
        let call = world.run(["-it", "--stop-timeout", "1", "busybox", "sh", "-c", "echo up; sleep 600"]);
        let mut terminal = call.on_terminal(24, 80);
        let before = terminal.mode();
        terminal.expect("up");
        assert_ne!(terminal.mode(), before);
        terminal.signal(signal);
        assert!(!terminal.wait().success());
        wait_until(Duration::from_secs(5), || {
            Some(terminal.mode()).into_iter().filter(|mode| *mode != before).collect()
        });
        wait_until(Duration::from_secs(5), || processes_of(world.home()));
    }
}

#[test]
fn lines_are_ended_for_a_raw_terminal_and_colours_pass() {
    let world = World::shared();
    let script = "printf 'one\\ntwo\\033[1mbold\\n'; echo $TERM; id -u > /dev/tty";
    let mut terminal = world.run(["-it", "-u", "app", "busybox", "sh", "-c", script]).on_terminal(24, 80);
    assert!(terminal.wait().success(), "{}", terminal.shown());
    assert!(
        terminal.shown().contains("one\r\ntwo\x1b[1mbold\r\nxterm\r\n1000\r\n"),
        "{:?}",
        terminal.shown()
    );
}

#[test]
fn a_terminal_needs_one_on_our_side() {
    let world = World::shared();
    let error = world.run(["-it", "busybox", "sh"]).bytes("exit\n").outcome().error(125);
    assert!(error.contains("standard input") && error.contains("hint:"), "{error}");
}

#[test]
fn a_terminal_without_input_needs_none() {
    let world = World::shared();
    let shown = world.run(["-t", "busybox", "tty"]).outcome().success();
    assert!(shown.starts_with("/dev/pts/"), "{shown}");
}

#[test]
fn a_binary_on_a_terminal_does_not_confuse_errors_with_output() {
    let world = World::shared();
    let outcome = world.run(["-t", "busybox", "sh", "-c", "echo out; echo err >&2"]).outcome();
    assert_eq!(outcome.success(), "out\r\nerr\r\n");
    assert_eq!(outcome.error(0), "");
}
