//! What a run and a workspace can change: `--tmpfs` and `--read-only`.

use microagent_tests::World;

#[test]
fn a_place_in_memory_takes_files_and_a_read_only_root_takes_none() {
    let world = World::shared();
    let script = "echo text > /scratch/new/file && cat /scratch/new/file; touch /other || echo refused; \
                  df -k /scratch/new | tail -n 1 | { read _ size _; echo $size; }; stat -c %a /scratch/new";
    let call =
        world.run(["--read-only", "--tmpfs", "/scratch/new:size=8m,mode=750", "busybox", "sh", "-c", script]);
    assert_eq!(call.outcome().success(), "text\nrefused\n8192\n750\n");
}

#[test]
fn a_working_directory_is_made_before_nothing_takes_changes() {
    let world = World::own();
    let script = "pwd; touch file || echo refused";
    let words = ["--read-only", "-w", "/not/there/yet", "busybox", "sh", "-c", script];
    assert_eq!(world.run(words).outcome().success(), "/not/there/yet\nrefused\n");
    let words = ["--read-only", "--tmpfs", "/memory", "-w", "/memory/below", "busybox", "sh", "-c", script];
    assert_eq!(world.run(words).outcome().success(), "/memory/below\n");
    let words = ["run", "-d", "--name", "box", "--read-only", "-w", "/srv/app", "busybox", "sleep", "1000"];
    world.microagent(words).outcome().success();
    for _ in 0..2 {
        assert_eq!(
            world.microagent(["exec", "box", "stat", "-c", "%a", "/srv/app"]).outcome().success(),
            "755\n"
        );
        world.microagent(["restart", "box"]).outcome().success();
    }
    let words = ["--read-only", "-w", "/bin/sh/no", "busybox", "true"];
    let error = world.run(words).outcome().error(125);
    assert!(error.contains("make the working directory `/bin/sh/no`"), "{error}");
}

#[test]
fn programs_in_memory_start_only_where_that_was_asked_for() {
    let world = World::shared();
    let script = "for place in /plain /programs; do cp /bin/busybox $place/echo; $place/echo $place; done";
    let call = world.run(["--tmpfs", "/plain", "--tmpfs", "/programs:exec", "busybox", "sh", "-c", script]);
    assert_eq!(call.outcome().success(), "/programs\n");
}

#[test]
fn a_workspace_keeps_its_arrangement_and_not_what_was_in_memory() {
    let world = World::own();
    let line =
        ["create", "--name", "box", "--image", "busybox", "--read-only", "--tmpfs", "/scratch", "--init"];
    world.microagent(line).args(["sleep", "1000"]).outcome().success();
    for _ in 0..2 {
        world.microagent(["start", "box"]).outcome().success();
        let script = "ls /scratch; touch /scratch/file; touch /file || echo refused";
        let call = world.microagent(["exec", "box", "sh", "-c", script]);
        assert_eq!(call.outcome().success(), "refused\n");
        world.microagent(["halt", "box"]).outcome().success();
    }
    let spec = world.microagent(["status", "--spec", "box"]).outcome().success();
    assert!(spec.contains("read_only: true") && spec.contains("- /scratch"), "{spec}");
}

#[test]
fn a_place_that_makes_no_sense_is_refused_before_anything_is_made() {
    let world = World::fresh();
    let error = world.run(["--tmpfs", "scratch", "busybox"]).outcome().error(125);
    assert!(error.contains("not an absolute one"), "{error}");
    assert!(!world.home().exists());
}
