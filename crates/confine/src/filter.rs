//! Which system calls a process may make: a seccomp filter, seccomp(2), assembled here.
//!
//! A filter is a program of the classic BPF machine that the kernel runs for each call, over `struct seccomp_data`
//! (linux/seccomp.h). Ours are all of this shape, `k` being the number of a call:
//!
//! ```text
//!         load  the architecture
//!         not x86-64?              end the process      a 32-bit call has other numbers
//!         load  the call's number
//!         0x40000000 or above?     ENOSYS               the x32 calls, under which filters are walked around
//!         k1?                      its verdict          two instructions for each rule
//!         k2?                      its verdict
//!         …
//!         otherwise                allow, or EPERM
//! ```
//!
//! There are two. What runs a *guest* is code of others, of any version, so its filter names what is refused: QEMU adds
//! the filters of its own `-sandbox` to it. What *reads* foreign bytes is our own code, so its filter names what is
//! allowed. A refused call fails with EPERM and does not end the process, since libraries try calls that they can do
//! without; nothing is gained by having tried. Calls that there is a way around for get ENOSYS, on which libraries take that.
#![allow(unsafe_code, reason = "handing a filter to the kernel")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use libc::{c_long, sock_filter};

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
/// The low halves of the first arguments, on a little-endian machine.
const FIRST_ARGUMENT: u32 = 16;
const SECOND_ARGUMENT: u32 = 24;
const THIRD_ARGUMENT: u32 = 32;

/// `AUDIT_ARCH_X86_64` of linux/audit.h: `EM_X86_64`, 64 bits, little-endian.
const X86_64: u32 = 0xC000_003E;
/// `__X32_SYSCALL_BIT` of asm/unistd.h.
const X32: u32 = 0x4000_0000;

/// Flags of clone(2) that make a namespace. `CLONE_NEWTIME` is not among them: there it means something else.
const NEW_NAMESPACES: u32 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u32;

/// Calls that the C library's headers do not know yet; `syscall_64.tbl` of Linux.
const FCHMODAT2: c_long = 452;
const SETXATTRAT: c_long = 463;
const REMOVEXATTRAT: c_long = 466;

/// What a process that runs a guest has no use for.
const NOT_FOR_GUESTS: &[c_long] = &[
    // Sockets, other than those that it was given.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_kcmp,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_execveat,
    // Other views of the system.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // What Landlock leaves to whoever owns a file, and watching what others do with theirs.
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_lchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    REMOVEXATTRAT,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_utimensat,
    libc::SYS_inotify_add_watch,
    // Other identities.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_capset,
    // Parts of the kernel that are large, new or the administrator's.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_vhangup,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
    libc::SYS_shmget,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_mq_open,
];

/// What a process needs that reads bytes from descriptors, works on them with threads, and writes bytes.
const FOR_READERS: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fadvise64,
    libc::SYS_copy_file_range,
    libc::SYS_close,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Calls whose callers know another way.
const WITH_ANOTHER_WAY: &[c_long] =
    &[libc::SYS_clone3, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// Flags of fcntl(2)'s second argument cannot tell descriptors apart, so readers may only ask.
const QUESTIONS_OF_READERS: &[c_long] =
    &[libc::SYS_fcntl, libc::SYS_statx, libc::SYS_newfstatat, libc::SYS_prctl];

/// A filter of system calls, ready for the kernel.
#[derive(Debug, Clone)]
pub struct Filter {
    program: Vec<sock_filter>,
}

/// Whether processes can have namespaces of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespaces {
    /// They can.
    Allowed,
    /// They cannot.
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allow,
    Refuse(i32),
    End,
    /// Whoever listens decides.
    Ask,
}

impl Filter {
    /// For what runs a guest.
    pub fn for_guests() -> Self {
        let mut filter = Self::begin();
        for call in NOT_FOR_GUESTS {
            filter.rule(*call, Verdict::Refuse(libc::EPERM));
        }
        filter.other_ways();
        filter.clone_if(libc::CLONE_THREAD as u32, Verdict::Allow, Verdict::Refuse(libc::EPERM));
        filter.end(Verdict::Allow);
        filter
    }

    /// For what reads foreign bytes, once it has begun: it opens nothing, starts nothing but threads, and connects to
    /// nothing.
    pub fn for_readers() -> Self {
        let mut filter = Self::begin();
        for call in FOR_READERS.iter().chain(QUESTIONS_OF_READERS) {
            filter.rule(*call, Verdict::Allow);
        }
        filter.other_ways();
        filter.clone_if(libc::CLONE_THREAD as u32, Verdict::Allow, Verdict::Refuse(libc::EPERM));
        filter.end(Verdict::Refuse(libc::EPERM));
        filter
    }

    /// One that refuses `calls`, new namespaces too where they are not to be had, and allows anything else: what a host is
    /// like that has less to confine with. For tests, and as a start for others.
    pub fn refusing(calls: &[c_long], namespaces: Namespaces) -> Self {
        let mut filter = Self::begin();
        for call in calls {
            filter.rule(*call, Verdict::Refuse(libc::EPERM));
        }
        filter.other_ways();
        if namespaces == Namespaces::Refused {
            filter.clone_if(NEW_NAMESPACES, Verdict::Refuse(libc::EPERM), Verdict::Allow);
        }
        filter.end(Verdict::Allow);
        filter
    }

    /// One that allows anything, and asks whoever listens about opening a file for reading and writing, with no other flag:
    /// QEMU opens so the file of a guest's memory, and nothing else. To be installed beside another.
    pub(crate) fn asking_to_write() -> Self {
        let mut filter = Self::begin();
        for (call, flags) in [(libc::SYS_open, SECOND_ARGUMENT), (libc::SYS_openat, THIRD_ARGUMENT)] {
            filter.compare(call, 4);
            filter.load(flags);
            filter.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::O_RDWR.cast_unsigned());
            filter.end(Verdict::Ask);
            filter.end(Verdict::Allow);
        }
        filter.end(Verdict::Allow);
        filter
    }

    /// What clone(2) comes to where one of `flags` is set, and where none is.
    fn clone_if(&mut self, flags: u32, with: Verdict, without: Verdict) {
        self.compare(libc::SYS_clone, 4);
        self.load(FIRST_ARGUMENT);
        self.test_bits(flags);
        self.end(with);
        self.end(without);
    }

    fn begin() -> Self {
        let mut filter = Self { program: Vec::new() };
        filter.load(ARCHITECTURE);
        filter.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, X86_64);
        filter.end(Verdict::End);
        filter.load(NUMBER);
        filter.push(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32);
        filter.end(Verdict::Refuse(libc::ENOSYS));
        filter
    }

    fn other_ways(&mut self) {
        for call in WITH_ANOTHER_WAY {
            self.rule(*call, Verdict::Refuse(libc::ENOSYS));
        }
    }

    fn rule(&mut self, call: c_long, verdict: Verdict) {
        self.compare(call, 1);
        self.end(verdict);
    }

    /// Goes on if it is this call, and skips the next `skip` instructions if not.
    fn compare(&mut self, call: c_long, skip: u8) {
        let number = u32::try_from(call).expect("numbers of calls are small");
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, skip, number);
    }

    /// Goes on if one of these bits is set, and skips an instruction if none is.
    fn test_bits(&mut self, bits: u32) {
        self.push(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 1, bits);
    }

    fn load(&mut self, offset: u32) {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    }

    fn end(&mut self, verdict: Verdict) {
        let value = match verdict {
            Verdict::Allow => libc::SECCOMP_RET_ALLOW,
            Verdict::Refuse(error) => libc::SECCOMP_RET_ERRNO | error.unsigned_abs(),
            Verdict::End => libc::SECCOMP_RET_KILL_PROCESS,
            Verdict::Ask => libc::SECCOMP_RET_USER_NOTIF,
        };
        self.push(libc::BPF_RET | libc::BPF_K, 0, 0, value);
    }

    fn push(&mut self, code: u32, jt: u8, jf: u8, k: u32) {
        self.program.push(sock_filter { code: code as u16, jt, jf, k });
    }

    /// Puts this thread, and those that it will start, under the filter, for good. `no_new_privs` must be set. Makes one
    /// system call only.
    pub fn install(&self) -> io::Result<()> {
        self.install_with(0).map(drop)
    }

    /// The same; returns the descriptor on which the kernel asks, closed on exec. A process can have one only.
    pub fn install_and_listen(&self) -> io::Result<OwnedFd> {
        let listener = self.install_with(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
        // SAFETY: the kernel has just opened it for us.
        Ok(unsafe { OwnedFd::from_raw_fd(listener) })
    }

    fn install_with(&self, flags: libc::c_ulong) -> io::Result<RawFd> {
        let program =
            libc::sock_fprog { len: self.program.len() as u16, filter: self.program.as_ptr().cast_mut() };
        let set = libc::SECCOMP_SET_MODE_FILTER;
        // SAFETY: the kernel copies the program, which lives as long as the call.
        let outcome = unsafe { libc::syscall(libc::SYS_seccomp, set, flags, &raw const program) };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(outcome as RawFd) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do.
    fn run(filter: &Filter, architecture: u32, call: c_long, first: u32) -> u32 {
        run_with(filter, architecture, call, [first, 0, 0])
    }

    /// The instructions that are used here, carried out.
    fn run_with(filter: &Filter, architecture: u32, call: c_long, arguments: [u32; 3]) -> u32 {
        let mut at = 0;
        let mut register = 0;
        loop {
            let instruction = &filter.program[at];
            at += 1;
            let k = instruction.k;
            let jump = match u32::from(instruction.code) {
                code if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    register = match k {
                        NUMBER => u32::try_from(call).expect("a number"),
                        ARCHITECTURE => architecture,
                        FIRST_ARGUMENT => arguments[0],
                        SECOND_ARGUMENT => arguments[1],
                        THIRD_ARGUMENT => arguments[2],
                        other => panic!("nothing is read at {other}"),
                    };
                    continue;
                }
                code if code == libc::BPF_RET | libc::BPF_K => return k,
                code if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => register == k,
                code if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => register >= k,
                code if code == libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K => register & k != 0,
                code => panic!("instruction {code} is not used"),
            };
            at += usize::from(if jump { instruction.jt } else { instruction.jf });
        }
    }

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

    #[test]
    fn calls_under_other_numbers_do_not_get_around_a_filter() {
        const I386: u32 = 0x4000_0003;
        for filter in [Filter::for_guests(), Filter::for_readers()] {
            assert_eq!(run(&filter, I386, libc::SYS_read, 0), libc::SECCOMP_RET_KILL_PROCESS);
            assert_eq!(run(&filter, X86_64, libc::SYS_read | c_long::from(X32), 0), ENOSYS);
            assert_eq!(run(&filter, X86_64, libc::SYS_read, 0), ALLOW);
            assert!(filter.program.len() <= 4096, "BPF_MAXINSNS of linux/bpf_common.h");
        }
    }

    #[test]
    fn a_guest_gets_threads_and_no_sockets() {
        let filter = Filter::for_guests();
        for call in NOT_FOR_GUESTS {
            assert_eq!(run(&filter, X86_64, *call, 0), EPERM, "{call}");
        }
        let threads = (libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND) as u32;
        assert_eq!(run(&filter, X86_64, libc::SYS_clone, threads), ALLOW);
        for other in [libc::SIGCHLD, libc::CLONE_NEWUSER, libc::CLONE_NEWNET | libc::SIGCHLD] {
            assert_eq!(run(&filter, X86_64, libc::SYS_clone, other.cast_unsigned()), EPERM);
        }
        // The C library's way to start threads falls back to the one that can be looked into.
        assert_eq!(run(&filter, X86_64, libc::SYS_clone3, 0), ENOSYS);
        assert_eq!(run(&filter, X86_64, libc::SYS_execve, 0), ALLOW, "it has to begin");
    }

    #[test]
    fn a_lesser_host_refuses_namespaces_and_starts_processes() {
        let filter = Filter::refusing(&[libc::SYS_landlock_create_ruleset], Namespaces::Refused);
        assert_eq!(run(&filter, X86_64, libc::SYS_landlock_create_ruleset, 0), EPERM);
        assert_eq!(run(&filter, X86_64, libc::SYS_clone, libc::CLONE_NEWUSER as u32), EPERM);
        assert_eq!(run(&filter, X86_64, libc::SYS_clone, libc::SIGCHLD as u32), ALLOW);
    }

    #[test]
    fn whoever_listens_is_asked_about_what_opens_memory_alone() {
        let filter = Filter::asking_to_write();
        let ask = |call, arguments: [i32; 3]| {
            run_with(&filter, X86_64, call, arguments.map(i32::cast_unsigned)) == libc::SECCOMP_RET_USER_NOTIF
        };
        let here = libc::AT_FDCWD;
        assert!(ask(libc::SYS_openat, [here, 1, libc::O_RDWR]));
        assert!(ask(libc::SYS_open, [1, libc::O_RDWR, 0]));
        for flags in
            [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR | libc::O_CLOEXEC, libc::O_RDWR | libc::O_CREAT]
        {
            assert!(!ask(libc::SYS_openat, [here, 1, flags]) && !ask(libc::SYS_open, [1, flags, 0]));
        }
        assert!(!ask(libc::SYS_read, [libc::O_RDWR; 3]));
    }

    #[test]
    fn a_reader_gets_what_is_listed_and_nothing_else() {
        let filter = Filter::for_readers();
        for call in FOR_READERS {
            assert_eq!(run(&filter, X86_64, *call, 0), ALLOW, "{call}");
        }
        for call in
            [libc::SYS_openat, libc::SYS_execve, libc::SYS_socket, libc::SYS_kill, libc::SYS_fork, 400]
        {
            assert_eq!(run(&filter, X86_64, call, 0), EPERM, "{call}");
        }
        assert_eq!(run(&filter, X86_64, libc::SYS_clone, libc::CLONE_THREAD as u32), ALLOW);
        assert_eq!(run(&filter, X86_64, libc::SYS_clone, libc::SIGCHLD as u32), EPERM);
    }
}
