//! Where images come from: registries and archives.

mod registry;
mod verbs;

use std::path::PathBuf;

use microagent_tests::{Layout, Registry, World, succeed, tool};
use serde_json::{Value, json};

/// A small image of its own, so that nothing of it is in a store yet.
fn layout(world: &World, greeting: &str) -> Layout {
    let mut tar = tar::Builder::new(Vec::new());
    let program = std::fs::read("/bin/busybox").expect("sudo apt-get install busybox-static");
    for (path, content) in [("bin/sh", program.as_slice()), ("greeting", greeting.as_bytes())] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, path, content).unwrap();
    }
    let config = json!({ "Cmd": ["/bin/sh", "-c", "read -r line < /greeting; echo $line"] });
    Layout::write(&world.path().join("layout"), &tar.into_inner().unwrap(), &config)
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn an_image_is_pulled_and_runs_without_its_registry() {
    let world = World::own();
    let registry = Registry::open();
    registry.push(&layout(&world, "pulled"), "greeting:1");
    let name = registry.reference("greeting:1");
    let pulled = parsed(&world.microagent(["pull", "--json", &name]).outcome().success());
    assert_eq!(pulled["image"], json!(name));
    assert!(pulled["digest"].as_str().unwrap().starts_with("sha256:"), "{pulled}");
    drop(registry);
    assert_eq!(world.run([&name]).outcome().success(), "pulled\n");
    let error = world.run(["--pull", "always", &name]).outcome().error(125);
    assert!(error.contains("hint:"), "{error}");
}

#[test]
fn a_run_pulls_what_is_missing() {
    let world = World::own();
    let registry = Registry::open();
    registry.push(&layout(&world, "fetched"), "greeting:1");
    let name = registry.reference("greeting:1");
    let outcome = world.run([&name]).outcome();
    assert_eq!(outcome.success(), "fetched\n");
    assert_eq!(outcome.error(0), "");
}

#[test]
fn a_login_comes_from_dockers_configuration() {
    let world = World::own();
    let registry = Registry::with_login();
    registry.push(&layout(&world, "private"), "greeting:1");
    let name = registry.reference("greeting:1");
    let refused = world.microagent(["pull", &name]).outcome().error(1);
    assert!(refused.contains("hint:") && refused.contains("microagent registry login"), "{refused}");
    let call = world.run([&name]).env("DOCKER_CONFIG", registry.docker_config());
    assert_eq!(call.outcome().success(), "private\n");
}

#[test]
fn an_image_that_the_registry_lacks_is_told() {
    let world = World::own();
    let registry = Registry::open();
    let name = registry.reference("nosuch:1");
    let error = world.run([&name]).outcome().error(125);
    assert!(error.contains("nosuch:1"), "{error}");
    let error = world.microagent(["pull", "--json", &name]).outcome().error(1);
    assert_eq!(parsed(&error)["error"]["kind"], "image_not_found", "{error}");
}

#[test]
fn an_archive_is_loaded_from_standard_input() {
    let world = World::own();
    let archive = world.path().join("archive.tar");
    let destination = format!("docker-archive:{}:loaded:1", archive.display());
    let source = layout(&world, "loaded").for_skopeo();
    succeed(tool("skopeo", "skopeo").args(["--insecure-policy", "copy", "-q", &source, &destination]));
    let loaded = world.microagent(["load", "--json"]).input_from(std::fs::File::open(&archive).unwrap());
    let loaded = parsed(&loaded.outcome().success());
    assert_eq!(loaded[0]["names"].as_array().unwrap().len(), 1, "{loaded}");
    assert_eq!(world.run(["loaded:1"]).outcome().success(), "loaded\n");
}

#[test]
fn an_archive_that_is_cut_off_leaves_nothing() {
    let world = World::own();
    let archive = world.path().join("archive.tar");
    let destination = format!("oci-archive:{}:cut", archive.display());
    let source = layout(&world, "cut").for_skopeo();
    succeed(tool("skopeo", "skopeo").args(["--insecure-policy", "copy", "-q", &source, &destination]));
    let bytes = std::fs::read(&archive).unwrap();
    let before = world.listing();
    let call = world.microagent(["load"]).bytes(&bytes[..bytes.len() / 2]);
    call.outcome().error(1);
    assert_eq!(world.new_since(&before), Vec::<PathBuf>::new());
}

#[test]
fn lists_are_text_and_json() {
    let world = World::shared();
    let text = world.microagent(["images"]).outcome().success();
    assert!(text.lines().next().unwrap().starts_with("IMAGE") && text.contains("busybox"), "{text}");
    let listed = parsed(&world.microagent(["image", "list", "--json"]).outcome().success());
    let names: Vec<_> =
        listed.as_array().unwrap().iter().map(|image| image["image"].as_str().unwrap()).collect();
    assert!(names.iter().any(|name| name.contains("debian:12")), "{names:?}");
    let by_variable = world.microagent(["images"]).env("MICROAGENT_OUTPUT", "json").outcome().success();
    assert_eq!(parsed(&by_variable), listed);
    let kernels = parsed(&world.microagent(["kernel", "list", "--json"]).outcome().success());
    assert_eq!(kernels[0]["default"], json!(true));
}
