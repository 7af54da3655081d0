//! The initramfs: our init, and the modules that a kernel has not built in. Made once for each content.

use std::path::PathBuf;

use home::{Home, replace_file};
use kernel::{Kernel, ModuleError};

/// What a guest needs of its kernel. Those that are built in, or come as dependencies, are found out.
const MODULES: [&str; 7] =
    ["virtio_pci", "virtio_console", "virtio_blk", "virtio_rng", "erofs", "ext4", "overlay"];
const NETWORK_MODULE: &str = "virtio_net";

/// Why there is no initramfs.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// The kernel lacks a module.
    #[error(transparent)]
    Modules(#[from] ModuleError),
    /// It could not be written.
    #[error("failed to write the initramfs")]
    Write(#[from] std::io::Error),
}

/// The initramfs for `kernel`. Two processes that make it at once make the same file.
pub(crate) fn initramfs(home: &Home, kernel: &Kernel) -> Result<PathBuf, InitramfsError> {
    let path = place_of(home, kernel);
    if !path.exists() {
        let wanted: Vec<_> = MODULES.into_iter().chain([NETWORK_MODULE]).collect();
        let modules = kernel.modules_for(&wanted, &[])?;
        let modules: Vec<_> = modules.into_iter().map(|module| (module.name, module.content)).collect();
        replace_file(&path, &rootfs::initramfs::build(guest::INIT, &modules))?;
    }
    Ok(path)
}

/// Where the initramfs for `kernel` is, or would be.
pub(crate) fn place_of(home: &Home, kernel: &Kernel) -> PathBuf {
    home.boot().join(format!(
        "initramfs-{}-{}-{}.cpio",
        kernel.release,
        &kernel.digest[..16],
        &guest::INIT_DIGEST[..16]
    ))
}
