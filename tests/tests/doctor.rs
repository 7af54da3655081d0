//! `doctor` on hosts that lack something.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use microagent_tests::{Invocation, World};
use serde_json::Value;

/// The check `name` of a report.
fn check(outcome: &str, name: &str) -> Value {
    let report: Value = serde_json::from_str(outcome).unwrap();
    let checks = report["checks"].as_array().unwrap();
    checks
        .iter()
        .find(|check| check["name"] == name)
        .unwrap_or_else(|| panic!("no `{name}`: {report}"))
        .clone()
}

fn doctor(world: &World) -> Invocation {
    world.microagent(["--json", "doctor"])
}

#[test]
fn a_host_with_all_that_is_needed_is_usable() {
    let world = World::shared();
    let outcome = world.microagent(["doctor"]).deadline(Duration::from_secs(10)).outcome();
    let shown = outcome.success();
    assert!(shown.contains("✓ qemu") && shown.contains("✓ kernel") && !shown.contains('✗'), "{shown}");
    assert!(!shown.contains('\x1b'), "colours are for terminals");
    let report: Value = serde_json::from_str(&doctor(&world).outcome().success()).unwrap();
    assert_eq!(report["usable"], true);
}

#[test]
fn translation_is_no_security_boundary_and_that_is_said() {
    let world = World::shared();
    let found = check(&doctor(&world).outcome().success(), "acceleration");
    let is_kvm = found["found"] == "KVM";
    assert!(is_kvm || found["found"].as_str().unwrap().contains("no security boundary"), "{found}");
    assert!(is_kvm || found["remedy"].is_string(), "{found}");
}

#[test]
fn a_home_without_a_kernel_is_not_usable_yet() {
    let world = World::fresh();
    let shown = world.microagent(["doctor"]).outcome().output(1);
    assert!(shown.contains("✗ kernel") && shown.contains("microagent kernel install"), "{shown}");
}

/// A directory with a QEMU that says it is `version`, or with none.
fn path_with(world: &World, version: Option<&str>) -> String {
    let directory = world.path().join("bin");
    std::fs::create_dir(&directory).unwrap();
    if let Some(version) = version {
        let program = directory.join("qemu-system-x86_64");
        std::fs::write(&program, format!("#!/bin/sh\necho 'QEMU emulator version {version}'\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    directory.display().to_string()
}

#[test]
fn a_missing_qemu_is_told_with_what_installs_it() {
    let world = World::own();
    let path = path_with(&world, None);
    let found = check(&doctor(&world).env("PATH", path).outcome().output(1), "qemu");
    assert_eq!(found["verdict"], "failure");
    assert!(found["remedy"].as_str().unwrap().contains("apt-get install qemu-system-x86"), "{found}");
}

#[test]
fn an_old_qemu_and_one_that_does_not_start_are_told() {
    for (version, words) in [("5.2.0", "too old"), ("9.0.0", "does not start")] {
        let world = World::own();
        let path = path_with(&world, Some(version));
        let found = check(&doctor(&world).env("PATH", path).outcome().output(1), "qemu");
        assert!(found["verdict"] == "failure" && found["found"].as_str().unwrap().contains(words), "{found}");
    }
}

fn at(world: &World, home: &Path) -> Invocation {
    doctor(world).args(["--home", home.to_str().unwrap()])
}

#[test]
fn a_home_in_memory_is_doubtful() {
    let world = World::fresh();
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let found = check(&at(&world, memory.path()).outcome().output(1), "directory");
    assert!(
        found["verdict"] == "warning" && found["found"].as_str().unwrap().contains("in memory"),
        "{found}"
    );
}

#[test]
fn a_home_without_space_is_not_usable() {
    let world = World::fresh();
    let place = world.path().join("small");
    std::fs::create_dir(&place).unwrap();
    let mount = format!("mount -t tmpfs -o size=8m none {} && exec \"$0\" \"$@\"", place.display());
    let call = at(&world, &place).through(&["unshare", "--mount", "--map-root-user", "sh", "-c", &mount]);
    let found = check(&call.outcome().output(1), "directory");
    assert!(found["verdict"] == "failure" && found["found"].as_str().unwrap().contains("full"), "{found}");
}

#[test]
fn a_home_that_can_not_be_made_is_told() {
    let world = World::fresh();
    let file = world.path().join("file");
    std::fs::write(&file, "").unwrap();
    let found = check(&at(&world, &file.join("home")).outcome().output(1), "directory");
    assert!(found["verdict"] == "failure" && found["remedy"].as_str().unwrap().contains("--home"), "{found}");
}

#[test]
fn a_path_that_is_too_long_for_sockets_is_none() {
    let world = World::fresh();
    let long = world.path().join("long".repeat(40)).join("path".repeat(40));
    let report = at(&world, &long).outcome().output(1);
    assert_eq!(check(&report, "sockets")["verdict"], "ok");
    assert_eq!(check(&report, "directory")["verdict"], "ok");
}

#[test]
fn a_host_without_kvm_is_told_from_one_whose_kvm_is_not_for_guests() {
    let world = World::fresh();
    let hide = "mount --bind /dev/null /dev/kvm && exec \"$0\" \"$@\"";
    assert!(Path::new("/dev/kvm").exists(), "this story hides /dev/kvm: load kvm_intel or kvm_amd");
    let call = doctor(&world).through(&["unshare", "--mount", "--map-root-user", "sh", "-c", hide]);
    let found = check(&call.outcome().output(1), "acceleration");
    assert!(
        found["verdict"] == "warning" && found["found"].as_str().unwrap().contains("/dev/kvm"),
        "{found}"
    );
    let none = "mount -t tmpfs none /dev && exec \"$0\" \"$@\"";
    let call = doctor(&world).through(&["unshare", "--mount", "--map-root-user", "sh", "-c", none]);
    let found = check(&call.outcome().output(1), "acceleration");
    assert!(found["found"].as_str().unwrap().contains("no /dev/kvm"), "{found}");
}

#[test]
fn an_ordinary_user_is_as_well_off_as_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this story becomes another user: run it as root (sudo -E)"
    );
    let world = World::of_user(54_321);
    let user = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--no-new-privs"];
    let report = doctor(&world).through(&user).outcome().output(1);
    assert_eq!(check(&report, "user")["verdict"], "ok");
    for name in ["qemu", "disks", "sockets", "directory"] {
        assert_eq!(check(&report, name)["verdict"], "ok", "{name}");
    }
    let report = doctor(&world).outcome();
    assert_eq!(check(&report.output(1), "directory")["verdict"], "failure", "another user's home is refused");
}
