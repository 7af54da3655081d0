//! Tells the program which commit it is of, where that is known.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=MICROAGENT_COMMIT");
    let given = std::env::var("MICROAGENT_COMMIT").ok();
    if let Some(commit) = given.or_else(of_checkout) {
        println!("cargo::rustc-env=MICROAGENT_COMMIT={}", commit.trim());
    }
}

/// The commit that is checked out. An archive of the sources has none.
fn of_checkout() -> Option<String> {
    let head = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(head.trim()).exists() {
        println!("cargo::rerun-if-changed={}", head.trim());
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
