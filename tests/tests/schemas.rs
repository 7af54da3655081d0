//! What `--json` prints is what `docs/reference/schemas` says.

use std::path::Path;

use microagent_tests::{Layout, Registry, World};
use serde_json::Value;

/// Checks real documents against the schema `name`.
pub(crate) fn fits(name: &str, document: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/reference/schemas/{name}.json"));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let document: Value =
        serde_json::from_str(document).unwrap_or_else(|error| panic!("{name}: {error}: {document}"));
    if let Err(reason) = check(&document, &schema, &schema) {
        panic!("{name}: {reason}\n{document:#}");
    }
}

/// The part of JSON Schema (2020-12) that our schemas use. A key that no schema names is a failure.
fn check(value: &Value, schema: &Value, root: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.trim_start_matches('#')).ok_or(format!("no {reference}"))?;
        return check(value, target, root);
    }
    for keyword in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[keyword].as_array() {
            let fits = choices.iter().any(|choice| check(value, choice, root).is_ok());
            return if fits { Ok(()) } else { Err(format!("{value} is none of {choices:?}")) };
        }
    }
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        return Err(format!("{value} is none of {values:?}"));
    }
    if !schema["const"].is_null() && schema["const"] != *value {
        return Err(format!("{value} is not {}", schema["const"]));
    }
    has_type(value, &schema["type"])?;
    if let Some(items) = value.as_array() {
        items.iter().try_for_each(|item| check(item, &schema["items"], root))?;
    }
    let (Some(object), Some(properties)) = (value.as_object(), schema["properties"].as_object()) else {
        return Ok(());
    };
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        object.get(key).ok_or(format!("`{key}` is missing"))?;
    }
    for (key, value) in object {
        let schema = properties.get(key).ok_or(format!("`{key}` is in no schema"))?;
        check(value, schema, root).map_err(|reason| format!("`{key}`: {reason}"))?;
    }
    Ok(())
}

fn has_type(value: &Value, wanted: &Value) -> Result<(), String> {
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    let fits = match wanted {
        Value::Null => true,
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("{value} is no {wanted}")) }
}

#[test]
fn the_checker_refuses_what_does_not_fit() {
    let schema = serde_json::json!({
        "type": "object", "required": ["a"],
        "properties": { "a": { "type": ["string", "null"] }, "b": { "anyOf": [{ "type": "integer" }] } },
    });
    let fits = |value: Value| check(&value, &schema, &schema).is_ok();
    assert!(fits(serde_json::json!({ "a": null })) && fits(serde_json::json!({ "a": "", "b": 1 })));
    for bad in [serde_json::json!({}), serde_json::json!({ "a": 1 }), serde_json::json!({ "a": "", "b": "" })]
    {
        assert!(!fits(bad));
    }
    assert!(!fits(serde_json::json!({ "a": "", "c": 1 })), "unknown keys");
}

#[test]
fn documents_of_the_host_fit_their_schemas() {
    let world = World::own();
    let json = |words: &[&str]| world.microagent(["--json"]).args(words).outcome().success();
    for (name, words) in [
        ("version", &["version"][..]),
        ("doctor", &["doctor"]),
        ("df", &["df"]),
        ("image-list", &["images"]),
        ("kernel-list", &["kernel", "list"]),
        ("template-list", &["template", "list"]),
        ("prune", &["prune", "--yes"]),
        ("create", &["create", "--image", "busybox", "--label", "a=b"]),
        ("list", &["list"]),
        ("list", &["ps"]),
        ("names", &["list", "-q"]),
        ("create", &["volume", "create", "data"]),
        ("volume-status", &["volume", "list"]),
        ("volume-status", &["volume", "status", "data"]),
        ("volume-prune", &["volume", "prune", "--yes"]),
    ] {
        fits(name, &json(words));
    }
    let loaded = world.microagent(["--json", "load", "--name", "again"]).input_from(world.busybox_archive());
    fits("load", &loaded.outcome().success());
    for (words, code) in [(&["run"][..], 125), (&["kernel", "use", "0.0.0-none"], 1), (&["build", "."], 2)] {
        fits("error", &world.microagent(["--json"]).args(words).outcome().error(code));
    }
}

#[test]
fn documents_of_a_workspace_fit_their_schemas() {
    let world = World::own().warm_machine();
    let json = |words: &[&str]| world.microagent(["--json"]).args(words).outcome().success();
    let line = ["run", "-d", "--name", "box", "--output", "name=/etc/hostname", "busybox", "sleep", "1000"];
    fits("create", &json(&line));
    let file = world.path().join("file");
    std::fs::write(&file, "text").unwrap();
    let file = file.to_str().unwrap();
    for (name, words) in [
        ("list", &["ps"][..]),
        ("status", &["status", "box"]),
        ("stats", &["stats", "--no-stream"]),
        ("exec", &["exec", "box", "echo", "text"]),
        ("exec", &["exec", "box", "printf", "\\377"]),
        ("exec", &["exec", "box", "no-such-program"]),
        ("cp", &["cp", file, "box:/tmp/"]),
        ("artifacts", &["artifacts", "box"]),
        ("names", &["pause", "box"]),
        ("names", &["resume", "box"]),
        ("names", &["stop", "box"]),
        ("wait", &["wait", "box"]),
        ("status", &["status", "box"]),
        ("list", &["list"]),
        ("names", &["delete", "--yes", "box"]),
    ] {
        // The result of `exec` is in its document; its code is the command's.
        let outcome = world.microagent(["--json"]).args(words).outcome();
        fits(name, &String::from_utf8_lossy(&outcome.stdout));
    }
    fits("template-list", &json(&["template", "list"]));
}

#[test]
fn a_pulled_image_fits_its_schema() {
    let world = World::own();
    let registry = Registry::open();
    // A layer without files: two empty blocks end a tar.
    let layout = Layout::write(&world.path().join("layout"), &[0; 1024], &serde_json::json!({}));
    registry.push(&layout, "empty:1");
    let call = world.microagent(["--json", "pull", &registry.reference("empty:1")]);
    fits("pull", &call.env("DOCKER_CONFIG", registry.docker_config()).outcome().success());
}
