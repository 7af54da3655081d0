//! What a workspace is asked to be, in flags and in a file.

use microagent_tests::World;

use super::{eventually, said, status};

#[test]
fn a_file_says_what_flags_say_and_is_printed_back() {
    let world = World::own();
    let file = world.path().join("workspace.yaml");
    let text = "image: busybox\ncommand: [sh, -c, 'echo $GREETING from $(pwd); sleep 1000']\n\
        env: [GREETING=hello]\nworkdir: /srv\nmemory: 256m\ncpus: 2\nrestart: on-failure:3\n\
        labels: {team: web}\nstop_timeout: 2.5\n";
    std::fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    world.microagent(["create", "--name", "one", "--file", path, "--cpus", "1"]).outcome().success();
    let spec = world.microagent(["status", "--spec", "one"]).outcome().success();
    assert!(spec.contains("cpus: 1\n") && spec.contains("memory: 256m\n"), "{spec}");
    std::fs::write(&file, &spec).unwrap();
    world.microagent(["create", "--name", "two", "--file", path]).outcome().success();
    assert_eq!(world.microagent(["status", "--spec", "two"]).outcome().success(), spec);
    world.microagent(["start", "two"]).outcome().success();
    eventually("it speaks", || said(&world, "two") == "hello from /srv\n");
    world.microagent(["delete", "--force", "one", "two"]).outcome().success();
}

#[test]
fn a_mistake_in_a_file_has_its_line() {
    let world = World::own();
    let file = world.path().join("workspace.yaml");
    std::fs::write(&file, "image: busybox\nmemroy: 1g\n").unwrap();
    let call = world.microagent(["create", "--file", file.to_str().unwrap()]);
    let error = call.outcome().error(2);
    assert!(error.contains("memroy") && error.contains("line 2"), "{error}");
    std::fs::write(&file, "image: busybox\nmemory: lots\n").unwrap();
    let error = world.microagent(["create", "--file", file.to_str().unwrap()]).outcome().error(2);
    assert!(error.contains("lots"), "{error}");
}

#[test]
fn a_service_is_the_images_unless_something_else_is_said() {
    let world = World::own();
    let argv = |name: &str, words: &[&str]| {
        let call = world.microagent(["create", "--name", name, "--image", "configured"]).args(words);
        call.outcome().success();
        status(&world, name)["service"].clone()
    };
    let own = argv("own", &[]);
    assert_eq!(own["argv"], serde_json::json!(["/bin/echo", "entry", "command"]));
    assert_eq!((&own["user"], &own["directory"]), (&"app".into(), &"/srv/work".into()));
    assert_eq!(own["stop_signal"], "SIGQUIT");
    assert_eq!(argv("command", &["x"])["argv"], serde_json::json!(["/bin/echo", "entry", "x"]));
    let line = argv("line", &["--service-command", "a | b"]);
    assert_eq!(line["argv"], serde_json::json!(["/bin/sh", "-c", "a | b"]));
    let call = world.microagent(["create", "--image", "busybox", "--service-command", "a", "b"]);
    assert!(call.outcome().error(1).contains("both"));
}

#[test]
fn what_needs_a_service_is_refused_in_the_foreground() {
    let world = World::own();
    for flags in [["--restart", "always"], ["--health-cmd", "true"], ["--service-command", "x"]] {
        let error = world.run(flags).args(["busybox", "true"]).outcome().error(125);
        assert!(error.contains(flags[0]) && error.contains("run -d"), "{error}");
    }
}

#[test]
fn a_kept_run_can_be_started_again() {
    let world = World::own().warm_machine();
    let line = "echo so >> /often; sync; wc -l < /often";
    let first = world.run(["--keep", "--name", "box", "busybox", "sh", "-c", line]).outcome();
    assert_eq!(first.success(), "1\n");
    assert_eq!(super::state(&world, "box"), "stopped");
    world.microagent(["start", "box"]).outcome().success();
    assert_eq!(world.microagent(["wait", "box"]).outcome().success(), "0\n");
    assert_eq!(said(&world, "box"), "2\n");
}
