//! Files that a run or a workspace is expected to make.

use std::fs;

use microagent_tests::World;

use super::super::workspaces::eventually;

#[test]
fn a_runs_outputs_are_fetched_even_when_it_fails() {
    let world = World::shared();
    let at = |name: &str| fs::read_to_string(world.path().join(name)).unwrap();
    let script = "mkdir /out; echo report > /out/report; exit 3";
    let flags = ["--output", "report=/out/report:named", "--output", "all=/out"];
    world.run(flags).args(["busybox", "sh", "-c", script]).outcome().output(3);
    assert_eq!((at("named"), at("all/report")), ("report\n".to_owned(), "report\n".to_owned()));
    // The same again, into what is there.
    world.run(flags).args(["busybox", "sh", "-c", script]).outcome().output(3);
    assert!(!world.path().join("all/out").exists());

    let missing = |line: &str, code| {
        world.run(["--output", "none=/nothing", "busybox", "sh", "-c", line]).outcome().error(code)
    };
    assert!(missing("exit 0", 1).contains("cannot fetch output `none`"));
    assert!(missing("exit 7", 7).contains("there is no `/nothing`"));
    let error = world.run(["--output", "relative=out", "busybox", "true"]).outcome().error(125);
    assert!(error.contains("not absolute"), "{error}");
}

#[test]
fn a_workspaces_outputs_are_listed_and_fetched_when_they_are_asked_for() {
    let world = World::own().warm_machine();
    let flags = ["-d", "--name", "job", "--output", "report=/tmp/report", "--output", "other=/other:there"];
    world
        .run(flags)
        .args(["busybox", "sh", "-c", "echo made > /tmp/report; sleep 10000"])
        .outcome()
        .success();
    eventually("it is made", || {
        world.microagent(["exec", "job", "test", "-s", "/tmp/report"]).outcome().status.success()
    });
    let list = world.microagent(["artifacts", "job"]).outcome().success();
    assert!(list.contains("report  /tmp/report  report") && list.contains("there"), "{list}");
    assert_eq!(world.microagent(["artifacts", "job", "report"]).outcome().success(), "report\n");
    assert_eq!(fs::read_to_string(world.path().join("report")).unwrap(), "made\n");
    world.microagent(["halt", "job"]).outcome().success();
    fs::remove_file(world.path().join("report")).unwrap();
    let all = world.microagent(["artifacts", "--all", "job"]).outcome();
    assert!(String::from_utf8_lossy(&all.stderr).contains("cannot fetch output `other`"));
    assert_eq!(all.output(1), "report\n");
    assert_eq!(fs::read_to_string(world.path().join("report")).unwrap(), "made\n");
    let error = world.microagent(["artifacts", "job", "unknown"]).outcome().error(1);
    assert!(
        error.contains("has no output `unknown`") && error.contains("microagent artifacts job"),
        "{error}"
    );
}
