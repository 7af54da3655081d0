//! A real registry with TLS and logins: in, out, and with other tools on the other side.

use std::path::{Path, PathBuf};
use std::time::Duration;

use microagent_tests::{Invocation, Registry, World, succeed, tool, wait_until};
use serde_json::json;

use super::{layout, parsed};

/// A call that trusts the registry, with logins in a file of its own.
fn call(world: &World, registry: &Registry, words: &[&str]) -> Invocation {
    let (configuration, logins) = places(world);
    let certificates = configuration.join("microagent/certs.d").join(registry.name());
    std::fs::create_dir_all(&certificates).unwrap();
    std::fs::copy(registry.certificate(), certificates.join("ca.crt")).unwrap();
    world.microagent(words).env("XDG_CONFIG_HOME", configuration).env("REGISTRY_AUTH_FILE", logins)
}

fn places(world: &World) -> (PathBuf, PathBuf) {
    (world.path().join("configuration"), world.path().join("auth.json"))
}

fn skopeo(logins: &Path, from: &str, to: &str) {
    succeed(
        tool("skopeo", "skopeo")
            .args(["--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"])
            .arg("--authfile")
            .arg(logins)
            .args([from, to]),
    );
}

#[test]
fn log_in_push_pull_tag_and_delete_with_skopeo_on_the_other_side() {
    let world = World::own();
    let registry = Registry::with_tls_and_login();
    let (_, logins) = places(&world);
    let (user, password) = registry.credentials();
    let host = registry.name();
    let tag = |name: &str| registry.reference(name);

    let archive = world.path().join("layout");
    layout(&world, "there and back");
    let name = tag("team/greeting:1");
    call(&world, &registry, &["load", "-i", archive.to_str().unwrap(), "--name", &name]).outcome().success();
    let id_of = |name: &str| {
        let words = ["image", "inspect", "--json", name];
        parsed(&call(&world, &registry, &words).outcome().success())[0]["id"].clone()
    };
    let id = id_of(&name);
    let refused = call(&world, &registry, &["push", &name]).outcome().error(1);
    assert!(refused.contains(&format!("microagent registry login {host}")), "{refused}");

    let log_in = |password: &str| {
        let words = ["registry", "login", "-u", user, "--password-stdin", &host];
        call(&world, &registry, &words).bytes(format!("{password}\n").as_bytes()).outcome()
    };
    let refused = log_in("wrong").error(1);
    assert!(refused.contains("check the user's name"), "{refused}");
    log_in(password).success();
    let listed = call(&world, &registry, &["registry", "list", "--json"]).outcome().success();
    assert_eq!(
        parsed(&listed),
        json!([{ "registry": host, "user": user, "kept_in": logins.display().to_string() }])
    );

    let pushed = parsed(&call(&world, &registry, &["push", "--json", &name]).outcome().success());
    assert_eq!((&pushed["sent"], &pushed["present"]), (&json!(2), &json!(0)), "{pushed}");
    let other = tag("team/other:1");
    call(&world, &registry, &["tag", &name, &other]).outcome().success();
    let pushed = parsed(&call(&world, &registry, &["push", "--json", &other]).outcome().success());
    assert_eq!((&pushed["sent"], &pushed["mounted"]), (&json!(1), &json!(1)), "{pushed}");

    // Out by skopeo with our login, and in again under another name.
    let copy = format!("oci:{}:copy", world.path().join("copy").display());
    skopeo(&logins, &format!("docker://{other}"), &copy);
    let back = tag("team/back:2");
    skopeo(&logins, &copy, &format!("docker://{back}"));

    for name in [&name, &other] {
        call(&world, &registry, &["rmi", name]).outcome().success();
    }
    call(&world, &registry, &["pull", &back]).outcome().success();
    // skopeo packs layers, which makes another manifest; what is in them is the same.
    assert_eq!(id_of(&back), id);
    let run = call(&world, &registry, &["run", &back]).outcome();
    assert_eq!(run.success(), "there and back\n");

    let out = call(&world, &registry, &["registry", "logout", "--json", &host]).outcome().success();
    assert_eq!(parsed(&out)["was_logged_in"], json!(true));
    let error = call(&world, &registry, &["pull", "--json", &name]).outcome().error(1);
    assert_eq!(parsed(&error)["error"]["kind"], "unauthorized", "{error}");
}

#[test]
fn a_password_is_asked_for_and_not_shown_and_the_terminal_is_as_it_was() {
    let world = World::own();
    let registry = Registry::with_tls_and_login();
    let (user, password) = registry.credentials();
    let mut terminal = call(&world, &registry, &["registry", "login", &registry.name()]).on_terminal(24, 100);
    let before = terminal.mode();
    terminal.expect("user of");
    terminal.send(format!("{user}\n").as_bytes());
    terminal.expect("password of me: ");
    assert_ne!(terminal.mode(), before);
    terminal.send(format!("{password}\n").as_bytes());
    terminal.expect("logged in");
    assert_eq!(terminal.wait().code(), Some(0));
    assert!(!terminal.shown().contains(password), "{}", terminal.shown());
    assert_eq!(terminal.mode(), before);

    let words = ["registry", "login", "-u", user, &registry.name()];
    let mut terminal = call(&world, &registry, &words).on_terminal(24, 100);
    terminal.expect("password of me: ");
    terminal.signal(rustix::process::Signal::KILL);
    terminal.wait();
    // What is typed is shown again.
    wait_until(Duration::from_secs(20), || {
        let mode = terminal.mode();
        if mode == before { Vec::new() } else { vec![mode] }
    });
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_told_with_what_to_do() {
    let world = World::own();
    let registry = Registry::with_tls_and_login();
    let (configuration, logins) = places(&world);
    let empty = configuration.join("microagent/certs.d").join(registry.name());
    std::fs::create_dir_all(empty).unwrap();
    let call = world.microagent(["pull", &registry.reference("greeting:1")]);
    let call = call.env("XDG_CONFIG_HOME", configuration).env("REGISTRY_AUTH_FILE", logins);
    let error = call.outcome().error(1);
    assert!(error.contains("certs.d"), "{error}");
}

#[test]
fn an_image_without_a_digest_is_not_pulled_where_one_is_required() {
    let world = World::fresh();
    let error =
        world.microagent(["pull", "--json", "--require-digest", "127.0.0.1:1/a:1"]).outcome().error(1);
    assert_eq!(parsed(&error)["error"]["kind"], "digest_required", "{error}");
    let configuration = world.path().join("configuration");
    std::fs::create_dir_all(configuration.join("microagent")).unwrap();
    std::fs::write(configuration.join("microagent/registries.yaml"), "require_digest: true\n").unwrap();
    let call = world.microagent(["pull", "127.0.0.1:1/a:1"]).env("XDG_CONFIG_HOME", &configuration);
    assert!(call.outcome().error(1).contains("sha256:"));
    std::fs::write(configuration.join("microagent/registries.yaml"), "require: true\n").unwrap();
    let call = world.microagent(["pull", "127.0.0.1:1/a:1"]).env("XDG_CONFIG_HOME", &configuration);
    let error = call.outcome().error(1);
    assert!(error.contains("registries.yaml") && error.contains("unknown field"), "{error}");
}

#[test]
fn what_was_pulled_for_this_host_is_ready_to_run() {
    let world = World::own();
    let registry = Registry::open();
    let archive = world.path().join("layout");
    layout(&world, "ready");
    let name = registry.reference("greeting:1");
    world.microagent(["load", "-i", archive.to_str().unwrap(), "--name", &name]).outcome().success();
    world.microagent(["push", &name]).outcome().success();
    let roots = || {
        let entries = std::fs::read_dir(world.home().join("rootfs")).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let forget = || {
        world.microagent(["rmi", &name]).outcome().success();
        std::fs::remove_dir_all(world.home().join("rootfs")).unwrap();
    };
    forget();
    world.microagent(["pull", &name]).outcome().success();
    let made = roots();
    assert!(made.len() == 1 && made[0].contains(".erofs"), "{made:?}");
    let written = || world.home().join("rootfs").join(&made[0]).metadata().unwrap().modified().unwrap();
    let before = written();
    assert_eq!(world.microagent(["run", &name]).outcome().success(), "ready\n");
    assert_eq!(written(), before);

    // What cannot be run is here all the same.
    forget();
    let settings = world.path().join("user/.config/microagent");
    std::fs::create_dir_all(&settings).unwrap();
    std::fs::write(settings.join("limits.yaml"), "files: 1").unwrap();
    let pulled = world.microagent(["pull", "--json", &name]).outcome();
    let talk = String::from_utf8(pulled.stderr.clone()).unwrap();
    assert!(talk.contains("warning: cannot use image") && talk.contains("raise `files`"), "{talk}");
    assert_eq!(parsed(&pulled.success())["image"], json!(name));
    assert_eq!(roots(), Vec::<String>::new());
    let error = world.microagent(["run", "--pull", "always", &name]).outcome().error(125);
    assert!(error.contains("raise `files`"), "{error}");
}

#[test]
fn an_image_for_several_platforms_goes_there_and_back_and_into_an_archive() {
    let world = World::own();
    let registry = Registry::open();
    let name = registry.reference("many:1");
    let tar = world.path().join("rootfs.tar");
    for platform in ["linux/amd64", "linux/arm64"] {
        let file = world.path().join("platform");
        std::fs::write(&file, platform).unwrap();
        succeed(tool("tar", "tar").arg("-cf").arg(&tar).arg("-C").arg(world.path()).arg("platform"));
        let tar = tar.to_str().unwrap();
        world.microagent(["import", "--platform", platform, tar, &name]).outcome().success();
    }
    let both = json!(["linux/amd64", "linux/arm64"]);
    let words = ["push", "--all-platforms", "--json", &name];
    let pushed = parsed(&world.microagent(words).outcome().success());
    assert_eq!((&pushed["platforms"], &pushed["sent"]), (&both, &json!(4)), "{pushed}");
    let raw = tool("skopeo", "skopeo")
        .args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")])
        .output()
        .unwrap();
    assert_eq!(parsed(&String::from_utf8(raw.stdout).unwrap())["manifests"].as_array().unwrap().len(), 2);
    world.microagent(["rmi", &name]).outcome().success();

    let words = ["pull", "--all-platforms", "--json", &name];
    let pulled = parsed(&world.microagent(words).outcome().success());
    let platforms: Vec<_> =
        pulled.as_array().unwrap().iter().map(|image| image["platform"].clone()).collect();
    assert_eq!(json!(platforms), both);
    let archive = world.path().join("many.tar");
    let archive = archive.to_str().unwrap();
    let words = ["save", "--all-platforms", "--format", "oci-archive", "-o", archive, "--json", &name];
    let saved = parsed(&world.microagent(words).outcome().success());
    assert_eq!(saved["images"].as_array().unwrap().len(), 2, "{saved}");
    world.microagent(["rmi", &name]).outcome().success();
    let words = ["load", "-i", archive, "--platform", "linux/arm64"];
    assert_eq!(world.microagent(words).outcome().success(), format!("{name}\n"));
    let listed = world.microagent(["images"]).outcome().success();
    assert!(listed.contains("linux/arm64"), "{listed}");
    let error =
        world.microagent(["push", "--all-platforms", "--platform", "linux/arm64", &name]).outcome().error(2);
    assert!(error.contains("--all-platforms"), "{error}");
}
