//! The image and the writable disk become `/`.
//!
//! ```text
//! /                       overlay, the workload's root
//! ├── lower: EROFS        the image, read-only
//! ├── upper: ext4         <disk>/upper, with <disk>/work beside it
//! ├── /proc /sys /dev /dev/pts /dev/shm /dev/mqueue /sys/fs/cgroup
//! └── /etc/{hosts,hostname,resolv.conf,machine-id}      see `identity`
//! ```
//!
//! The initramfs stays mounted underneath, out of the workload's sight, and is where the way down leads.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use proto::{Attach, Root, Writable};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::mount::MountFlags;

use crate::boot::mount;
use crate::failed;
use crate::kernel_calls::resize_ext4;
use crate::scaffold::{make_directory, times};
use crate::volumes::Volumes;

const IMAGE: &str = "/image";
pub(crate) const DISK: &str = "/disk";
const NEW_ROOT: &str = "/root-fs";
/// Where changes go that no disk is to keep.
const MEMORY: &str = "/memory";

/// How the disks are mounted that outlive this boot and are the program's own. What a guest frees is given back to the
/// host, which would otherwise keep every block that was ever written.
pub(crate) const KEPT_DISK: &str = "noinit_itable,errors=remount-ro,discard";

/// No file of the upper layer refers to the one below.
const WHOLE_FILES: &str = ",redirect_dir=off,metacopy=off,index=off";

/// The mounted root file system, and the way back to the initramfs.
pub(crate) struct MountedRoot {
    initramfs: OwnedFd,
    workload: OwnedFd,
    volumes: Volumes,
    exchange: OwnedFd,
}

/// Mounts the root file system and makes it this process's root.
pub(crate) fn mount_root(root: &Root) -> Result<MountedRoot, String> {
    for directory in [IMAGE, DISK, NEW_ROOT] {
        std::fs::create_dir_all(directory).map_err(failed(&format!("make {directory}")))?;
    }
    mount_disk(&root.image, IMAGE, "erofs", MountFlags::RDONLY, "")?;
    // A disk starts as a file of holes, which are zeros already: the kernel need not write its inode tables. What is
    // damaged can be read and not be changed, whatever the disk itself says about errors.
    match &root.writable {
        // Nobody reads a scratch disk after this boot: what would make it durable is work for nothing.
        Writable::Scratch(disk) => {
            let options = "noinit_itable,noauto_da_alloc,barrier=0,data=writeback";
            mount_disk(disk, DISK, "ext4", MountFlags::NOATIME, options)?;
            mount_overlay(IMAGE, DISK, ",volatile")?;
        }
        Writable::Durable(disk) => {
            mount_disk(disk, DISK, "ext4", MountFlags::NOATIME, KEPT_DISK)?;
            mount_overlay(IMAGE, DISK, "")?;
        }
        Writable::Damaged(disk) => mount_damaged(disk)?,
    }
    mount_kernel_views()?;
    let mounted = enter(open_exchange()?)?;
    prepare_directories();
    Ok(mounted)
}

fn mount_disk(serial: &str, target: &str, kind: &str, flags: MountFlags, data: &str) -> Result<(), String> {
    let device = find_disk(serial)?;
    let data = CString::new(data).expect("options are ours");
    rustix::mount::mount(&device, target, kind, flags, data.as_c_str())
        .map_err(|error| format!("failed to mount the {kind} disk `{serial}`: {error}"))
}

/// What can be read of a damaged disk, its journal left alone. Nothing is written to it.
fn mount_damaged(disk: &str) -> Result<(), String> {
    mount_disk(disk, DISK, "ext4", MountFlags::RDONLY | MountFlags::NOATIME, "noload,errors=continue")?;
    let changes = format!("{DISK}/upper");
    std::fs::read_dir(&changes).map_err(failed("find what the writable disk has"))?;
    std::fs::create_dir_all(MEMORY).map_err(failed(&format!("make {MEMORY}")))?;
    mount("tmpfs", MEMORY, MountFlags::empty(), "").map_err(failed(&format!("mount {MEMORY}")))?;
    mount_overlay(&format!("{changes}:{IMAGE}"), MEMORY, "")
}

pub(crate) fn find_disk(serial: &str) -> Result<String, String> {
    let disks = std::fs::read_dir("/sys/block").map_err(failed("list disks"))?;
    for disk in disks.flatten() {
        if serial_of(&disk.path()) == serial {
            return Ok(format!("/dev/{}", disk.file_name().to_string_lossy()));
        }
    }
    Err(format!("the machine has no disk `{serial}`"))
}

/// The serial number of the disk with this directory below /sys/block; empty if it has none.
pub(crate) fn serial_of(disk: &Path) -> String {
    let serial = std::fs::read_to_string(disk.join("serial")).unwrap_or_default();
    serial.trim_end_matches(['\n', '\0']).to_owned()
}

/// Changes to what is in `lower` go below `place`.
fn mount_overlay(lower: &str, place: &str, options: &str) -> Result<(), String> {
    let upper = format!("{place}/upper");
    let work = format!("{place}/work");
    let make = || {
        if std::fs::symlink_metadata(&upper).is_err() {
            std::fs::create_dir(&upper)?;
            // The root of the overlay shows the upper's attributes, so they start as those below.
            copy_attributes(lower.split(':').next().unwrap_or(lower), &upper)?;
        }
        std::fs::create_dir_all(&work)
    };
    make().map_err(failed("prepare the writable disk"))?;
    // Whatever the kernel was built to do: the upper layer has whole files, so that it can become a layer of an image.
    let options = format!("{WHOLE_FILES}{options}");
    // An overlay that was volatile and did not end cleanly refuses its next mount; its disk is gone by then.
    let data = CString::new(format!("lowerdir={lower},upperdir={upper},workdir={work}{options}"))
        .expect("options are ours");
    rustix::mount::mount("overlay", NEW_ROOT, "overlay", MountFlags::empty(), data.as_c_str())
        .map_err(|error| format!("failed to mount the overlay: {error}"))
}

fn copy_attributes(from: &str, to: &str) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let attributes = std::fs::metadata(from)?;
    std::os::unix::fs::chown(to, Some(attributes.uid()), Some(attributes.gid()))?;
    std::fs::set_permissions(to, attributes.permissions())?;
    Ok(rustix::fs::utimensat(CWD, to, &times(&attributes), AtFlags::empty())?)
}

fn mount_kernel_views() -> Result<(), String> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mounts = [
        ("proc", "proc", quiet, ""),
        ("sysfs", "sys", quiet, ""),
        ("cgroup2", "sys/fs/cgroup", quiet, ""),
        ("devtmpfs", "dev", MountFlags::NOSUID, ""),
        ("devpts", "dev/pts", MountFlags::NOSUID | MountFlags::NOEXEC, "ptmxmode=0666,mode=0620,gid=5"),
        ("tmpfs", "dev/shm", MountFlags::NOSUID | MountFlags::NODEV, "mode=1777"),
        ("mqueue", "dev/mqueue", quiet, ""),
    ];
    for (kind, place, flags, data) in mounts {
        let target = format!("{NEW_ROOT}/{place}");
        make_directory(Path::new(&target), 0o755).map_err(failed(&format!("make /{place}")))?;
        match mount(kind, &target, flags, data) {
            // Not every kernel has message queues or control groups.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
            outcome => outcome.map_err(failed(&format!("mount {kind} on /{place}")))?,
        }
    }
    Ok(())
}

/// What the host writes there is not to be found in this kernel's page cache, nor the other way round.
fn open_exchange() -> Result<OwnedFd, String> {
    let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
    rustix::fs::open(find_disk(proto::EXCHANGE_DISK)?, flags, Mode::empty())
        .map_err(|error| format!("failed to open the disk for exchange: {error}"))
}

/// Moves the overlay over the initramfs: a plain chroot would deny user namespaces to the workload.
fn enter(exchange: OwnedFd) -> Result<MountedRoot, String> {
    let step = |error: rustix::io::Errno| format!("failed to enter the root file system: {error}");
    let initramfs = open_directory("/").map_err(step)?;
    let workload = open_directory(NEW_ROOT).map_err(step)?;
    rustix::process::chdir(NEW_ROOT).map_err(step)?;
    rustix::mount::mount_move(".", "/").map_err(step)?;
    rustix::process::chroot(".").map_err(step)?;
    Ok(MountedRoot { initramfs, workload, volumes: Volumes::default(), exchange })
}

fn open_directory(path: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// What programs take for granted and small images lack. A directory that cannot be made is not missed.
fn prepare_directories() {
    let _ = make_directory(Path::new("/tmp"), 0o1777);
    let links = [
        ("/proc/self/fd", "/dev/fd"),
        ("fd/0", "/dev/stdin"),
        ("fd/1", "/dev/stdout"),
        ("fd/2", "/dev/stderr"),
    ];
    for (target, link) in links {
        let _ = std::os::unix::fs::symlink(target, link);
    }
    let _ = std::fs::remove_file("/dev/ptmx");
    let _ = std::os::unix::fs::symlink("pts/ptmx", "/dev/ptmx");
}

/// The layers of the root file system, by the initramfs: what takes changes, and the image.
pub(crate) fn layers(below: BorrowedFd<'_>) -> std::io::Result<(OwnedFd, OwnedFd)> {
    let open = |path: &str| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(below, path, flags, Mode::empty())
    };
    Ok((open(&format!("{}/upper", relative(DISK)))?, open(relative(IMAGE))?))
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

impl MountedRoot {
    /// Makes another disk visible.
    pub(crate) fn attach(&mut self, wanted: &Attach) -> Result<(), String> {
        self.volumes.attach(&self.initramfs, wanted)
    }

    /// Makes the ext4 file system of an attached disk, or the one that takes changes, fill `size` bytes of its disk.
    pub(crate) fn grow(&self, disk: Option<&str>, size: u64) -> Result<(), String> {
        let step = |error: std::io::Error| format!("failed to grow the file system: {error}");
        let disk = if let Some(serial) = disk {
            self.volumes.open(&self.initramfs, serial)?
        } else {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat(&self.initramfs, relative(DISK), flags, Mode::empty())
                .map_err(|error| step(error.into()))?
        };
        let block = rustix::fs::fstatvfs(&disk).map_err(|error| step(error.into()))?.f_bsize;
        resize_ext4(&disk, size / block.max(1)).map_err(step)
    }

    /// How large an attached disk's file system is, and what of it is used, in bytes.
    pub(crate) fn measure(&self, disk: &str) -> Result<(u64, u64), String> {
        let disk = self.volumes.open(&self.initramfs, disk)?;
        let told =
            rustix::fs::fstatvfs(&disk).map_err(|error| format!("failed to look at the disk: {error}"))?;
        Ok((told.f_blocks * told.f_frsize, (told.f_blocks - told.f_bfree) * told.f_frsize))
    }

    /// The initramfs, where the disks are mounted.
    pub(crate) fn below(&self) -> std::io::Result<OwnedFd> {
        self.initramfs.as_fd().try_clone_to_owned()
    }

    /// The disk for exchange.
    pub(crate) fn exchange(&self) -> std::io::Result<OwnedFd> {
        self.exchange.try_clone()
    }

    /// Unmounts everything. When this returns without an error, the disk is clean.
    pub(crate) fn unmount(self) -> Result<(), String> {
        let step = |error: rustix::io::Errno| format!("failed to leave the root file system: {error}");
        rustix::process::fchdir(&self.initramfs).map_err(step)?;
        rustix::process::chroot(".").map_err(step)?;
        rustix::process::fchdir(&self.workload).map_err(step)?;
        rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH).map_err(step)?;
        rustix::process::fchdir(&self.initramfs).map_err(step)?;
        drop(self.workload);
        self.volumes.unmount(&self.initramfs)?;
        rustix::process::fchdir(&self.initramfs).map_err(step)?;
        rustix::mount::unmount(DISK, rustix::mount::UnmountFlags::empty())
            .map_err(|error| format!("failed to unmount the writable disk: {error}"))
    }
}
