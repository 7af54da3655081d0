//! What lists and documents say.

use microagent_tests::World;
use serde_json::Value;

use super::{SERVICE, started, state};

#[test]
fn lists_show_what_is_wanted() {
    let world = World::own().warm_machine();
    started(&world, "runs", SERVICE);
    let create = ["create", "--image", "busybox", "--label", "team=web", "--name", "rests", "true"];
    world.microagent(create).outcome().success();
    let names = |words: &[&str]| world.microagent(words).args(["-q"]).outcome().success();
    assert_eq!(names(&["ps"]), "runs\n");
    assert_eq!(names(&["ps", "-a"]), "rests\nruns\n");
    assert_eq!(names(&["ls"]), "rests\nruns\n");
    assert_eq!(names(&["list", "--filter", "state=created"]), "rests\n");
    assert_eq!(names(&["list", "--filter", "label=team"]), "rests\n");
    assert_eq!(names(&["list", "--filter", "label=team=db"]), "");
    assert_eq!(names(&["list", "--filter", "name=un"]), "runs\n");
    assert_eq!(names(&["list", "--filter", "image=busybox"]), "rests\nruns\n");
    let error = world.microagent(["list", "--filter", "state=asleep"]).outcome().error(2);
    assert!(error.contains("`halted`"), "{error}");
    let table = world.microagent(["list"]).outcome().success();
    let heading = table.lines().next().unwrap();
    assert_eq!(
        heading.split_whitespace().collect::<Vec<_>>(),
        ["NAME", "IMAGE", "STATE", "UPTIME", "PORTS", "CPU", "MEMORY"]
    );
    let json: Vec<Value> =
        serde_json::from_str(&world.microagent(["ps", "--json"]).outcome().success()).unwrap();
    assert_eq!((json.len(), &json[0]["state"]), (1, &"running".into()));
    assert!(json[0]["memory"].as_u64().unwrap() > 1 << 20);
}

#[test]
fn a_record_of_a_newer_release_is_refused_and_stays() {
    let world = World::own();
    for name in ["new", "old"] {
        world.microagent(["create", "--name", name, "--image", "busybox", "true"]).outcome().success();
    }
    let path = world.home().join("workspaces/new/workspace.json");
    let text = std::fs::read_to_string(&path).unwrap().replacen("\"version\": 2", "\"version\": 99", 1);
    std::fs::write(&path, &text).unwrap();
    for words in [&["status"][..], &["start"], &["halt"], &["delete", "--force"]] {
        let error = world.microagent(words).args(["new"]).outcome().error(1);
        assert!(error.contains("version 99"), "{words:?}: {error}");
    }
    let list = world.microagent(["list", "-q"]).outcome();
    assert!(list.error(1).contains("version 99") && list.output(1) == "old\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    assert_eq!(state(&world, "old"), "created");
    std::fs::write(&path, text.replacen("99", "2", 1)).unwrap();
}

#[test]
fn a_workspace_of_an_earlier_release_is_still_read() {
    let world = World::own();
    world.microagent(["create", "--name", "box", "--image", "busybox", "true"]).outcome().success();
    let path = world.home().join("workspaces/box/workspace.json");
    let digest = format!("sha256:{}", "0".repeat(64));
    let first = format!(
        r#"{{"version":1,"image":"busybox:latest","image_digest":"{digest}","created_at":"2026-01-01T00:00:00Z"}}"#
    );
    std::fs::write(&path, first).unwrap();
    assert_eq!(state(&world, "box"), "created");
    world.microagent(["delete", "--yes", "box"]).outcome().success();
}

#[test]
fn a_status_knows_what_the_guest_uses() {
    let world = World::own().warm_machine();
    started(&world, "box", SERVICE);
    let used = || super::status(&world, "box")["disk"]["used"].as_u64().unwrap();
    let before = used();
    world
        .microagent(["exec", "box", "dd", "if=/dev/zero", "of=/file", "bs=1M", "count=8"])
        .outcome()
        .success();
    assert!(used() >= before + (8 << 20));
    let document = super::status(&world, "box");
    assert!(document["guest_memory"].as_u64().unwrap() > 1 << 20);
    let network = &document["network"];
    assert_eq!((&network["mode"], &network["address"]), (&"user".into(), &"10.0.2.15".into()));
    let shown = world.microagent(["status", "box"]).outcome().success();
    assert!(shown.contains("its guest uses") && shown.contains("guest memory"), "{shown}");
    world.microagent(["halt", "box"]).outcome().success();
    assert!(super::status(&world, "box")["disk"]["used"].is_null());
}
