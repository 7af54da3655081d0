//! How an image that is made of a workspace wants to be run.

use microagent_tests::World;
use serde_json::json;

use super::{committed, configuration, in_box};

#[test]
fn the_workspaces_settings_and_the_changes_become_the_images() {
    let world = World::own().warm_machine();
    let flags =
        ["-d", "--name", "box", "-e", "GREETING=hello from the workspace", "-w", "/root", "-u", "root"];
    let labels = ["-l", "team=web", "--stop-signal", "INT", "--health-cmd", "true", "--entrypoint", "sleep"];
    world.run(flags).args(labels).args(["configured", "100000"]).outcome().success();
    in_box(&world, "echo changed > /changed");
    world.microagent(["halt", "box"]).outcome().success();
    let plain = committed(&world, &["plain"]);
    let config = configuration(&world, &plain);
    let wanted = json!({
        "Env": ["PATH=/bin", "ORIGIN=image", "GREETING=hello from the workspace"],
        "User": "root", "WorkingDir": "/root", "Entrypoint": ["sleep"], "Cmd": ["100000"],
        "Labels": { "team": "web" }, "StopSignal": config["config"]["StopSignal"],
        "Healthcheck": { "Test": ["CMD-SHELL", "true"] },
    });
    assert_eq!(config["config"], wanted);
    assert!(config["config"]["StopSignal"].as_str().unwrap().contains("INT"));

    let changes = [
        "-c",
        "ENTRYPOINT [\"/bin/sh\", \"-c\"]",
        "-c",
        "CMD [\"echo $GREETING $ADDED; cat /changed; pwd\"]",
    ];
    let more =
        ["-c", "ENV ADDED=more", "-c", "WORKDIR /srv", "-c", "EXPOSE 80", "-m", "a word", "-a", "me <me@x>"];
    let other = committed(&world, &[&["changed:1"][..], &changes, &more].concat());
    assert_eq!(other["image"], "docker.io/library/changed:1");
    assert_ne!(other["id"], plain["id"]);
    assert_eq!(other["layer"], plain["layer"], "the changes on the disk are the same");
    let said = "hello from the workspace more\nchanged\n/srv\n";
    assert_eq!(world.run(["changed:1"]).outcome().success(), said);
    let config = configuration(&world, &other);
    assert_eq!(config["author"], "me <me@x>");
    let history = config["history"].as_array().unwrap().last().unwrap();
    assert_eq!((&history["comment"], &history["author"]), (&json!("a word"), &json!("me <me@x>")));
    assert_eq!(history["created_by"], "sleep 100000");
    assert_eq!(history["created"], config["created"]);
    // When its last boot ended, and not when the image was made.
    let status = world.microagent(["status", "--json", "box"]).outcome().success();
    assert!(status.contains(config["created"].as_str().unwrap()), "{status}");
    let history = world.microagent(["image", "history", "changed:1"]).outcome().success();
    assert!(history.contains("a word") && history.contains("sleep 100000"), "{history}");
    let events = world.microagent(["events", "box"]).outcome().success();
    assert!(events.contains("committed as changed:1"), "{events}");
}

#[test]
fn a_name_that_moves_on_leaves_its_image_to_the_workspace() {
    let world = World::own().warm_machine();
    world.microagent(["create", "--name", "box", "--image", "busybox", "sleep", "9"]).outcome().success();
    world.microagent(["cp", "/etc/hostname", "box:/one"]).outcome().success();
    let one = committed(&world, &["busybox"]);
    assert_eq!(world.run(["busybox", "ls", "/one"]).outcome().success(), "/one\n");
    // The workspace is still one of the old image.
    let two = committed(&world, &["busybox"]);
    assert_eq!(one["digest"], two["digest"]);
    world.microagent(["start", "box"]).outcome().success();
    let images = world.microagent(["images"]).outcome().success();
    assert!(images.contains("<none>"), "{images}");
}

#[test]
fn mistakes_are_answered_before_anything_starts() {
    let world = World::own();
    world.microagent(["create", "--name", "box", "--image", "busybox", "sleep", "9"]).outcome().success();
    let digest = format!("made@sha256:{}", "0".repeat(64));
    let mistakes: [(&[&str], &str); 5] = [
        (&["box", &digest], "a digest is not chosen"),
        (&["box", "Not A Reference"], "Not A Reference"),
        (&["box", "made", "-c", "RUN x"], "invalid change `RUN x`"),
        (&["box", "made", "-c", "ENV A=\"x"], "a quote is not closed"),
        (&["box"], "IMAGE"),
    ];
    for (words, reason) in mistakes {
        let error = world.microagent(["commit"]).args(words).outcome().error(2);
        assert!(error.contains(reason), "{words:?}: {error}");
    }
    let error = world.microagent(["commit", "nosuch", "made"]).outcome().error(1);
    assert!(error.contains("there is no workspace `nosuch`"), "{error}");
    assert!(!world.microagent(["images"]).outcome().success().contains("made"));
}
