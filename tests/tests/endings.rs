//! Ways in which a machine ends before its command does.

use std::time::Duration;

use microagent_tests::World;

#[test]
fn switching_the_machine_off_ends_the_run() {
    let world = World::shared();
    for off in ["poweroff", "halt"] {
        let outcome = world.script(&format!("{off}; sleep 600")).outcome();
        assert_ne!(outcome.code(), 0);
        assert!(outcome.elapsed < Duration::from_secs(60), "{:?}", outcome.elapsed);
    }
}

#[test]
fn switching_the_machine_off_at_once_is_told() {
    let world = World::shared();
    let error = world.script("poweroff -f").outcome().error(125);
    assert!(error.contains("the guest switched itself off"), "{error}");
}

#[test]
fn a_restart_is_told() {
    let world = World::shared();
    let error = world.script("reboot -f").outcome().error(125);
    assert!(error.contains("the guest restarted"), "{error}");
}

#[test]
fn a_panic_is_told_with_the_kernels_last_words() {
    let world = World::shared();
    let error =
        world.script("echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger").outcome().error(125);
    assert!(error.contains("Kernel panic - not syncing: sysrq triggered crash"), "{error}");
}

#[test]
fn nobody_can_kill_the_first_process() {
    let world = World::shared();
    assert_eq!(world.script("kill -9 1; kill -SEGV 1; sleep 0.2; echo alive").outcome().success(), "alive\n");
}

#[test]
fn a_workload_that_takes_all_memory_ends_alone() {
    let world = World::shared().cold();
    let script = "tail /dev/zero; echo $?";
    let shown = world.run(["-m", "192m", "busybox", "sh", "-c", script]).outcome().success();
    assert_eq!(shown, "137\n");
}
