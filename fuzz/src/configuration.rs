//! Bytes taken for the user's files that other programs write, too: Docker's logins, and what is known of registries.

use image::{Logins, Registries};

const REGISTRIES: [&str; 4] =
    ["docker.io", "registry.example.com", "registry.example.com:5000", "127.0.0.1:5000"];

/// Looks logins up in `bytes`, lists, keeps and forgets them; then takes the same for `registries.yaml`.
///
/// # Panics
///
/// If a login that was kept is not found, or one that was forgotten is.
pub fn read_configuration(bytes: &[u8]) {
    // What names a helper would have it run.
    if bytes.windows(4).any(|window| window.eq_ignore_ascii_case(b"cred")) {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = directory.path().join("config.json");
    std::fs::write(&file, bytes).expect("a file can be written");
    let logins = Logins::in_file(file);
    for registry in REGISTRIES {
        let _ = logins.find(registry, "some/repository");
    }
    let _ = logins.list();
    if logins.keep(REGISTRIES[1], "user", "secret").is_ok() {
        assert!(logins.find(REGISTRIES[1], "x").expect("it was just written").is_some());
        assert!(logins.forget(REGISTRIES[1]).expect("it was just written"));
        let _ = logins.find(REGISTRIES[1], "x");
    }
    std::fs::write(directory.path().join("registries.yaml"), bytes).expect("a file can be written");
    let _ = Registries::in_directory(directory.path(), Logins::none());
}
