//! Images that are made of workspaces.

use std::path::{Path, PathBuf};

use microagent_tests::{World, succeed, tool};
use serde_json::Value;

mod round_trip;
mod settings;
mod states;

/// Runs a line in the workspace `box`, which must succeed.
fn in_box(world: &World, line: &str) -> String {
    world.microagent(["exec", "box", "sh", "-ec", line]).outcome().success()
}

/// Makes an image of the workspace `box`, and returns what `--json` says of it.
fn committed(world: &World, words: &[&str]) -> Value {
    let text = world.microagent(["--json", "commit", "box"]).args(words).outcome().success();
    crate::schemas::fits("commit", &text);
    serde_json::from_str(&text).unwrap()
}

/// What the store has under a digest.
fn blob(world: &World, digest: &Value) -> PathBuf {
    let digest = digest.as_str().unwrap().trim_start_matches("sha256:");
    world.home().join("images/blobs/sha256").join(digest)
}

fn document(world: &World, digest: &Value) -> Value {
    serde_json::from_slice(&std::fs::read(blob(world, digest)).unwrap()).unwrap()
}

/// The configuration of an image that was just made.
fn configuration(world: &World, committed: &Value) -> Value {
    document(world, &committed["id"])
}

/// The names in a layer, as `tar` shows them.
fn names_in(layer: &Path) -> Vec<String> {
    let text = String::from_utf8(succeed(tool("tar", "tar").arg("-tzf").arg(layer))).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// What e2fsck(8) finds wrong with a disk that nobody uses.
fn assert_sound(world: &World, name: &str) {
    let disk = world.home().join("workspaces").join(name).join("disk.ext4");
    succeed(tool("e2fsck", "e2fsprogs").env("PATH", "/sbin:/usr/sbin").args(["-f", "-n"]).arg(disk));
}
