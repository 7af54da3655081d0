//! Hosts that are full, or not to be written to.

use microagent_tests::World;

/// Runs a script with a copy of the home on a file system of its own, `$M`; `$P` is the program.
fn on_a_small_disk(world: &World, script: &str) -> String {
    assert!(rustix::process::geteuid().is_root(), "this story mounts: run it as root (sudo -E)");
    let (home, program) = (world.home().display(), world.program().display());
    let set_up = format!(
        "set -eu; P={program}; M={home}-small; mkdir $M; mount -t tmpfs -o size=2g tmpfs $M; \
         cp -a --sparse=always {home}/. $M; export MICROAGENT_HOME=$M MICROAGENT_TEMPLATES=off; {script}"
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

/// Fills `$M`, and waits until `box` stands still.
const FILL: &str = "
    dd if=/dev/zero of=$M/filler bs=1M 2>/dev/null || true
    $P exec -d box -- sh -c 'head -c 50000000 /dev/urandom > /big; sync; md5sum /big > /sum; sync'
    for i in $(seq 300); do $P list | grep -q 'running (stalled)' && break; sleep 0.1; done";

#[test]
fn a_machine_stands_still_while_its_host_is_full_and_loses_nothing() {
    let world = World::own();
    let script = format!(
        "$P run -d --name box busybox sleep 100000
        $P exec box -- sh -c 'echo acknowledged > /first; sync'
        {FILL}
        $P status box | grep ^Trouble
        $P list --json | grep -c 'no room left'
        for verb in 'exec box true' 'exec -d box true' 'halt box' 'stop box' 'cp box:/first out'; do
            $P $verb 2>&1 && echo done; echo code $?
        done
        $P --json exec box true 2>&1 | grep -c '\"kind\":\"stalled\".*\"retryable\":true' || true
        $P pause box; $P resume box
        rm $M/filler
        for i in $(seq 300); do $P exec box -- test -s /sum 2>/dev/null && break; sleep 0.1; done
        $P list; $P status box | grep ^Trouble || echo no trouble
        $P exec box -- sh -c 'cat /first; md5sum -c /sum'
        host=$(date +%s); guest=$($P exec box date +%s); echo clock $((guest - host < 3 && host - guest < 3))
        $P halt box; /sbin/e2fsck -fn $M/workspaces/box/disk.ext4 2>&1 | grep -c clean || true
        $P events box; $P logs box"
    );
    let said = on_a_small_disk(&world, &script);
    let told =
        "cannot exec in workspace `box`: it stands still, since this host has no room left for its disk";
    assert!(said.contains("Trouble       this host has no room left for its disk\n1\n"), "{said}");
    assert_eq!(said.matches(told).count(), 2, "{said}");
    assert_eq!(said.matches("by making room").count(), 5, "{said}");
    assert!(said.contains("cannot halt workspace `box`: it stands still"), "{said}");
    assert!(said.contains("no trouble\nacknowledged\n/big: OK\nclock 1\nbox\n"), "{said}");
    for event in ["stands still: this host has no room left for its disk", "goes on", "halted"] {
        assert!(said.contains(event), "{event}: {said}");
    }
    assert!(said.contains("microagent: the machine goes on"), "{said}");
}

#[test]
fn what_stands_still_can_be_killed_and_what_was_acknowledged_is_there() {
    let world = World::own();
    let script = format!(
        "$P run -d --name box busybox sleep 100000
        $P exec box -- sh -c 'echo acknowledged > /first; sync'
        {FILL}
        $P list | grep -c stalled
        $P kill box
        $P ps -q
        rm $M/filler
        $P start box; $P exec box cat /first
        {FILL}
        $P list | grep -c stalled
        $P delete --force box; $P list -q"
    );
    let said = on_a_small_disk(&world, &script);
    assert!(said.ends_with("box\n1\nbox\nbox\nacknowledged\n1\nbox\n"), "{said}");
}

#[test]
fn a_run_says_once_that_it_stands_still_and_goes_on() {
    let world = World::own();
    let script = "
        ($P run busybox sh -c 'echo up; head -c 300000000 /dev/urandom > /big; sync; sync; echo written' \
            >$M/../out 2>$M/../errors; echo code $? >>$M/../out) &
        for i in $(seq 300); do grep -q up $M/../out 2>/dev/null && break; sleep 0.1; done
        dd if=/dev/zero of=$M/filler bs=1M 2>/dev/null || true
        for i in $(seq 600); do grep -q 'stands still' $M/../errors && break; sleep 0.1; done
        sleep 3; rm $M/filler; wait
        cat $M/../out $M/../errors";
    let said = on_a_small_disk(&world, script);
    assert!(said.starts_with("up\nwritten\ncode 0\n"), "{said}");
    assert_eq!(said.matches("the machine stands still, since this host has no room").count(), 1, "{said}");
}

#[test]
fn a_guest_that_fills_its_own_disk_is_told_so_and_nothing_else_breaks() {
    let world = World::own();
    let flags = ["-d", "--name", "box", "--disk-size", "64m", "busybox", "sleep", "100000"];
    world.run(flags).outcome().success();
    let exec = |line: &str| world.microagent(["exec", "box", "sh", "-c", line]).outcome();
    assert!(exec("dd if=/dev/zero of=/big bs=1M").error(1).contains("No space left on device"));
    let list = world.microagent(["list"]).outcome().success();
    assert!(list.contains("running ") && !list.contains("stalled"), "{list}");
    std::fs::write(world.path().join("more"), vec![1; 4 << 20]).unwrap();
    let error = world.microagent(["cp", "more", "box:/more"]).outcome().error(1);
    assert!(error.contains("No space left on device"), "{error}");
    assert_eq!(exec("ls -a / | grep microagent; rm /big; echo on > /file; cat /file").success(), "on\n");
    world.microagent(["cp", "more", "box:/more"]).outcome().success();
    assert_eq!(world.microagent(["halt", "box"]).outcome().success(), "box\n");
    world.microagent(["start", "box"]).outcome().success();
    assert_eq!(exec("cat /file; wc -c < /more").success(), "on\n4194304\n");
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
