//! Builds `guest/init` as a static executable, whatever profile the host is built with.
//!
//! It is another cargo run with a target directory of its own, since flags and profile differ.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for source in ["guest/init", "crates/proto", "crates/transfer", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let target = std::env::var("TARGET").expect("cargo sets it");
    let directory = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("guest");
    let cargo = std::env::var_os("CARGO").expect("cargo sets it");
    let status = Command::new(cargo)
        .current_dir(&root)
        .args([
            "build",
            "--package",
            "microagent-init",
            "--profile",
            "guest",
            "--locked",
            "--target",
            &target,
        ])
        .arg("--target-dir")
        .arg(&directory)
        // A fixed address spares the guest its relocations.
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static\u{1f}-Crelocation-model=static")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "failed to build the guest's init");
    let init = directory.join(target).join("guest/init");
    let content = std::fs::read(&init).expect("cargo built it");
    println!("cargo::rustc-env=MICROAGENT_INIT={}", init.display());
    println!("cargo::rustc-env=MICROAGENT_INIT_DIGEST={}", hex(&Sha256::digest(content)));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}
