//! Hosts that are full, or not to be written to.

use microagent_tests::World;

/// Runs a script with a copy of the home on a file system of its own, `$M`; `$P` is the program.
fn on_a_small_disk(world: &World, script: &str) -> String {
    assert!(rustix::process::geteuid().is_root(), "this story mounts: run it as root (sudo -E)");
    let (home, program) = (world.home().display(), world.program().display());
    let set_up = format!(
        "set -eu; P={program}; M={home}-small; mkdir $M; mount -t tmpfs -o size=2g tmpfs $M; \
         cp -a --sparse=always {home}/. $M; export MICROAGENT_HOME=$M; {script}"
    );
    let output =
        std::process::Command::new("unshare").args(["--mount", "bash", "-c", &set_up]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn a_full_disk_makes_nothing_by_halves_and_loses_nothing() {
    let world = World::own();
    world.microagent(["create", "--name", "old", "--image", "busybox", "true"]).outcome().success();
    let script = "
        dd if=/dev/zero of=$M/filler bs=1M 2>/dev/null || true
        $P create --name new --image busybox true 2>&1 && echo made
        $P list -q; ls $M/workspaces; ls $M/tmp
        rm $M/filler
        $P create --name new --image busybox true; $P list -q";
    let said = on_a_small_disk(&world, script);
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].contains("No space left on device"), "{said}");
    assert_eq!(lines[1..], ["old", "old", "new", "new", "old"], "{said}");
}

#[test]
fn a_home_that_is_read_only_can_be_looked_at() {
    let world = World::own();
    world.microagent(["create", "--name", "old", "--image", "busybox", "true"]).outcome().success();
    let script = "
        mount -o remount,ro $M
        $P list -q; $P status --json old | grep -c '\"state\": \"created\"'
        $P create --name new --image busybox true 2>&1 || echo refused $?
        $P start old 2>&1 || echo refused $?";
    let said = on_a_small_disk(&world, script);
    assert!(said.starts_with("old\n1\n"), "{said}");
    assert_eq!(said.matches("Read-only file system").count(), 2, "{said}");
    assert_eq!(said.matches("refused 1").count(), 2, "{said}");
}
