//! Workspaces that outlive their run.

use microagent_tests::World;

#[test]
fn a_kept_workspace_has_its_name_told_and_its_disk() {
    let world = World::own();
    let outcome = world.run(["--keep", "--name", "mine", "busybox", "touch", "/file"]).outcome();
    assert_eq!(outcome.success(), "");
    assert_eq!(outcome.error(0), "kept workspace mine\n");
    let workspace = world.home().join("workspaces/mine");
    assert!(workspace.join("disk.ext4").is_file() && workspace.join("workspace.json").is_file());
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let world = World::own();
    world.run(["--keep", "--name", "mine", "busybox", "true"]).outcome().success();
    for more in [&["--keep"][..], &[]] {
        let call = world.run(more).args(["--name", "mine", "busybox", "true"]);
        let error = call.outcome().error(125);
        assert!(error.contains("`mine` exists") && error.contains("hint:"), "{error}");
    }
}

#[test]
fn names_are_made_up() {
    let world = World::own();
    let error = world.run(["--keep", "busybox", "true"]).outcome().error(0);
    let name = error.trim().strip_prefix("kept workspace ").unwrap();
    assert!(world.home().join("workspaces").join(name).is_dir(), "{error}");
}

#[test]
fn a_name_that_breaks_the_rule_is_told_the_rule() {
    let world = World::own();
    let error = world.run(["--name", "../x", "busybox", "true"]).outcome().error(125);
    assert!(error.contains("`../x`") && error.contains("63"), "{error}");
}

#[test]
fn a_workspace_is_kept_when_its_command_fails() {
    let world = World::own();
    let outcome = world.run(["--keep", "--name", "mine", "busybox", "false"]).outcome();
    assert!(outcome.error(1).contains("kept workspace mine"));
    assert!(world.home().join("workspaces/mine/disk.ext4").is_file());
}
