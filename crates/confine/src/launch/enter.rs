//! Between clone and exec: system calls only, since another thread may hold any lock, that of the allocator first.
#![allow(unsafe_code, reason = "what happens between clone(2) and execve(2) has no safe interface")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::process::Pid;

use crate::opener::send;
use crate::{Filter, Limits, Part};

/// All namespaces that a process gets of its own. A cgroup namespace would hide a path and nothing else.
const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A part of the confinement.
    Part(Part),
    /// To begin the program.
    Execute,
    /// Anything else.
    Process,
}

/// A step that failed, and how.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) step: Step,
    pub(super) error: io::Error,
}

impl Failed {
    pub(super) fn process(error: impl Into<io::Error>) -> Self {
        Self { step: Step::Process, error: error.into() }
    }

    /// What the process wrote before it ended: a step, and the number of an error.
    pub(super) fn read(said: &[u8]) -> Option<Self> {
        let (step, number) = said.split_first()?;
        let error = number.try_into().map(i32::from_ne_bytes).map(io::Error::from_raw_os_error);
        Some(Self { step: Step::of(*step), error: error.unwrap_or_else(|_| io::ErrorKind::Other.into()) })
    }
}

impl Step {
    const KNOWN: [Self; 6] = [
        Self::Process,
        Self::Execute,
        Self::Part(Part::Landlock),
        Self::Part(Part::Namespaces),
        Self::Part(Part::Filter),
        Self::Part(Part::ReadOnly),
    ];

    fn number(self) -> u8 {
        Self::KNOWN.iter().position(|step| *step == self).map_or(0, |position| position as u8)
    }

    fn of(number: u8) -> Self {
        Self::KNOWN.get(usize::from(number)).copied().unwrap_or(Self::Process)
    }
}

/// What the process does, all of it allocated before.
pub(super) struct Plan<'p> {
    /// The program.
    pub(super) path: *const libc::c_char,
    /// Its name and arguments, and a null.
    pub(super) arguments: Vec<*const libc::c_char>,
    /// The source and the number of each descriptor, by number.
    pub(super) descriptors: Vec<(RawFd, RawFd)>,
    pub(super) namespaces: bool,
    pub(super) limits: &'p Limits,
    pub(super) rules: Option<RawFd>,
    /// What asks the launcher, and the socket on which it waits for whom to listen to.
    pub(super) opener: Option<(&'p Filter, RawFd)>,
    pub(super) filter: Option<&'p Filter>,
    /// Where what fails is told.
    pub(super) report: RawFd,
}

/// Makes the process, which carries out `plan`.
pub(super) fn clone(plan: &Plan<'_>) -> Result<(Pid, OwnedFd), Failed> {
    let namespaces = if plan.namespaces { NAMESPACES } else { 0 };
    let flags = libc::CLONE_PIDFD | libc::SIGCHLD | namespaces;
    let mut handle: RawFd = -1;
    // No handler of ours may run in the child: it would take its signals for this process's.
    let mask = block_signals();
    // SAFETY: without CLONE_VM it is a fork: the child has its own copy of everything. It makes system calls only, until
    // it executes a program or ends. `handle` outlives the call.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_clone,
            flags,
            ptr::null::<libc::c_void>(),
            &raw mut handle,
            ptr::null::<i32>(),
            0_usize,
        )
    };
    if outcome == 0 {
        become_confined(plan, &mask);
    }
    let error = io::Error::last_os_error();
    restore_signals(&mask);
    if outcome < 0 {
        let step = if plan.namespaces { Step::Part(Part::Namespaces) } else { Step::Process };
        return Err(Failed { step, error });
    }
    let pid =
        i32::try_from(outcome).ok().and_then(Pid::from_raw).expect("the kernel numbers processes from 1");
    // SAFETY: the kernel has just opened it for us.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(handle) }))
}

/// The child's way. It does not return.
fn become_confined(plan: &Plan<'_>, mask: &libc::sigset_t) -> ! {
    let (step, error) = match confine(plan) {
        Ok(()) => {
            // SAFETY: the default is no code. Rust ignores this signal, and what is ignored stays so.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            restore_signals(mask);
            // SAFETY: all are C strings, and lists of them that end with a null, that live until the program is replaced.
            unsafe { libc::execve(plan.path, plan.arguments.as_ptr(), [ptr::null()].as_ptr()) };
            (Step::Execute, io::Error::last_os_error())
        }
        Err(failed) => (failed.step, failed.error),
    };
    let number = error.raw_os_error().unwrap_or(libc::EINVAL).to_ne_bytes();
    let said = [step.number(), number[0], number[1], number[2], number[3]];
    // SAFETY: the bytes are ours; then the process ends without running anything of the launcher's.
    unsafe {
        libc::write(plan.report, said.as_ptr().cast(), said.len());
        libc::_exit(127)
    }
}

fn confine(plan: &Plan<'_>) -> Result<(), Failed> {
    die_with_launcher(plan.report).map_err(Failed::process)?;
    arrange(plan).map_err(Failed::process)?;
    plan.limits.set(plan.namespaces).map_err(Failed::process)?;
    no_new_privileges().map_err(Failed::process)?;
    drop_capabilities().map_err(Failed::process)?;
    let part = |part| move |error| Failed { step: Step::Part(part), error };
    if let Some((filter, launcher)) = plan.opener {
        let listener = filter.install_and_listen().map_err(part(Part::ReadOnly))?;
        send(launcher, listener.as_raw_fd()).map_err(part(Part::ReadOnly))?;
    }
    if let Some(rules) = plan.rules {
        restrict_self(rules).map_err(part(Part::Landlock))?;
    }
    if let Some(filter) = plan.filter {
        filter.install().map_err(part(Part::Filter))?;
    }
    Ok(())
}

/// Has the kernel end this process when the launching thread ends, however that ends.
fn die_with_launcher(report: RawFd) -> io::Result<()> {
    // SAFETY: the call takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) })?;
    // Had it ended before, nobody would have told. Its number cannot be asked for out of a PID namespace, but nobody
    // else has the reading end of the pipe.
    let mut ask = libc::pollfd { fd: report, events: 0, revents: 0 };
    // SAFETY: the pointer is to a value of our own.
    check(unsafe { libc::poll(&raw mut ask, 1, 0) })?;
    if ask.revents & libc::POLLERR == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
}

/// A group of its own, so that Ctrl-C in a terminal is for the launcher to handle; and its descriptors.
fn arrange(plan: &Plan<'_>) -> io::Result<()> {
    // SAFETY: the calls take numbers, and text that lives for ever.
    unsafe {
        check(libc::setpgid(0, 0))?;
        check(libc::chdir(c"/".as_ptr()))?;
        let mut next = 0;
        for (source, number) in &plan.descriptors {
            check(libc::dup2(*source, *number))?;
            next = number + 1;
        }
        // What is not listed is closed on exec already, or should be. A kernel older than 5.11 leaves it at that.
        let cloexec = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
        libc::syscall(libc::SYS_close_range, next, libc::c_uint::MAX, cloexec);
    }
    Ok(())
}

/// No program that this process executes can give it rights.
pub fn no_new_privileges() -> io::Result<()> {
    // SAFETY: the call takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

/// Takes away what root can do beyond owning files, and what the first process of a user namespace can do in it.
fn drop_capabilities() -> io::Result<()> {
    // `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h, which counts capabilities in two words.
    let header = [0x2008_0522_u32, 0];
    let none = [[0_u32; 3]; 2];
    // SAFETY: both have the layout that capset(2) has for this version.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) as libc::c_int })
}

/// Puts this thread, and those that it will start, under the rules.
pub(crate) fn restrict_self(rules: RawFd) -> io::Result<()> {
    // SAFETY: the call takes numbers.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules, 0) as libc::c_int })
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: all zeros is a set, and the pointers are to values of our own.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    }
}

fn restore_signals(mask: &libc::sigset_t) {
    // SAFETY: the pointer is to a set that was filled.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}

fn check(outcome: libc::c_int) -> io::Result<()> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
