//! The attempts, each a system call or two.
#![allow(unsafe_code, reason = "what is tried has no safe interface")]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::ptr;

use super::Targets;

type Try = (String, io::Result<()>);

/// All but the last, in an order in which none takes another's ground away.
pub(super) fn all(targets: &Targets) -> Vec<Try> {
    let mut tried = files(targets);
    tried.extend(network(targets));
    tried.extend(processes(targets));
    tried.extend(kernel());
    tried.extend(views_and_rights());
    tried
}

fn to(what: &str, outcome: io::Result<()>) -> Try {
    (what.to_owned(), outcome)
}

fn files(targets: &Targets) -> Vec<Try> {
    let Targets { file, process, .. } = targets;
    let directory = file.parent().unwrap_or(Path::new("/"));
    let open = |path: &Path| File::open(path).map(drop);
    let of_process = |name: &str| open(Path::new(&format!("/proc/{process}/{name}")));
    let environment = std::fs::read(format!("/proc/{process}/environ")).map(drop);
    let mut tried = vec![
        to("read a file of the user", open(file)),
        to("write a file of the user", File::options().append(true).open(file).map(drop)),
        to("shorten a file of the user", truncate(file)),
        to("rename a file of the user", std::fs::rename(file, file)),
        to("make a file beside it", File::create(directory.join("made")).map(drop)),
        to("make a directory beside it", make_directory(&directory.join("made-too"))),
        to("list its directory", std::fs::read_dir(directory).map(drop)),
        to("change its mode", std::fs::set_permissions(file, PermissionsExt::from_mode(0o600))),
        to("change its times", change_times(file)),
        to("watch its directory", watch(directory)),
        to("read /etc/passwd", open(Path::new("/etc/passwd"))),
        to("read /etc/shadow", open(Path::new("/etc/shadow"))),
        to("open a disk of the host", open_any_block_device()),
        to("list processes", std::fs::read_dir("/proc").map(drop)),
        to("read another process's environment", environment),
        to("open another process's memory", of_process("mem")),
        to("open another process's network", of_process("ns/net")),
        to("steer the kernel through /proc/sys", write_setting()),
    ];
    tried.extend(memory(&targets.memory));
    for other in &targets.others {
        tried.push((format!("read {}", other.display()), open(other)));
    }
    tried
}

/// What a machine is restored from is mapped by QEMU, and mapped by others.
fn memory(path: &Path) -> Vec<Try> {
    let open = |options: &mut OpenOptions| options.open(path).map(drop);
    vec![
        // First, since who opens it for QEMU does so once.
        to("write to a template's memory", open_as_qemu(path).and_then(|file| write_or_map(&file))),
        to("open it once more to write", open_as_qemu(path).and_then(|file| write_or_map(&file))),
        to("open it otherwise to write", open(File::options().write(true))),
        to("open it otherwise to read and write", open(File::options().read(true).write(true))),
        to("shorten it", truncate(path)),
    ]
}

fn network(targets: &Targets) -> Vec<Try> {
    let abstract_socket = SocketAddr::from_abstract_name(&targets.abstract_socket);
    let connect = |address: SocketAddr| UnixStream::connect_addr(&address).map(drop);
    let own = SocketAddr::from_abstract_name(format!("{}-own", targets.abstract_socket));
    vec![
        to("connect to a TCP service", TcpStream::connect(targets.tcp).map(drop)),
        to("listen on a TCP port", TcpListener::bind("127.0.0.1:0").map(drop)),
        to("send a UDP datagram", send_datagram(targets)),
        to("connect to a Unix socket", UnixStream::connect(&targets.socket).map(drop)),
        to("connect to an abstract Unix socket", abstract_socket.and_then(connect)),
        to("listen on an abstract Unix socket", own.and_then(|own| UnixListener::bind_addr(&own).map(drop))),
        to("make a pair of sockets", UnixStream::pair().map(drop)),
        to("make a raw socket", socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)),
        to("make a packet socket", socket(libc::AF_PACKET, libc::SOCK_RAW, 0)),
        to("make a netlink socket", socket(libc::AF_NETLINK, libc::SOCK_RAW, 0)),
        to("make a vsock socket", socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    ]
}

fn processes(targets: &Targets) -> Vec<Try> {
    let process = targets.process;
    // SAFETY: the calls take numbers; signal 0 only asks.
    unsafe {
        vec![
            to("signal the process that started it", checked(libc::kill(process, 0).into())),
            to("open a handle on it", checked(libc::syscall(libc::SYS_pidfd_open, process, 0))),
            to("trace it", trace(process)),
            to("read its memory", read_memory(process)),
            to("start a process", start_process()),
        ]
    }
}

/// Parts of the kernel that are large, new, or the administrator's.
fn kernel() -> Vec<Try> {
    let mut attributes = [0_u64; 16];
    let pointer = attributes.as_mut_ptr();
    // SAFETY: the kernel reads and writes no more than the 128 bytes that are there.
    unsafe {
        vec![
            to("use io_uring", checked(libc::syscall(libc::SYS_io_uring_setup, 1, pointer))),
            to("use userfaultfd", checked(libc::syscall(libc::SYS_userfaultfd, 1))),
            to("keep a key in the kernel", checked(libc::syscall(libc::SYS_keyctl, 1, ptr::null::<u8>()))),
            to("make a BPF map", make_map()),
            to("share memory by number", checked(libc::shmget(libc::IPC_PRIVATE, 4096, 0o600).into())),
        ]
    }
}

fn views_and_rights() -> Vec<Try> {
    // SAFETY: the calls take numbers and texts that live for ever.
    unsafe {
        vec![
            to("raise a limit", raise_limit()),
            to("take capabilities", take_capabilities()),
            to("name the host", name_host()),
            to("change the root directory", checked(libc::chroot(c"/".as_ptr()).into())),
            to("become another user", checked(libc::syscall(libc::SYS_setresuid, 1, 1, 1))),
            to("make a user namespace", checked(libc::unshare(libc::CLONE_NEWUSER).into())),
            to("make a network namespace", checked(libc::unshare(libc::CLONE_NEWNET).into())),
            to("make a mount namespace", checked(libc::unshare(libc::CLONE_NEWNS).into())),
            // It is only prepared: nothing is mounted anywhere where this succeeds.
            to("mount a file system", checked(libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0))),
        ]
    }
}

/// Only comes back if it is refused.
pub(super) fn execute_shell() -> io::Error {
    let words = [c"sh".as_ptr(), c"-c".as_ptr(), c":".as_ptr(), ptr::null()];
    // SAFETY: the list ends with a null, and its words live for ever.
    unsafe { libc::execve(c"/bin/sh".as_ptr(), words.as_ptr(), [ptr::null()].as_ptr()) };
    io::Error::last_os_error()
}

fn checked(outcome: i64) -> io::Result<()> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn text(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn truncate(path: &Path) -> io::Result<()> {
    let path = text(path)?;
    // SAFETY: the path is a C string.
    checked(unsafe { libc::truncate(path.as_ptr(), 4) }.into())
}

/// With the one flag that QEMU opens a guest's memory with.
fn open_as_qemu(path: &Path) -> io::Result<File> {
    let path = text(path)?;
    // SAFETY: the path is a C string, and the descriptor is nobody else's.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_RDWR);
        checked(file.into())?;
        Ok(File::from_raw_fd(file))
    }
}

/// In one way or the other.
fn write_or_map(file: &File) -> io::Result<()> {
    file.write_at(b"o", 0).map(drop).or_else(|_| {
        let (length, rights) = (4, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: the kernel chooses where, and nothing uses it.
        let mapped =
            unsafe { libc::mmap(ptr::null_mut(), length, rights, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    })
}

/// One that is there already counts as made.
fn make_directory(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

fn change_times(path: &Path) -> io::Result<()> {
    let path = text(path)?;
    // SAFETY: the path is a C string, and no times mean now.
    checked(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), ptr::null(), 0) }.into())
}

fn watch(directory: &Path) -> io::Result<()> {
    let path = text(directory)?;
    // SAFETY: the path is a C string.
    unsafe {
        let watcher = libc::inotify_init1(libc::IN_CLOEXEC);
        checked(watcher.into())?;
        checked(libc::inotify_add_watch(watcher, path.as_ptr(), libc::IN_OPEN).into())
    }
}

fn open_any_block_device() -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for name in ["vda", "sda", "nvme0n1", "xvda", "mmcblk0", "dm-0", "loop0"] {
        match File::open(Path::new("/dev").join(name)) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Opened, and nothing is written.
fn write_setting() -> io::Result<()> {
    File::options().write(true).open("/proc/sys/kernel/core_pattern").map(drop)
}

fn send_datagram(targets: &Targets) -> io::Result<()> {
    UdpSocket::bind("127.0.0.1:0")?.send_to(b"x", targets.tcp).map(drop)
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    // SAFETY: the call takes numbers.
    checked(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) }.into())
}

/// Seizing does not stop it, and ends with this process.
fn trace(process: i32) -> io::Result<()> {
    let nothing = ptr::null_mut::<libc::c_void>();
    // SAFETY: the call takes numbers.
    unsafe {
        checked(libc::ptrace(libc::PTRACE_SEIZE, process, nothing, nothing))?;
        libc::ptrace(libc::PTRACE_DETACH, process, nothing, nothing);
    }
    Ok(())
}

/// A page that every process of this program has: wherever it is there, the right to read is asked for first.
fn read_memory(process: i32) -> io::Result<()> {
    let mut byte = 0_u8;
    let ours = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let theirs = libc::iovec { iov_base: ptr::without_provenance_mut(0x1000), iov_len: 1 };
    // SAFETY: what is read is written to the byte.
    let outcome = unsafe { libc::process_vm_readv(process, &raw const ours, 1, &raw const theirs, 1, 0) };
    match checked(outcome as i64) {
        // It had the right, and there is nothing at that address.
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Ok(()),
        outcome => outcome,
    }
}

fn start_process() -> io::Result<()> {
    // SAFETY: the child ends at once.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::_exit(0);
        }
        checked(child.into())?;
        libc::waitpid(child, ptr::null_mut(), 0);
    }
    Ok(())
}

/// `BPF_MAP_CREATE` of linux/bpf.h: an array of one entry.
fn make_map() -> io::Result<()> {
    let attributes: [u32; 32] = std::array::from_fn(|index| match index {
        0 => 2,
        1 | 2 => 4,
        3 => 1,
        _ => 0,
    });
    // SAFETY: the kernel reads the 72 bytes that are said to be there.
    checked(unsafe { libc::syscall(libc::SYS_bpf, 0, attributes.as_ptr(), 72) })
}

fn raise_limit() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to a value of our own.
    unsafe {
        checked(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit).into())?;
        limit.rlim_max += 1;
        checked(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit).into())
    }
}

/// That to administer the system, which root has, by capset(2).
fn take_capabilities() -> io::Result<()> {
    let header = [0x2008_0522_u32, 0];
    // `CAP_SYS_ADMIN` of linux/capability.h is number 21; it keeps those that it has.
    let wanted = [[1_u32 << 21, 1 << 21, 0], [0, 0, 0]];
    let mut now = [[0_u32; 3]; 2];
    // SAFETY: all have the layout that capget(2) and capset(2) have for this version.
    unsafe {
        checked(libc::syscall(libc::SYS_capget, header.as_ptr(), now.as_mut_ptr()))?;
        for (word, more) in now.iter_mut().zip(wanted) {
            (word[0], word[1]) = (word[0] | more[0], word[1] | more[1]);
        }
        checked(libc::syscall(libc::SYS_capset, header.as_ptr(), now.as_ptr()))
    }
}

/// The name that it has already.
fn name_host() -> io::Result<()> {
    // SAFETY: all zeros is such a value, the kernel fills it in, and ends the name with a zero.
    unsafe {
        let mut system: libc::utsname = std::mem::zeroed();
        checked(libc::uname(&raw mut system).into())?;
        let name = system.nodename.as_ptr();
        checked(libc::sethostname(name, libc::strlen(name)).into())
    }
}
