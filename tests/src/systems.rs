//! The root file systems that the test images have.

use std::path::Path;

use crate::tool::{succeed, tool};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\napp:x:1000:\nextra:x:44:app\nother:x:45:\n";
/// A Python, and a program with a file capability.
const DEBIAN_PACKAGES: &str = "--include=python3-minimal,iputils-ping";

/// Debian's static busybox with all its names, and a few accounts, as a tar.
pub(crate) fn busybox() -> Vec<u8> {
    let names = String::from_utf8(succeed(tool("busybox", "busybox-static").arg("--list")));
    let program = tool_path("busybox");
    let mut tar = tar::Builder::new(Vec::new());
    for (path, mode) in [("bin/", 0o755), ("etc/", 0o755), ("root/", 0o700), ("home/app/", 0o755)] {
        add(&mut tar, path, tar::EntryType::Directory, mode, b"");
    }
    add(&mut tar, "tmp/", tar::EntryType::Directory, 0o1777, b"");
    let program = fs_err::read(program).expect("busybox can be read");
    add(&mut tar, "bin/busybox", tar::EntryType::Regular, 0o755, &program);
    for name in names.expect("names are text").lines().filter(|name| *name != "busybox") {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, format!("bin/{name}"), "busybox")
            .expect("a tar in memory can be written");
    }
    add(&mut tar, "etc/passwd", tar::EntryType::Regular, 0o644, PASSWD.as_bytes());
    add(&mut tar, "etc/group", tar::EntryType::Regular, 0o644, GROUP.as_bytes());
    tar.into_inner().expect("a tar in memory can be written")
}

fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, kind: tar::EntryType, mode: u32, content: &[u8]) {
    let mut header = header(kind, mode, content.len() as u64);
    tar.append_data(&mut header, path, content).expect("a tar in memory can be written");
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header
}

fn tool_path(name: &str) -> std::path::PathBuf {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&paths).map(|directory| directory.join(name));
    places.find(|path| path.is_file()).expect("it was found before")
}

/// A small Debian as a tar, made once and kept in `cache`.
pub(crate) fn debian(cache: &Path) -> Vec<u8> {
    let archive = cache.join("debian.tar");
    if !archive.exists() {
        let new = cache.join("debian.new.tar");
        let mut command = tool("mmdebstrap", "mmdebstrap");
        command.args(["--quiet", "--format=tar", "--variant=minbase", DEBIAN_PACKAGES, "bookworm"]);
        succeed(command.arg(&new));
        fs_err::rename(new, &archive).expect("the archive can be renamed");
    }
    fs_err::read(archive).expect("the archive can be read")
}

/// The package of the distribution's kernel for virtual machines, fetched once and kept in `cache`.
pub(crate) fn kernel_package(cache: &Path) -> std::path::PathBuf {
    let directory = cache.join("kernel");
    if !directory.exists() {
        let depends = succeed(tool("apt-cache", "apt").args(["depends", "linux-image-cloud-amd64"]));
        let depends = String::from_utf8(depends).expect("apt writes text");
        let name = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        let name = name.expect("no linux-image-cloud-amd64 in the package lists: sudo apt-get update");
        let new = cache.join("kernel.new");
        fs_err::create_dir_all(&new).expect("a directory can be made");
        succeed(tool("apt-get", "apt").args(["download", name]).current_dir(&new));
        fs_err::rename(&new, &directory).expect("the directory can be renamed");
    }
    let mut entries = fs_err::read_dir(&directory).expect("the directory can be read");
    entries.next().expect("it has one file").expect("it can be read").path()
}
