//! Programs of the host that tests lean on.

use std::process::Command;

/// The program `name`; its absence fails the test with what installs it.
pub fn tool(name: &str, package: &str) -> Command {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|directory| directory.join(name).is_file());
    assert!(found, "`{name}` is missing: sudo apt-get install {package}");
    Command::new(name)
}

/// Runs `command`, which must succeed, and returns its standard output.
pub fn succeed(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
