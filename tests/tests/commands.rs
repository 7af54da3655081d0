//! The list of all commands in `docs/reference/commands.md`, run from top to bottom.

use std::collections::BTreeSet;
use std::path::Path;

use microagent_tests::{Registry, World, kernel_package, succeed, tool};

use crate::guide::{Guide, release};

const PAGE: &str = "../docs/reference/commands.md";

/// The lines of the page: shell code, in its order.
fn lines() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(path).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once("| "));
    rows.filter_map(|(_, run)| Some(run.strip_prefix('`')?.strip_suffix('`')?.to_owned())).collect()
}

/// The commands that have a manual page, without those that only have others below them.
fn commands(world: &World) -> BTreeSet<String> {
    let directory = world.path().join("man");
    std::fs::create_dir(&directory).unwrap();
    world.microagent(["man", directory.to_str().unwrap()]).outcome().success();
    let pages =
        std::fs::read_dir(directory).unwrap().map(|page| page.unwrap().file_name().into_string().unwrap());
    let names: BTreeSet<String> = pages
        .filter_map(|page| Some(page.strip_prefix("microagent-")?.strip_suffix(".1")?.replace('-', " ")))
        .collect();
    let is_group = |name: &&String| names.iter().any(|other| other.starts_with(&format!("{name} ")));
    // These do something of their own, too.
    names
        .iter()
        .filter(|name| !is_group(name) || ["network", "port"].contains(&name.as_str()))
        .cloned()
        .collect()
}

#[test]
fn each_command_is_on_the_list() {
    let world = World::fresh();
    let lines = lines();
    let runs = |command: &String| {
        let words = format!("microagent {command}");
        let mut parts = lines.iter().flat_map(|line| line.split("; "));
        parts.any(|part| part == words || part.starts_with(&format!("{words} ")))
    };
    let absent: Vec<String> = commands(&world).into_iter().filter(|command| !runs(command)).collect();
    assert!(absent.is_empty(), "docs/reference/commands.md has no run of {absent:?}");
}

#[test]
fn each_command_of_the_list_runs() {
    let world = World::own().warm().warm_machine();
    let registry = Registry::with_login();
    let (_, password) = registry.credentials();
    let file = |name: &str| world.path().join(name);
    std::fs::write(file("password"), format!("{password}\n")).unwrap();
    std::fs::write(file("settings"), "FROM_FILE=1\n").unwrap();
    std::fs::copy(kernel_package(), file("kernel.deb")).unwrap();
    succeed(tool("tar", "tar").arg("-cf").arg(file("rootfs.tar")).args(["-C", "/etc", "hostname"]));
    let guide = Guide::new(&world, "commands.md")
        .meaning("registry.example.com", registry.name())
        .meaning("6.1.0-56-cloud-amd64", release(&world));
    for line in lines() {
        let (said, code) = guide.says(&guide.here(&line));
        assert_eq!(code, 0, "$ {line}\n{said}");
    }
    assert_eq!(world.microagent(["list", "-q"]).outcome().success(), "");
}
