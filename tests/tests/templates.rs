//! Templates: runs start as copies of a saved machine, and nobody notices anything but the time.

mod clock;
mod damage;
mod identity;
mod isolation;
mod keeping;
mod making;
mod settings;

use std::collections::BTreeMap;
use std::time::Duration;

use microagent_tests::{Invocation, World, processes_of, wait_until};
use serde_json::Value;

/// How long the making of a template in the background may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// When each template was used last, by key.
type Uses = BTreeMap<String, String>;

/// A call that may use and make templates, whatever the environment says of them.
fn with_templates(call: Invocation) -> Invocation {
    call.env("MICROAGENT_TEMPLATES", "8g")
}

/// A world of its own, and the key of its template for the busybox image.
fn warm_world() -> (World, String) {
    let world = World::own();
    let key = warm(&world, &["busybox"]);
    (world, key)
}

/// Has a template made and returns its key.
fn warm(world: &World, words: &[&str]) -> String {
    let call = world.microagent(["template", "warm"]).args(words);
    with_templates(call).outcome().success().trim().to_owned()
}

/// Runs a script in the busybox image and returns what it wrote.
fn script(world: &World, script: &str) -> String {
    with_templates(world.script(script)).outcome().success()
}

fn last_uses(world: &World) -> Uses {
    let listed = world.microagent(["template", "list", "--json"]).outcome().success();
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    let text = |template: &Value, name: &str| template[name].as_str().unwrap().to_owned();
    listed.iter().map(|template| (text(template, "key"), text(template, "used_at"))).collect()
}

/// What `act` makes of the templates: it must use that of `key`, which must stay, and no other.
fn restores(world: &World, key: &str, act: impl FnOnce()) {
    let mut before = last_uses(world);
    act();
    let mut after = last_uses(world);
    let used = after.remove(key);
    // One that could not be restored would have been removed.
    assert!(used.is_some() && used != before.remove(key), "{key} was not restored: {after:?}");
    assert_eq!(before, after);
}

/// Waits until nothing is made in the background any more.
fn at_rest(world: &World) {
    wait_until(PATIENCE, || processes_of(world.home()));
}
