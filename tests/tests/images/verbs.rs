//! What is done with images that are here.

use std::fs::File;

use microagent_tests::{World, succeed, tool};
use serde_json::{Value, json};

use super::{layout, parsed};

/// A world with the image `greeting:1`, and that image's ID.
fn with_image() -> (World, String) {
    let world = World::own();
    let layout = layout(&world, "hello");
    let path = layout.path().display().to_string();
    world.microagent(["load", "-i", &path, "--name", "greeting:1"]).outcome().success();
    let id = inspected(&world, "greeting:1")["id"].as_str().unwrap().to_owned();
    (world, id)
}

fn inspected(world: &World, image: &str) -> Value {
    parsed(&world.microagent(["image", "inspect", "--json", image]).outcome().success())[0].clone()
}

/// The names of all images but those that every home has.
fn names(world: &World) -> Vec<String> {
    let listed = parsed(&world.microagent(["images", "--json"]).outcome().success());
    let names = listed.as_array().unwrap().iter().map(|image| image["image"].as_str().unwrap().to_owned());
    let usual = ["busybox:latest", "configured:latest", "debian:12"];
    names.filter(|name| !usual.contains(&name.as_str())).collect()
}

#[test]
fn names_are_given_and_taken_and_the_image_goes_with_the_last() {
    let (world, id) = with_image();
    world.microagent(["tag", "greeting:1", "team/greeting:2"]).outcome().success();
    world.microagent(["tag", &id[7..19], "by-id"]).outcome().success();
    assert_eq!(names(&world), ["by-id:latest", "greeting:1", "team/greeting:2"]);
    assert_eq!(world.microagent(["rmi", "greeting:1"]).outcome().success(), "untagged: greeting:1\n");
    let error = world.microagent(["rmi", &id]).outcome().error(1);
    assert!(error.contains("several names") && error.contains("hint:"), "{error}");
    world.microagent(["rmi", "by-id"]).outcome().success();
    let last = parsed(&world.microagent(["rmi", "--json", &id[..19]]).outcome().success());
    assert_eq!(
        (&last["untagged"], last["deleted"].as_array().unwrap().len()),
        (&json!(["team/greeting:2"]), 1)
    );
    assert!(last["freed"].as_u64().unwrap() > 100_000, "{last}");
    assert_eq!(names(&world), Vec::<String>::new());
    let error = world.microagent(["rmi", "greeting:1", "nosuch"]).outcome().error(1);
    assert_eq!(error.matches("there is no image").count(), 2, "{error}");
    world.microagent(["rmi", "--force", "nosuch"]).outcome().success();
    world.microagent(["tag", "nosuch", "other"]).outcome().error(1);
}

#[test]
fn what_a_workspace_is_made_from_stays() {
    let (world, id) = with_image();
    world.microagent(["create", "--name", "web", "--image", "greeting:1"]).outcome().success();
    let error = world.microagent(["rmi", "greeting:1"]).outcome().error(1);
    assert!(error.contains("workspace `web` is made from it") && error.contains("--force"), "{error}");
    world.microagent(["rmi", &id]).outcome().error(1);
    let kept = parsed(&world.microagent(["rmi", "--json", "--force", "greeting:1"]).outcome().success());
    assert_eq!((kept["kept"].as_array().unwrap().len(), &kept["deleted"]), (1, &json!([])), "{kept}");
    assert_eq!(names(&world), ["<none>"]);
    world.microagent(["image", "prune", "--yes"]).outcome().success();
    assert_eq!(inspected(&world, &id)["id"], json!(id));
    world.microagent(["delete", "--force", "web"]).outcome().success();
    let error = world.microagent(["image", "prune"]).outcome().error(2);
    assert!(error.contains("microagent image prune --yes"), "{error}");
    let pruned = parsed(&world.microagent(["image", "prune", "--yes", "--json"]).outcome().success());
    assert_eq!(pruned["deleted"].as_array().unwrap().len(), 1, "{pruned}");
    assert_eq!(names(&world), Vec::<String>::new());
}

#[test]
fn all_is_told_of_an_image() {
    let (world, id) = with_image();
    let image = inspected(&world, "greeting:1");
    assert_eq!(image["names"], json!(["greeting:1"]));
    assert_eq!(image["command"][0], json!("/bin/sh"));
    assert_eq!(image["layers"].as_array().unwrap().len(), 1);
    assert_eq!(image["healthcheck"], Value::Null);
    let text = world.microagent(["image", "inspect", "greeting:1", "busybox"]).outcome().success();
    assert!(text.contains(&id) && text.contains("Layer") && text.contains("\n\nID"), "{text}");
    let error = world.microagent(["image", "inspect", "greeting:1", "nosuch"]).outcome();
    assert_eq!(error.code(), 1);
    let history = parsed(&world.microagent(["image", "history", "--json", "greeting:1"]).outcome().success());
    assert_eq!(history[0]["layer"], image["layers"][0]["digest"]);
    let text = world.microagent(["image", "history", "greeting:1"]).outcome().success();
    assert!(text.starts_with("CREATED"), "{text}");
}

#[test]
fn a_saved_image_comes_back_and_podman_reads_it() {
    let (world, id) = with_image();
    let archive = world.path().join("saved.tar");
    let path = archive.display().to_string();
    let saved = parsed(&world.microagent(["save", "--json", "-o", &path, "greeting:1"]).outcome().success());
    assert_eq!(saved["images"], json!([{ "id": id, "platform": "linux/amd64", "names": ["greeting:1"] }]));
    let piped = world.microagent(["save", "greeting:1"]).outcome();
    assert_eq!(piped.code(), 0);
    assert!(piped.stdout == std::fs::read(&archive).unwrap(), "a pipe gets the same bytes");
    // Its paths must be short.
    let storage = tempfile::tempdir().unwrap();
    succeed(
        tool("podman", "podman")
            .arg("--root")
            .arg(storage.path().join("root"))
            .arg("--runroot")
            .arg(storage.path().join("run"))
            .args(["--storage-driver", "vfs", "load", "-q", "-i", &path]),
    );
    world.microagent(["rmi", "greeting:1"]).outcome().success();
    world.microagent(["load"]).input_from(File::open(&archive).unwrap()).outcome().success();
    for name in ["greeting:1", &id[7..19], &id] {
        assert_eq!(world.run([name]).outcome().success(), "hello\n");
    }
    let layout = world.path().join("saved-layout").display().to_string();
    world.microagent(["save", "--format", "oci-dir", "-o", &layout, &id]).outcome().success();
    let again = world.microagent(["save", "--format", "oci-dir", "-o", &layout, &id]).outcome().error(1);
    assert!(again.contains("not empty"), "{again}");
    world.microagent(["save", "--format", "oci-dir", &id]).outcome().error(2);
    assert!(!world.listing().iter().any(|path| path.to_string_lossy().contains(".microagent-save")));
}

#[test]
fn an_imported_root_file_system_runs() {
    let world = World::own();
    let tar = world.path().join("root.tar");
    let mut builder = tar::Builder::new(File::create(&tar).unwrap());
    let program = std::fs::read("/bin/busybox").expect("sudo apt-get install busybox-static");
    let mut header = tar::Header::new_gnu();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    builder.append_data(&mut header, "bin/sh", program.as_slice()).unwrap();
    builder.finish().unwrap();
    let path = tar.display().to_string();
    let changes =
        ["-c", r#"ENTRYPOINT ["/bin/sh", "-c"]"#, "-c", "ENV A='made here'", "-c", r#"CMD ["echo $A"]"#];
    let words = [&["import", "--json", "-m", "a test"], &changes[..], &[&path, "made:1"]].concat();
    let imported = parsed(&world.microagent(words).outcome().success());
    assert_eq!(imported["image"], json!("docker.io/library/made:1"));
    assert_eq!(world.run(["made:1"]).outcome().success(), "made here\n");
    let history = parsed(&world.microagent(["image", "history", "--json", "made:1"]).outcome().success());
    assert_eq!(history[0]["comment"], json!("a test"));
    world.microagent(["import", "-c", "RUN x", &path]).outcome().error(2);
    let error = world.microagent(["import", "-"]).bytes(b"no tar").outcome().error(1);
    assert!(error.contains("not a whole tar"), "{error}");
    let error = world.microagent(["import", "https://example.com/a.tar"]).outcome().error(2);
    assert!(error.contains("curl"), "{error}");
}

#[test]
fn damage_is_found_and_what_is_damaged_is_not_hidden() {
    let (world, _) = with_image();
    world.microagent(["image", "verify"]).outcome().success();
    let layer = inspected(&world, "greeting:1")["layers"][0]["digest"].as_str().unwrap().to_owned();
    let blob = world.home().join("images/blobs/sha256").join(&layer[7..]);
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[1000] ^= 1;
    // The file may be shared with other homes.
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, bytes).unwrap();
    let verified = world.microagent(["image", "verify", "--json", "greeting:1"]).outcome();
    assert_eq!(verified.code(), 1);
    let document = parsed(std::str::from_utf8(&verified.stdout).unwrap());
    assert_eq!(
        document["problems"],
        json!([{ "digest": layer, "fault": "damaged", "images": ["greeting:1"] }])
    );
    let listed = world.microagent(["images", "greeting:1"]).outcome().success();
    assert!(listed.contains("damaged"), "{listed}");
    world.microagent(["rmi", "greeting:1"]).outcome().success();
    world.microagent(["image", "verify"]).outcome().success();
}

#[test]
fn what_passes_a_limit_is_told_with_where_to_raise_it() {
    let (world, _) = with_image();
    let archive = world.path().join("greeting.tar");
    let archive = archive.to_str().unwrap();
    world.microagent(["save", "-o", archive, "greeting:1"]).outcome().success();
    let settings = world.path().join("user/.config/microagent");
    std::fs::create_dir_all(&settings).unwrap();
    let set = |text: &str| std::fs::write(settings.join("limits.yaml"), text).unwrap();
    std::fs::remove_dir_all(world.home().join("rootfs")).unwrap();
    for (text, key, image) in [
        ("unpacked_size: 100k", "unpacked_size", "busybox"),
        ("files: 2", "files", "greeting:1"),
        ("names_size: 3", "names_size", "greeting:1"),
    ] {
        set(text);
        let layer = inspected(&world, image)["layers"][0]["digest"].as_str().unwrap().to_owned();
        for words in [["run", image].as_slice(), &["create", "--image", image]] {
            let error = world.microagent(words).outcome().error(if words[0] == "run" { 125 } else { 1 });
            assert!(error.contains(&format!("image `{image}")) && error.contains(&layer), "{error}");
            assert!(error.contains(&format!("raise `{key}` in {}", settings.display())), "{error}");
        }
    }
    set("archive_size: 1k");
    let error = world.microagent(["load", "-i", archive]).outcome().error(1);
    assert!(error.contains("more than 1024 bytes") && error.contains("raise `archive_size`"), "{error}");
    set("archive_size: many");
    let error = world.microagent(["load", "-i", archive]).outcome().error(1);
    assert!(error.contains("limits.yaml") && error.contains("`many` is not a size"), "{error}");
    set("files: 100");
    world.microagent(["create", "--name", "fits", "--image", "greeting:1"]).outcome().success();
}
