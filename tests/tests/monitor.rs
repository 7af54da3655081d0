//! A virtual machine monitor that is missing, ends or hangs is told, in time, with what it said last.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use microagent_tests::{Outcome, World};

/// The outcome of a run where QEMU is this shell script, or not there at all. Confined as QEMU is, it can start no program.
fn error_with_qemu(script: Option<&str>) -> String {
    let programs = tempfile::tempdir().unwrap();
    if let Some(script) = script {
        write_qemu(programs.path(), script);
    }
    outcome_with_qemu(programs.path(), &[]).error(125)
}

fn write_qemu(programs: &Path, script: &str) {
    let path = programs.join("qemu-system-x86_64");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

fn outcome_with_qemu(programs: &Path, through: &[&str]) -> Outcome {
    let world = World::shared().cold();
    let call = world.run(["busybox", "echo", "hello"]).env("PATH", programs);
    call.through(through).deadline(Duration::from_secs(60)).outcome()
}

/// The outcome of a run whose guest finds no init as often as the script decides, on a host where a script may be QEMU's.
fn outcome_without_init(script: &str) -> Outcome {
    let programs = tempfile::tempdir().unwrap();
    let qemu = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|directory| directory.join("qemu-system-x86_64"))
        .find(|path| path.is_file())
        .unwrap();
    let marker = programs.path().join("begun");
    let lines = [
        format!("begun={} qemu={}", marker.display(), qemu.display()),
        "without_init='console=ttyS0 panic=-1 rdinit=/nowhere root=/dev/none'".to_owned(),
        script.to_owned(),
    ];
    write_qemu(programs.path(), &lines.join("\n"));
    outcome_with_qemu(programs.path(), &[env!("CARGO_BIN_EXE_lesser-host"), "landlock,namespaces"])
}

#[test]
fn a_guest_that_ends_while_it_boots_is_booted_once_more() {
    let once = outcome_without_init(
        "[ -e $begun ] && exec $qemu \"$@\"; : > $begun; exec $qemu \"$@\" -append \"$without_init\"",
    );
    assert_eq!(once.success(), "hello\n");
    let always = outcome_without_init("exec $qemu \"$@\" -append \"$without_init\"");
    let error = always.error(125);
    assert!(error.contains("the guest ended while it booted; its last words:"), "{error}");
    assert!(error.contains("panic"), "{error}");
}

#[test]
fn without_qemu_the_command_that_installs_it_is_named() {
    let error = error_with_qemu(None);
    assert!(error.contains("cannot find `qemu-system-x86_64`"), "{error}");
    assert!(error.contains("hint: install it: sudo apt-get install qemu-system-x86"), "{error}");
}

#[test]
fn a_qemu_that_ends_at_once_gives_its_last_words() {
    let error = error_with_qemu(Some("echo 'the sky is falling' >&2; exit 3"));
    assert!(error.contains("ended at once (exit status: 3)"), "{error}");
    assert!(error.contains("it said: the sky is falling"), "{error}");
}

#[test]
fn a_qemu_that_hangs_is_given_up() {
    let error = error_with_qemu(Some("echo 'thinking' >&2; read never <&4"));
    assert!(error.contains("did not answer within 20 s; it said: thinking"), "{error}");
}

#[test]
fn a_qemu_that_answers_nonsense_is_told() {
    let error = error_with_qemu(Some("echo '{\"unexpected\":1}' >&3; read never <&4"));
    assert!(error.contains("failed to talk to `qemu-system-x86_64`"), "{error}");
}
