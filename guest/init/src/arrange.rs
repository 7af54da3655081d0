//! What a workspace has arranged in its root file system: places in memory, and no changes elsewhere.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use proto::{Arrangement, Tmpfs};
use rustix::mount::MountFlags;

use crate::failed;

/// Arranges it. The root file system is mounted, and no process of the workload runs yet.
pub(crate) fn arrange(wanted: &Arrangement) -> Result<(), String> {
    for tmpfs in &wanted.tmpfs {
        mount_tmpfs(tmpfs)?;
    }
    if !wanted.directory.is_empty() {
        let directory = Path::new(std::ffi::OsStr::from_bytes(&wanted.directory));
        let what = format!("make the working directory `{}`", directory.display());
        std::fs::create_dir_all(directory).map_err(failed(&what))?;
    }
    if wanted.read_only {
        // Only what is mounted at the root: the places in memory, /dev and /proc stay as they are.
        rustix::mount::mount_remount("/", MountFlags::BIND | MountFlags::RDONLY, "")
            .map_err(|error| format!("failed to make the root file system read-only: {error}"))?;
    }
    Ok(())
}

fn mount_tmpfs(tmpfs: &Tmpfs) -> Result<(), String> {
    let path = Path::new(std::ffi::OsStr::from_bytes(&tmpfs.path));
    std::fs::create_dir_all(path).map_err(failed(&format!("make {}", path.display())))?;
    let size = tmpfs.size.map_or_else(String::new, |size| format!(",size={size}"));
    let data = CString::new(format!("mode={:o}{size}", tmpfs.mode)).expect("options are ours");
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::NOEXEC, !tmpfs.programs);
    rustix::mount::mount("tmpfs", path, "tmpfs", flags, data.as_c_str())
        .map_err(|error| format!("failed to mount a tmpfs on {}: {error}", path.display()))
}
