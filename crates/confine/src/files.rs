//! The files that a process may open, and nothing beside them: a Landlock rule set.
#![allow(unsafe_code, reason = "one question has no safe call")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, Scope,
};

/// The newest version of the interface that is made use of: it restricts devices, TCP, signals and abstract sockets.
const NEWEST: ABI = ABI::V6;

/// What a process may open. It starts with nothing.
#[derive(Debug, Default)]
pub struct Files {
    paths: Vec<(PathBuf, Use)>,
    open: Vec<(OwnedFd, Use)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Run,
    Write,
    /// To read, where opening for writing too is made reading; else to write.
    OnlyRead,
    Change,
    Device,
}

/// What else Landlock takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    /// TCP, signals to others, and abstract sockets of others.
    Everything,
    /// Signals to others, and abstract sockets of others. Processes that it starts are not others.
    AllButNetwork,
}

impl Files {
    /// Lets it read what is at `path`, and below. A path that is not there is no rule, as with those that follow.
    pub fn read(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.add(path, Use::Read)
    }

    /// Lets it read and execute what is at `path`, and below.
    pub fn run(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.add(path, Use::Run)
    }

    /// Lets it read, write, make and remove what is at `path`, and below.
    pub fn change(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.add(path, Use::Change)
    }

    /// Lets it use the device at `path`.
    pub fn device(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.add(path, Use::Device)
    }

    /// Lets it open a file anew that is open already, as through `/proc/self/fd`, for reading and writing.
    pub fn write_open(&mut self, file: &impl AsFd) -> io::Result<&mut Self> {
        self.open.push((file.as_fd().try_clone_to_owned()?, Use::Write));
        Ok(self)
    }

    /// Lets it open a file anew, as [`Files::write_open`] does, that it opens for reading and writing, but gets for
    /// reading only: with the flags `O_RDWR` and no others, once, and instead of whatever it names then. The file must be
    /// open for reading. Where this host lacks [`crate::Part::ReadOnly`] it can be written.
    pub fn read_open(&mut self, file: &impl AsFd) -> io::Result<&mut Self> {
        self.open.push((file.as_fd().try_clone_to_owned()?, Use::OnlyRead));
        Ok(self)
    }

    /// The file that is to be read only, however it is opened.
    pub(crate) fn only_read(&self) -> Option<&OwnedFd> {
        self.open.iter().find(|(_, way)| *way == Use::OnlyRead).map(|(file, _)| file)
    }

    fn add(&mut self, path: impl Into<PathBuf>, way: Use) -> &mut Self {
        self.paths.push((path.into(), way));
        self
    }

    /// The rule set, as a descriptor that `landlock_restrict_self(2)` takes. Where files are not `guarded`, what is only to
    /// be read can be written.
    pub(crate) fn rule_set(&self, beside: Beside, guarded: bool) -> io::Result<OwnedFd> {
        let rules = self.try_rule_set(beside, guarded).map_err(io::Error::other)?;
        Option::<OwnedFd>::from(rules).ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, "the kernel has it not, or has it switched off")
        })
    }

    fn try_rule_set(&self, beside: Beside, guarded: bool) -> Result<RulesetCreated, landlock::RulesetError> {
        // What an older kernel does not know it cannot hold; `landlock_version` tells.
        let mut rules = Ruleset::default()
            .set_compatibility(landlock::CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))?
            .scope(BitFlags::<Scope>::all())?;
        if beside == Beside::Everything {
            rules = rules.handle_access(AccessNet::from_all(NEWEST))?;
        }
        let mut rules = rules.create()?;
        for (path, way) in &self.paths {
            let Ok(file) = open_path(path) else { continue };
            rules = rules.add_rule(PathBeneath::new(file, way.rights(path.is_dir())))?;
        }
        for (file, way) in &self.open {
            // A file that no path leads to, like one in memory, needs no rule and takes none.
            if is_in_file_system(file) {
                let way = if *way == Use::OnlyRead && !guarded { Use::Write } else { *way };
                rules = rules.add_rule(PathBeneath::new(file, way.rights(false)))?;
            }
        }
        Ok(rules)
    }
}

impl Use {
    fn rights(self, directory: bool) -> BitFlags<AccessFs> {
        let rights = match self {
            Self::Read | Self::OnlyRead => AccessFs::ReadFile | AccessFs::ReadDir,
            Self::Run => AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute,
            Self::Write => AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate,
            Self::Device => AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev,
            Self::Change => AccessFs::from_all(NEWEST) & !(AccessFs::Execute | AccessFs::IoctlDev),
        };
        if directory { rights } else { rights & AccessFs::from_file(NEWEST) }
    }
}

fn open_path(path: &Path) -> rustix::io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// Whether a file is in a file system that is mounted, and not one that only the kernel knows.
fn is_in_file_system(file: &OwnedFd) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)));
    link.is_ok_and(|path| path.is_absolute() && !path.as_os_str().as_encoded_bytes().starts_with(b"/memfd:"))
}

/// The version of Landlock's interface (landlock(7)); none where the kernel has it not, or switched off.
pub fn landlock_version() -> Option<u32> {
    // LANDLOCK_CREATE_RULESET_VERSION of linux/landlock.h: tell the version and make nothing.
    const TELL_VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the kernel demands no attributes and touches no memory of ours.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            TELL_VERSION,
        )
    };
    u32::try_from(version).ok().filter(|version| *version > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_set_takes_what_is_there_and_leaves_out_what_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let memory = rustix::fs::memfd_create("memory", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut files = Files::default();
        files.read(directory.path()).run("/proc/self/exe").device("/dev/null").change("/no/such/place");
        files.write_open(&tempfile::tempfile().unwrap()).unwrap().write_open(&memory).unwrap();
        // A test of what the rules do needs processes of its own: `attempts` is that.
        let rules = files.rule_set(Beside::Everything, true);
        assert_eq!(rules.is_ok(), landlock_version().is_some(), "{rules:?}");
    }

    #[test]
    fn rights_of_directories_are_not_asked_for_files() {
        assert!(!Use::Change.rights(false).contains(AccessFs::MakeReg));
        assert!(Use::Change.rights(true).contains(AccessFs::MakeSock | AccessFs::Refer));
        assert!(!Use::Read.rights(true).contains(AccessFs::Execute));
    }
}
