//! A control group of its own, cgroups(7), where somebody has delegated a part of the hierarchy.
//!
//! Limits of a group count what a process takes, and not what it could: memory, processors, threads. Only the second
//! version of control groups can be delegated. The groups above this process are looked through, its own first, for one that
//!
//! - is this user's or, for root, is marked as delegated or all that a container sees: what a service manager keeps for
//!   itself is none of ours;
//! - hands `memory` and `pids` on to the groups in it, which no group with processes can.
//!
//! There, each process gets a group that is removed when it has ended. What launchers left that were killed, the next one
//! removes.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::Access;

/// The first part of our groups' names.
const PREFIX: &str = "microagent-";

/// What is younger may be about to get its process.
const SETTLED: Duration = Duration::from_secs(60);

/// The period over which the kernel counts processor time, in microseconds: its default, see cgroup-v2.rst.
const PERIOD: u64 = 100_000;

/// What a process may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Bytes of memory, what of files is kept in memory for it included.
    pub memory: u64,
    /// Threads and processes.
    pub threads: u64,
    /// Processors' time, in whole processors.
    pub processors: u64,
}

/// A group; removed when this is dropped, which is when its process has ended.
#[derive(Debug)]
pub(crate) struct Group {
    place: PathBuf,
}

impl Group {
    /// Makes a group in `parent`, empty.
    pub(crate) fn make(parent: &Path, share: Share) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        sweep(parent);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let group = Self { place: parent.join(format!("{PREFIX}{}-{count}", std::process::id())) };
        fs::create_dir(&group.place)?;
        group.set("memory.max", &share.memory.to_string())?;
        group.set("pids.max", &share.threads.to_string())?;
        // Where the kernel has not this one, or the group above does not hand it on, there is no such limit.
        let _ = group.set("cpu.max", &format!("{} {PERIOD}", share.processors * PERIOD));
        // Without one of its threads it would be of no use.
        let _ = group.set("memory.oom.group", "1");
        Ok(group)
    }

    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// Moves a process into it.
    pub(crate) fn take(&self, process: rustix::process::Pid) -> io::Result<()> {
        self.set("cgroup.procs", &process.as_raw_nonzero().to_string())
    }

    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        // Never made: the kernel has it or not.
        let mut file = fs::File::options().write(true).open(self.place.join(file))?;
        io::Write::write_all(&mut file, value.as_bytes())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // One that is left is removed by the next launcher.
        let _ = fs::remove_dir(&self.place);
    }
}

/// Removes groups whose launchers are gone. The kernel removes none that has a process.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if is_ours && age().is_some_and(|age| age >= SETTLED) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// The group in which processes of ours can have groups of their own, if there is one.
pub fn delegated_group() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let (mount, own) = own_group(&mounts, &membership)?;
    let found =
        own.ancestors().take_while(|group| group.starts_with(&mount)).find(|group| serves(group, &mount));
    found.map(Path::to_owned)
}

/// Where the second version's hierarchy is mounted, and this process's group in it; `proc_pid_mountinfo(5)`, cgroups(7).
fn own_group(mounts: &str, membership: &str) -> Option<(PathBuf, PathBuf)> {
    let path = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        let (root, mount) = (fields.next()?, fields.next()?);
        let is_it = kind.split(' ').next() == Some("cgroup2");
        // A place with a space in it is written otherwise, and nobody has one.
        let below = Path::new(path).strip_prefix(root).ok().filter(|_| is_it)?;
        Some((PathBuf::from(mount), Path::new(mount).join(below)))
    })
}

fn serves(group: &Path, mount: &Path) -> bool {
    let hands_on = fs::read_to_string(group.join("cgroup.subtree_control")).unwrap_or_default();
    let has = |controller| hands_on.split_whitespace().any(|word| word == controller);
    let writable = |path: &Path| rustix::fs::access(path, Access::WRITE_OK).is_ok();
    has("memory")
        && has("pids")
        && writable(group)
        && writable(&group.join("cgroup.procs"))
        && is_delegated(group, mount)
}

fn is_delegated(group: &Path, mount: &Path) -> bool {
    let user = rustix::process::geteuid();
    if !user.is_root() {
        return fs::metadata(group).is_ok_and(|metadata| metadata.uid() == user.as_raw());
    }
    // The kernel's own root has no such file: what is mounted is a part of the hierarchy, given to a container.
    let is_containers = mount.join("cgroup.type").exists();
    // systemd's marks; `org.freedesktop.systemd1(5)`, and CGROUP_DELEGATION of its documentation.
    let is_marked = |group: &Path| {
        ["user.delegate", "trusted.delegate"].iter().any(|name| {
            let mut value = [0; 8];
            rustix::fs::getxattr(group, *name, &mut value[..]).is_ok_and(|length| &value[..length] == b"1")
        })
    };
    is_containers || group.ancestors().take_while(|group| group.starts_with(mount)).any(is_marked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
24 1 0:22 / /proc rw,nosuid shared:12 - proc proc rw
30 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
31 24 0:27 / /mnt rw - ext4 /dev/vda rw
";

    #[test]
    fn a_process_finds_its_group_and_those_above() {
        let own = |mounts: &str, membership: &str| own_group(mounts, membership);
        let scope = "/user.slice/user-1000.slice/user@1000.service/app.slice/a.scope";
        assert_eq!(
            own(MOUNTS, &format!("0::{scope}\n")),
            Some(("/sys/fs/cgroup".into(), format!("/sys/fs/cgroup{scope}").into()))
        );
        // Both versions at once, as they were once common.
        let both = "5:memory:/x\n1:name=systemd:/\n0::/\n";
        let unified = MOUNTS.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ");
        assert_eq!(
            own(&unified, both),
            Some(("/sys/fs/cgroup/unified".into(), "/sys/fs/cgroup/unified/".into()))
        );
        // A container sees the part of the hierarchy that it has.
        let part = MOUNTS.replace("0:26 / ", "0:26 /docker/1 ");
        assert_eq!(
            own(&part, "0::/docker/1/a\n"),
            Some(("/sys/fs/cgroup".into(), "/sys/fs/cgroup/a".into()))
        );
        assert_eq!(own(&part, "0::/elsewhere\n"), None);
        assert_eq!(own(MOUNTS, "5:memory:/x\n"), None);
        assert_eq!(own("", "0::/\n"), None);
    }

    /// Files stand for the kernel's.
    #[test]
    fn a_group_serves_that_hands_controllers_on() {
        let mount = tempfile::tempdir().unwrap();
        let group = mount.path().join("a");
        fs::create_dir(&group).unwrap();
        fs::write(group.join("cgroup.procs"), "").unwrap();
        fs::write(mount.path().join("cgroup.type"), "domain\n").unwrap();
        for (controllers, expected) in
            [("cpu memory pids\n", true), ("memory pids", true), ("cpu pids", false), ("", false)]
        {
            fs::write(group.join("cgroup.subtree_control"), controllers).unwrap();
            assert_eq!(serves(&group, mount.path()), expected, "{controllers}");
        }
        assert!(!serves(mount.path(), mount.path()));
    }

    #[test]
    fn a_group_that_cannot_have_its_limits_is_none() {
        let parent = tempfile::tempdir().unwrap();
        let share = Share { memory: 1 << 30, threads: 10, processors: 2 };
        Group::make(parent.path(), share).unwrap_err();
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
