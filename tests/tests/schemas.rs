//! What `--json` prints is what `docs/reference/schemas` says.

use std::path::Path;
use std::time::Duration;

use microagent_tests::{Layout, Registry, World, succeed, tool, wait_until};
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

/// The same for documents that are a line each; there must be some.
pub(crate) fn lines_fit(name: &str, documents: &str) {
    assert!(!documents.trim().is_empty(), "{name}: nothing was printed");
    documents.lines().for_each(|line| fits(name, line));
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
        ("create", &["network", "create", "backend"]),
        ("network-prune", &["network", "prune", "--yes"]),
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
    let line = "run -d --name box -p 127.0.0.1:0:80 --output name=/etc/hostname busybox sleep 1000";
    let line: Vec<&str> = line.split(' ').collect();
    fits("create", &json(&line));
    let file = world.path().join("file");
    std::fs::write(&file, "text").unwrap();
    let file = file.to_str().unwrap();
    for (name, words) in [
        ("list", &["ps"][..]),
        ("status", &["status", "box"]),
        ("stats", &["stats", "--no-stream"]),
        ("network", &["network", "box"]),
        ("port", &["port", "box"]),
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
        ("create", &["quarantine", "box", "--reason", "a test"]),
        ("status", &["status", "box"]),
        ("create", &["quarantine", "--release", "box", "--reason", "the end"]),
        ("create", &["clone", "box", "copy"]),
        ("names", &["delete", "--yes", "box", "copy"]),
    ] {
        // The result of `exec` is in its document; its code is the command's.
        let outcome = world.microagent(["--json"]).args(words).outcome();
        fits(name, &String::from_utf8_lossy(&outcome.stdout));
    }
    fits("template-list", &json(&["template", "list"]));
    fits("template-warm", &json(&["template", "warm"]));
    lines_fit("events-line", &json(&["events"]));
}

#[test]
fn settings_of_every_kind_fit_their_schema() {
    let world = World::own();
    let tar = world.path().join("data.tar");
    succeed(tool("tar", "tar").arg("-cf").arg(&tar).args(["-C", "/etc", "hostname"]));
    let bundle = format!("{}:/bundle", tar.display());
    let words = [
        "create --name full --image busybox --entrypoint sh -e A=b -w /tmp -u 1000:1000 -t -i --hostname h --label k=v",
        "-m 256m --cpus 2 --disk-size 2g -p 127.0.0.1:0:80 --dns 9.9.9.9 --dns-search a.example --dns-option ndots:2 --add-host db:10.0.0.1 --restart on-failure:3",
        "--stop-signal INT --stop-timeout 3 --output name=/etc/hostname -v data:/data --tmpfs /run:size=1m --read-only",
        "--health-cmd true --health-interval 5s --health-timeout 2s --health-start-period 1s --health-retries 2",
        "--pcap /tmp/never-written.pcap --egress deny --allow 10.0.0.0/8:80 --deny 10.1.0.0/16 --require-confinement",
        "--network user --network backend",
    ];
    world.microagent(["network", "create", "backend"]).outcome().success();
    let words: Vec<&str> = words.iter().flat_map(|words| words.split(' ')).collect();
    let create = world.microagent(["--json"]).args(words).args(["-v", &bundle, "--", "-c", "true"]);
    fits("create", &create.outcome().success());
    let json = |words: &[&str]| world.microagent(["--json"]).args(words).outcome().success();
    let status = json(&["status", "full"]);
    fits("status", &status);
    let spec = json(&["status", "--spec", "full"]);
    fits("status-spec", &spec);
    let spec: Value = serde_json::from_str(&spec).unwrap();
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/schemas/status-spec.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(schema).unwrap()).unwrap();
    let known = schema.pointer("/$defs/Spec/properties").unwrap().as_object().unwrap();
    let absent: Vec<&String> = known.keys().filter(|key| spec[0].get(key).is_none()).collect();
    assert_eq!(absent, ["kernel", "service_command"], "what was not set here");
}

#[test]
fn lines_of_streams_fit_their_schemas() {
    let world = World::own().warm_machine();
    let json = |words: &[&str]| world.microagent(["--json"]).args(words).outcome().success();
    let script = "echo text; printf 'no newline' >&2; printf '\\377\\376\\n'; sleep 1000";
    json(&["run", "-d", "--name", "box", "busybox", "sh", "-c", script]);
    wait_until(Duration::from_secs(60), || {
        let logs = json(&["logs", "box"]);
        let said = logs.contains("base64") && logs.contains("no newline");
        if said { Vec::new() } else { vec![logs] }
    });
    lines_fit("logs-line", &json(&["logs", "box"]));
    lines_fit("logs-line", &json(&["logs", "--stderr", "box"]));
    let mut stats = world.microagent(["--json", "stats", "box"]).start();
    stats.wait_for("]\n[");
    stats.signal(rustix::process::Signal::INT);
    let outcome = stats.wait();
    let lines = String::from_utf8(outcome.stdout).unwrap();
    assert!(lines.lines().count() >= 2, "{lines}");
    lines.lines().take(2).for_each(|line| fits("stats", line));
    json(&["kill", "box"]);
    json(&["resize", "box", "--size", "12g"]);
    json(&["rename", "box", "other"]);
    let committed = json(&["commit", "other", "made:1"]);
    fits("commit", &committed);
    let events = json(&["events"]);
    lines_fit("events-line", &events);
    for event in ["created", "started", "killed", "resized", "renamed", "committed"] {
        assert!(events.contains(&format!(r#""event":"{event}""#)), "{event}: {events}");
    }
    json(&["delete", "--yes", "other"]);
}

#[test]
fn documents_of_images_fit_their_schemas() {
    let world = World::own();
    let registry = Registry::with_login();
    let (user, password) = registry.credentials();
    let logins = world.path().join("auth.json");
    let call = |words: &[&str]| {
        let call = world.microagent(["--json"]).args(words);
        call.env("REGISTRY_AUTH_FILE", &logins)
    };
    let json = |words: &[&str]| call(words).outcome().success();
    let name = registry.name();
    let login = ["registry", "login", "-u", user, "--password-stdin", &name];
    fits("registry-login", &call(&login).bytes(format!("{password}\n").as_bytes()).outcome().success());
    fits("registry-list", &json(&["registry", "list"]));
    let target = registry.reference("box:1");
    let archive = world.path().join("saved.tar");
    let archive = archive.to_str().unwrap();
    let tar = world.path().join("rootfs.tar");
    succeed(tool("tar", "tar").arg("-cf").arg(&tar).args(["-C", "/etc", "hostname"]));
    let tar = tar.to_str().unwrap();
    for (name, words) in [
        ("tag", &["tag", "busybox", &target][..]),
        ("push", &["push", &target]),
        ("push", &["push", "--all-platforms", &target]),
        ("save", &["save", "-o", archive, &target]),
        ("load", &["load", "-i", archive]),
        ("import", &["import", "-c", "HEALTHCHECK CMD true", tar, "imported:1"]),
        ("image-inspect", &["image", "inspect", "busybox", "imported:1"]),
        ("image-history", &["image", "history", "imported:1"]),
        ("image-verify", &["image", "verify"]),
        ("image-delete", &["rmi", &target, "imported:1"]),
        ("pull", &["pull", &target]),
        ("image-prune", &["image", "prune", "--yes"]),
        ("registry-logout", &["registry", "logout", &name]),
    ] {
        fits(name, &json(words));
    }
}

/// Each schema is held against real output by a test: its name stands in one.
#[test]
fn every_schema_is_held_against_something() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = String::new();
    let mut pending = vec![here.join("tests")];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tests += &std::fs::read_to_string(path).unwrap();
        }
    }
    let reference = std::fs::read_to_string(here.join("../docs/reference/json.md")).unwrap();
    for entry in std::fs::read_dir(here.join("../docs/reference/schemas")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let held = [format!("fits(\"{name}\""), format!("(\"{name}\", &"), format!("fit(\"{name}\"")];
        assert!(held.iter().any(|call| tests.contains(call)), "no test holds `{name}` against real output");
        assert!(reference.contains(&format!("(schemas/{name}.json)")), "json.md does not name `{name}`");
    }
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
