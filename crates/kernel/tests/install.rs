//! Installing a real kernel with the apt of this machine, and again from the package file that it fetches.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use home::Home;
use microagent_kernel::{Kernel, Kernels, Source, Step};

/// What a microVM needs of a kernel, wherever it is built in.
const WANTED: [&str; 9] = [
    "virtio_pci",
    "virtio_console",
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
    "erofs",
    "ext4",
    "overlay",
    "af_packet",
];

fn kernels_in(directory: &Path) -> Kernels {
    Kernels::open(&Home::open(Some(directory)).unwrap())
}

fn assert_is_whole(kernel: &Kernel) {
    assert_eq!(kernel.image_size, std::fs::metadata(&kernel.image).unwrap().len());
    assert!(kernel.modules_size > 1 << 20, "{kernel:?}");
    assert_eq!(kernel.digest.len(), 64);
    assert!(kernel.vmlinux.as_ref().unwrap().exists());
    let modules = kernel.modules_for(&WANTED, &["vmgenid"]).unwrap();
    let names: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
    let place =
        |wanted: &str| names.iter().position(|name| *name == wanted).unwrap_or_else(|| panic!("{names:?}"));
    assert!(place("virtio_ring") < place("virtio_pci"), "{names:?}");
    assert!(
        place("failover") < place("net_failover") && place("net_failover") < place("virtio_net"),
        "{names:?}"
    );
    assert!(modules.iter().all(|module| module.content.starts_with(b"\x7fELF")));
    assert!(kernel.modules_for(&["no_such_module"], &[]).is_err());
}

#[test]
fn the_kernel_of_the_distribution_is_fetched_with_apt() {
    let directory = tempfile::tempdir().unwrap();
    let kernels = kernels_in(directory.path());
    let mut steps = Vec::new();
    let kernel = kernels.install_from_apt(None, &mut |step| steps.push(step)).unwrap_or_else(|error| {
        panic!("{error}: {:?}; a Debian or Ubuntu with a reachable package mirror is needed", error.hint())
    });
    assert_is_whole(&kernel);
    assert!(matches!(&kernel.source, Source::Apt { packages } if packages.len() >= 2), "{:?}", kernel.source);
    assert_eq!(steps.last(), Some(&Step::Finish));
    assert_eq!(kernels.default().unwrap().unwrap().release, kernel.release);
    assert_eq!(std::fs::read_dir(directory.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_host_without_package_lists_gets_lists_of_our_own() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("apt.conf");
    let no_lists = directory.path().join("lists");
    std::fs::create_dir_all(no_lists.join("partial")).unwrap();
    std::fs::write(&config, format!("Dir::State \"{0}\"; Dir::Cache \"{0}\";", no_lists.display())).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_kernel_of_the_distribution_is_fetched_with_apt"])
        .env("APT_CONFIG", &config)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let lists = std::fs::read_dir(no_lists.join("partial")).unwrap();
    assert_eq!(lists.count(), 0, "the host's own lists were changed");
}

#[test]
fn a_package_file_is_installed_and_again_in_the_place_of_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let debs = download("linux-image-cloud-amd64", directory.path());
    let kernels = kernels_in(&directory.path().join("home"));
    let first = kernels.install_deb(&debs, &mut |_| {}).unwrap();
    assert_is_whole(&first);
    let second = kernels.install_deb(&debs, &mut |_| {}).unwrap();
    assert_is_whole(&second);
    assert_eq!((&first.release, &first.digest), (&second.release, &second.digest));
    assert!(first.installed_at < second.installed_at);
    assert_eq!(kernels.list().unwrap().len(), 1);
}

/// The package that the metapackage `name` stands for.
fn download(name: &str, directory: &Path) -> Vec<PathBuf> {
    let output = Command::new("apt-cache").args(["depends", name]).output();
    let output = output.expect("apt-cache is needed: run this on Debian or Ubuntu").stdout;
    let text = String::from_utf8(output).unwrap();
    let package = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let package = package.expect("apt knows no kernel package: run `apt-get update`");
    let status = Command::new("apt-get").args(["-q", "download", package]).current_dir(directory).status();
    assert!(status.unwrap().success(), "`apt-get download {package}` failed: run `apt-get update`");
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|kind| kind == "deb")).collect()
}
