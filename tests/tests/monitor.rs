//! A virtual machine monitor that is missing, ends or hangs is told, in time, with what it said last.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use microagent_tests::World;

/// The outcome of a run where QEMU is this shell script, or not there at all. Confined as QEMU is, it can start no program.
fn error_with_qemu(script: Option<&str>) -> String {
    let world = World::shared().cold();
    let programs = tempfile::tempdir().unwrap();
    if let Some(script) = script {
        let path = programs.path().join("qemu-system-x86_64");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let call = world.run(["busybox", "true"]).env("PATH", programs.path());
    call.deadline(Duration::from_secs(60)).outcome().error(125)
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
