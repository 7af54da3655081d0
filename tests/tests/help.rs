//! The command line as users read it: the whole reference, and what mistakes are answered with.

use std::fmt::Write;

use microagent_tests::World;

const VERBS: &[&[&str]] = &[
    &[],
    &["run"],
    &["create"],
    &["start"],
    &["halt"],
    &["stop"],
    &["kill"],
    &["restart"],
    &["pause"],
    &["resume"],
    &["wait"],
    &["rename"],
    &["delete"],
    &["clone"],
    &["resize"],
    &["commit"],
    &["volume"],
    &["volume", "create"],
    &["volume", "list"],
    &["volume", "status"],
    &["volume", "delete"],
    &["volume", "resize"],
    &["volume", "prune"],
    &["ps"],
    &["list"],
    &["status"],
    &["exec"],
    &["connect"],
    &["cp"],
    &["artifacts"],
    &["network"],
    &["network", "prune"],
    &["port"],
    &["port", "add"],
    &["port", "remove"],
    &["stats"],
    &["logs"],
    &["events"],
    &["quarantine"],
    &["doctor"],
    &["df"],
    &["prune"],
    &["pull"],
    &["push"],
    &["save"],
    &["load"],
    &["import"],
    &["images"],
    &["tag"],
    &["rmi"],
    &["image"],
    &["image", "list"],
    &["image", "inspect"],
    &["image", "history"],
    &["image", "prune"],
    &["image", "verify"],
    &["registry"],
    &["registry", "login"],
    &["registry", "logout"],
    &["kernel"],
    &["kernel", "install"],
    &["kernel", "list"],
    &["kernel", "use"],
    &["template"],
    &["template", "warm"],
    &["template", "delete"],
    &["perf"],
    &["perf", "run"],
    &["perf", "start"],
    &["perf", "exec"],
    &["perf", "copy"],
    &["perf", "boot"],
    &["perf", "density"],
    &["completion"],
    &["help"],
];

#[test]
fn the_whole_reference() {
    let world = World::fresh();
    let mut reference = String::new();
    for &verb in VERBS {
        let shown = world.microagent(verb).args(["--help"]).env("COLUMNS", "100").outcome().success();
        let words = [&["microagent"], verb, &["--help"]].concat().join(" ");
        writeln!(reference, "$ {words}\n{shown}").unwrap();
    }
    insta::assert_snapshot!(reference);
    assert!(!world.home().exists(), "asking for help makes nothing");
}

#[test]
fn mistakes_are_answered_with_advice() {
    let world = World::shared();
    let mistakes: [&[&str]; 20] = [
        &["rum"],
        &["run"],
        &["run", "--memroy", "1g", "busybox"],
        &["run", "--memory", "lots", "busybox"],
        &["run", "--cpus", "1.5", "busybox"],
        &["run", "--timeout", "soon", "busybox"],
        &["run", "--disk-size", "1k", "busybox"],
        &["run", "--hostname", "a_b", "busybox"],
        &["run", "--name", "a/b", "busybox"],
        &["run", "--keep", "--rm", "busybox"],
        &["run", "--kernel", "0.1.2-nosuch", "busybox", "true"],
        &["run", "--pull", "never", "nosuch", "true"],
        &["run", "Not A Reference", "true"],
        &["kernel", "use", "0.1.2-nosuch"],
        &["run", "--privileged", "-it", "busybox", "sh"],
        &["run", "-v", "/srv/site:/site", "busybox"],
        &["run", "--frobnicate", "busybox"],
        &["build", "-t", "app:1", "."],
        &["ps", "--format", "{{.Names}}"],
        &["create", "busybox"],
    ];
    let mut shown = String::new();
    for mistake in mistakes {
        for format in [&[][..], &["--json"]] {
            // In front, since behind the image it is the command's.
            let outcome = world.microagent(format).args(mistake).outcome();
            let words = [&["microagent"], format, mistake].concat().join(" ");
            let error = String::from_utf8_lossy(&outcome.stderr).into_owned();
            assert_eq!(String::from_utf8_lossy(&outcome.stdout), "", "{words}");
            writeln!(shown, "$ {words}\n{error}[{}]\n", outcome.code()).unwrap();
        }
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn the_version_is_told() {
    let world = World::fresh();
    let short = world.microagent(["--version"]).outcome().success();
    assert!(short.starts_with("microagent 0."), "{short}");
    world.microagent(["version"]).outcome().success();
}
