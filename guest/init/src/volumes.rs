//! Disks beside the root file system's own become visible in it.
//!
//! ```text
//! <initramfs>/volumes/<serial>         the disk's file system, out of the workload's sight
//! │   ├── data/                        of a volume: what the workload sees
//! │   └── data.new/                    a first fill that is under way
//! └── <initramfs>/volumes/<serial>-view    of a bundle that is written to: an overlay
//!         lower: the bundle            upper: <disk>/bundles/<name>, with the changes to the root file system
//! ```
//!
//! What the workload sees is bound from there, so it may unmount that as it likes, and the file system is still
//! there to be written out in the end.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;

use proto::{Attach, DiskContent};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use transfer::{Destination, Owners, Policy};

use crate::kernel_calls::{instead_of_executing, set_read_only};
use crate::root::{DISK, KEPT_DISK, find_disk};
use crate::{failed, files};

const VOLUMES: &str = "volumes";
const DATA: &str = "data";
/// Where a volume is while it is filled: in a file system that is gone with the machine.
const FILLING: &str = "/dev/volume-to-fill";

/// The disks that are attached, in the initramfs.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    /// What is to be unmounted in the end, the last first.
    mounted: Vec<String>,
}

impl Volumes {
    /// Makes a disk visible.
    pub(crate) fn attach(&mut self, initramfs: &OwnedFd, wanted: &Attach) -> Result<(), String> {
        let place = Path::new(&wanted.place);
        // What the image has there is looked at before anything hides it.
        let there = prepare_place(place)?;
        let mut shown = self.mount_disk(initramfs, wanted)?;
        match wanted.content {
            DiskContent::Volume => {
                shown = open_in(&shown, DATA).map_err(|error| match error {
                    Errno::NOENT => "the volume has lost its directory of files".to_owned(),
                    error => format!("failed to open the volume: {error}"),
                })?;
            }
            DiskContent::Unfilled => {
                fill(&shown, there.then_some(place))
                    .map_err(failed(&format!("fill the volume at `{}`", wanted.place)))?;
                shown =
                    open_in(&shown, DATA).map_err(|error| format!("failed to open the volume: {error}"))?;
            }
            DiskContent::Bundle { ref name } if !wanted.read_only => {
                shown = self.lay_over(initramfs, &shown, &wanted.disk, name)?;
            }
            DiskContent::Whole | DiskContent::Bundle { .. } => {}
        }
        bind(&shown, place, wanted.read_only).map_err(failed(&format!("put a volume at `{}`", wanted.place)))
    }

    /// Mounts the disk out of sight; what is returned is its root.
    fn mount_disk(&mut self, initramfs: &OwnedFd, wanted: &Attach) -> Result<OwnedFd, String> {
        let device = find_disk(&wanted.disk)?;
        // What a file system says should happen when it is found damaged is not for it to say.
        let (kind, data) = match wanted.content {
            DiskContent::Bundle { .. } => ("erofs", ""),
            DiskContent::Volume | DiskContent::Unfilled => ("ext4", KEPT_DISK),
            // Whether a file of the user's has holes is the user's affair.
            DiskContent::Whole => ("ext4", "noinit_itable,errors=remount-ro"),
        };
        let mut flags = MountFlags::NOATIME;
        if !wanted.writable {
            flags |= MountFlags::RDONLY;
            // A restored guest takes every disk for one that can be written to.
            set_read_only(&device).map_err(failed("make the disk read-only"))?;
        }
        self.mount(initramfs, &wanted.disk, &device, kind, flags, data)
            .map_err(|error| why_not_mounted(kind, !wanted.writable, error))
    }

    fn lay_over(
        &mut self,
        initramfs: &OwnedFd,
        lower: &OwnedFd,
        serial: &str,
        name: &str,
    ) -> Result<OwnedFd, String> {
        let mut over = || -> io::Result<OwnedFd> {
            let disk = open_in(initramfs, DISK.trim_start_matches('/'))?;
            let bundles = make_in(&disk, "bundles", 0o700)?;
            let own = make_in(&bundles, name, 0o700)?;
            let attributes = rustix::fs::fstat(lower)?;
            let is_new =
                rustix::fs::accessat(&own, "upper", rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty());
            let upper = make_in(&own, "upper", 0o755)?;
            if is_new.is_err() {
                // The root of the overlay shows the upper's attributes, so they start as the bundle's.
                let owner = rustix::fs::Uid::from_raw(attributes.st_uid);
                rustix::fs::fchown(&upper, Some(owner), Some(rustix::fs::Gid::from_raw(attributes.st_gid)))?;
                rustix::fs::fchmod(&upper, Mode::from_raw_mode(attributes.st_mode & 0o7777))?;
            }
            let work = make_in(&own, "work", 0o700)?;
            let path = |directory: &OwnedFd| format!("/proc/self/fd/{}", directory.as_raw_fd());
            let data = format!("lowerdir={},upperdir={},workdir={}", path(lower), path(&upper), path(&work));
            Ok(self.mount(
                initramfs,
                &format!("{serial}-view"),
                "overlay",
                "overlay",
                MountFlags::NOATIME,
                &data,
            )?)
        };
        over().map_err(failed("make the bundle writable"))
    }

    /// Mounts something on a directory of the initramfs, which this process cannot name.
    fn mount(
        &mut self,
        initramfs: &OwnedFd,
        name: &str,
        source: &str,
        kind: &str,
        flags: MountFlags,
        data: &str,
    ) -> rustix::io::Result<OwnedFd> {
        let volumes = make_in(initramfs, VOLUMES, 0o700)?;
        let place = make_in(&volumes, name, 0o700)?;
        let data = CString::new(data).expect("options are ours");
        rustix::process::fchdir(&place)?;
        let outcome = rustix::mount::mount(source, ".", kind, flags, data.as_c_str());
        rustix::process::chdir("/")?;
        outcome?;
        self.mounted.push(name.to_owned());
        open_in(&volumes, name)
    }

    /// The file system of an attached disk.
    pub(crate) fn open(&self, initramfs: &OwnedFd, serial: &str) -> Result<OwnedFd, String> {
        if !self.mounted.iter().any(|mounted| mounted == serial) {
            return Err(format!("the disk `{serial}` is not attached"));
        }
        open_in(initramfs, &format!("{VOLUMES}/{serial}"))
            .map_err(|error| format!("failed to open `{serial}`: {error}"))
    }

    /// Unmounts all, once nobody uses them any more. When this returns without an error, the disks are clean.
    pub(crate) fn unmount(self, initramfs: &OwnedFd) -> Result<(), String> {
        for name in self.mounted.iter().rev() {
            let step = |error: Errno| format!("failed to unmount the disk `{name}`: {error}");
            let volumes = open_in(initramfs, VOLUMES).map_err(step)?;
            rustix::process::fchdir(&volumes).map_err(step)?;
            rustix::mount::unmount(name.as_str(), UnmountFlags::empty()).map_err(step)?;
        }
        Ok(())
    }
}

/// Makes the directory where a disk is to be; tells whether it was there.
fn prepare_place(place: &Path) -> Result<bool, String> {
    match std::fs::metadata(place) {
        Ok(metadata) if metadata.is_dir() => return Ok(true),
        Ok(_) => {
            return Err(format!("cannot put a volume at `{}`: the image has a file there", place.display()));
        }
        Err(_) => {}
    }
    std::fs::create_dir_all(place).map_err(failed(&format!("make `{}`", place.display())))?;
    Ok(false)
}

/// What a kernel's error number means for a file system that does not mount.
fn why_not_mounted(kind: &str, read_only: bool, error: Errno) -> String {
    let why = match error {
        Errno::INVAL | Errno::NXIO => format!("there is no {kind} file system on it, or it is damaged"),
        Errno::UCLEAN | Errno::IO | Errno::BADMSG => format!("its {kind} file system is damaged ({error})"),
        Errno::ROFS if read_only => format!(
            "its {kind} file system was not left clean, and cannot be repaired while it is read-only; \
             attach it once without :ro"
        ),
        error => format!("failed to mount its {kind} file system: {error}"),
    };
    format!("cannot use the disk: {why}")
}

/// Fills a volume for the first time: with what is at `place`, or with nothing. It is filled when `data` is there.
fn fill(volume: &OwnedFd, place: Option<&Path>) -> io::Result<()> {
    if open_in(volume, DATA).is_ok() {
        return Ok(());
    }
    match place {
        None => drop(make_in(volume, DATA, 0o755)?),
        Some(place) => {
            std::fs::create_dir_all(FILLING)?;
            bind(volume, Path::new(FILLING), false)?;
            let copied = copy(place);
            rustix::mount::unmount(FILLING, UnmountFlags::DETACH)?;
            std::fs::remove_dir(FILLING)?;
            copied?;
            rustix::fs::syncfs(volume)?;
            rustix::fs::renameat(volume, "data.new", volume, DATA)?;
        }
    }
    Ok(rustix::fs::syncfs(volume)?)
}

/// One process packs, and this one unpacks: a file system of its own is the only place where the two meet.
fn copy(place: &Path) -> io::Result<()> {
    let new = Path::new(FILLING).join("data.new");
    match std::fs::remove_dir_all(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let path = place.to_owned();
    let mut packer = std::process::Command::new("/");
    instead_of_executing(&mut packer, [], move |[]| files::pack_at_once(&path));
    packer.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = packer.spawn()?;
    drop(packer);
    let input = child.stdout.take().expect("it is a pipe");
    let destination = Destination { path: new, name: None, merge: false };
    let policy = Policy { owners: Owners::Kept, privileged: true };
    // Modes are those that files bring.
    let mask = rustix::process::umask(Mode::empty());
    let outcome = transfer::unpack(input, None, &destination, policy, &mut |_| ());
    rustix::process::umask(mask);
    child.wait()?;
    outcome.map(drop).map_err(io::Error::other)
}

/// Shows a directory at a path of the workload.
fn bind(directory: &OwnedFd, place: &Path, read_only: bool) -> io::Result<()> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = rustix::mount::open_tree(directory, "", flags)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    rustix::mount::move_mount(&tree, "", rustix::fs::CWD, place, flags)?;
    if read_only {
        let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOATIME;
        rustix::mount::mount_remount(place, flags, c"")?;
    }
    Ok(())
}

fn open_in(directory: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, path, flags, Mode::empty())
}

/// The directory of this name, made if it is not there.
fn make_in(directory: &OwnedFd, name: &str, mode: u32) -> rustix::io::Result<OwnedFd> {
    match rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => open_in(directory, name),
        Err(error) => Err(error),
    }
}
