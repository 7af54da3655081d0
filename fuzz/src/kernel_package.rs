//! Bytes taken for kernel packages, kernels and modules.

use home::Home;
use kernel::{Kernels, Release};

use crate::sealed::sealed;

/// Installs what `bytes` hold: by the first byte, a package as it is; the files of a package; a kernel's image; or
/// a module of one.
///
/// # Panics
///
/// If a kernel that was installed is not there.
pub fn install_kernel(bytes: &[u8]) {
    crate::ignore_broken_pipes();
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let directory = tempfile::tempdir().expect("a directory can be made");
    let home = Home::open(Some(&directory.path().join("home"))).expect("a home can be made");
    let kernels = Kernels::open(&home);
    let installed = match kind % 4 {
        0 => package(&kernels, directory.path(), bytes),
        1 => package(&kernels, directory.path(), &package_of(&sealed(bytes))),
        2 => files(&kernels, directory.path(), bytes, b""),
        _ => files(&kernels, directory.path(), include_bytes!("../corpus/kernel_image"), bytes),
    };
    if let Some(release) = installed {
        let found = kernels.find(&release).expect("kernels can be read").expect("it was installed");
        let _ = found.modules_for(&["virtio_blk"], &["overlay"]);
    }
}

fn package(kernels: &Kernels, directory: &std::path::Path, bytes: &[u8]) -> Option<Release> {
    let path = directory.join("linux-image.deb");
    std::fs::write(&path, bytes).expect("a file can be written");
    kernels.install_deb(&[path], &mut |_| ()).ok().map(|kernel| kernel.release)
}

fn files(kernels: &Kernels, directory: &std::path::Path, image: &[u8], module: &[u8]) -> Option<Release> {
    let modules = directory.join("modules");
    std::fs::create_dir_all(modules.join("kernel")).expect("a directory can be made");
    std::fs::write(modules.join("kernel/virtio_blk.ko"), module).expect("a file can be written");
    let path = directory.join("vmlinuz");
    std::fs::write(&path, image).expect("a file can be written");
    kernels.install_files(&path, &modules, &mut |_| ()).ok().map(|kernel| kernel.release)
}

/// A package whose data is `tar`; deb(5), ar(5).
fn package_of(tar: &[u8]) -> Vec<u8> {
    let mut package = b"!<arch>\n".to_vec();
    for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", b""), ("data.tar", tar)] {
        let size = content.len();
        package
            .extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 100_644).into_bytes());
        package.extend(content);
        package.extend(std::iter::repeat_n(b'\n', size % 2));
    }
    package
}
