//! Which templates stay: none where none are wanted, and as many as the budget holds.

use microagent_tests::World;
use serde_json::Value;

use super::{Uses, at_rest, last_uses, script, warm, warm_world, with_templates};

#[test]
fn a_run_that_wants_no_template_uses_none_and_makes_none() {
    let world = World::own();
    for words in [["--templates", "8g", "--cold"], ["--templates", "off", "--rm"]] {
        let call = world.run(words).args(["busybox", "echo", "hello"]);
        assert_eq!(call.outcome().success(), "hello\n");
        at_rest(&world);
        assert_eq!(last_uses(&world), Uses::new());
    }
    warm(&world, &["busybox"]);
    let before = last_uses(&world);
    for words in [["--templates", "8g", "--cold"], ["--templates", "off", "--rm"]] {
        world.run(words).args(["busybox", "true"]).outcome().success();
    }
    assert_eq!(last_uses(&world), before);
}

#[test]
fn the_least_recently_used_goes_when_the_budget_is_full() {
    let (world, first) = warm_world();
    let second = warm(&world, &["--network", "isolated", "busybox"]);
    script(&world, "true");
    let largest = listed(&world, &["list"]).iter().map(|template| template["size"].as_u64().unwrap()).max();
    let budget = format!("{}m", (largest.unwrap() * 3 / 2) >> 20);
    let deleted = listed(&world, &["prune", "--templates", &budget]);
    assert_eq!(deleted.iter().map(|template| &template["key"]).collect::<Vec<_>>(), [second.as_str()]);
    assert_eq!(last_uses(&world).into_keys().collect::<Vec<_>>(), [first]);

    let call =
        world.microagent(["template", "warm", "--templates", &budget, "--network", "isolated", "busybox"]);
    assert_eq!(call.outcome().success().trim(), second);
    assert_eq!(last_uses(&world).into_keys().collect::<Vec<_>>(), [second]);
}

#[test]
fn a_template_that_the_budget_cannot_hold_drives_out_no_other() {
    let (world, key) = warm_world();
    let call =
        world.microagent(["template", "warm", "--templates", "1m", "--network", "isolated", "busybox"]);
    let error = call.outcome().error(1);
    assert!(error.contains("does not fit into the budget of `1m`"), "{error}");
    assert_eq!(last_uses(&world).into_keys().collect::<Vec<_>>(), [key]);
}

#[test]
fn all_templates_can_be_deleted_at_once() {
    let (world, key) = warm_world();
    let deleted = listed(&world, &["prune", "--all"]);
    assert_eq!((deleted.len(), &deleted[0]["key"]), (1, &Value::from(key)));
    assert_eq!(last_uses(&world), Uses::new());
}

#[test]
fn templates_are_deleted_by_key() {
    let (world, key) = warm_world();
    let text = world.microagent(["template", "list"]).outcome().success();
    assert!(text.starts_with("KEY ") && text.contains(&key) && text.contains("busybox"), "{text}");
    world.microagent(["template", "delete", &key]).outcome().success();
    assert_eq!(last_uses(&world), Uses::new());
    let error = world.microagent(["template", "delete", &key]).outcome().error(1);
    assert!(error.contains(&format!("no template `{key}`")) && error.contains("hint:"), "{error}");
    let error = world.microagent(["template", "delete", "../images"]).outcome().error(2);
    assert!(error.contains("not a template's key"), "{error}");
}

/// The templates that a `template` verb shows.
fn listed(world: &World, words: &[&str]) -> Vec<Value> {
    let call = with_templates(world.microagent(["template", "--json"]).args(words));
    serde_json::from_str(&call.outcome().success()).unwrap()
}
