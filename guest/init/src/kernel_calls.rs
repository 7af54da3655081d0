//! The system calls that have no safe wrapper elsewhere; the only `unsafe` code of the guest.
#![allow(unsafe_code, reason = "ioctl, signalfd and fork have no safe form")]

use std::ffi::CString;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{FileType, Gid, Uid};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::Pid;

/// A process that is to be: in its own session, with these IDs, and on a terminal if its input is one.
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) on_terminal: bool,
}

/// What a process that is to be executes: the first of the candidates that the kernel takes.
pub(crate) struct Image {
    pub(crate) candidates: Vec<CString>,
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
}

impl Image {
    /// Becomes the program; returns only the reason why not. Unlike execvp(3), it gives no shell what is not a
    /// program.
    fn execute(&self) -> io::Error {
        let (arguments, environment) = (pointers(&self.arguments), pointers(&self.environment));
        let mut reason = libc::ENOENT;
        for candidate in &self.candidates {
            // SAFETY: both lists end with a null pointer, and their strings live in `self`.
            unsafe { libc::execve(candidate.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
            match io::Error::last_os_error().raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                // Another directory may have one that may be executed.
                Some(libc::EACCES) => reason = libc::EACCES,
                other => return io::Error::from_raw_os_error(other.unwrap_or(libc::ENOEXEC)),
            }
        }
        io::Error::from_raw_os_error(reason)
    }
}

/// The pointers that execve(2) takes: one a string, and a null pointer. The strings must outlive them.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Makes `command` start `image` as `identity` says.
pub(crate) fn start_as(command: &mut Command, identity: Identity, image: Image) {
    let prepare = move || {
        unblock_signals()?;
        rustix::process::setsid()?;
        if identity.on_terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        give_pipes(identity.uid, identity.gid)?;
        // SAFETY: the pointer and the length describe a live vector.
        check(unsafe { libc::setgroups(identity.groups.len(), identity.groups.as_ptr()) })?;
        // SAFETY: plain system calls on this process.
        check(unsafe { libc::setgid(identity.gid) })?;
        // SAFETY: as above.
        check(unsafe { libc::setuid(identity.uid) })?;
        Err(image.execute())
    };
    // SAFETY: this process has one thread, so its child may do what it could do itself, allocating included.
    unsafe { command.pre_exec(prepare) };
}

/// The first descriptor that a process which executes nothing is given.
const GIVEN: RawFd = 3;

/// Makes `command` execute nothing: its process does `work`, with the descriptors that it is given, and ends with the
/// code that this returns. Whoever reads what it writes may go away: that is an error to it, and no signal.
pub(crate) fn instead_of_executing<const N: usize>(
    command: &mut Command,
    given: [OwnedFd; N],
    mut work: impl FnMut([BorrowedFd<'_>; N]) -> u8 + Send + Sync + 'static,
) {
    let prepare = move || {
        unblock_signals()?;
        rustix::process::setsid()?;
        // SAFETY: a plain system call; nobody here handles the signal.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        let place = |index| GIVEN + RawFd::try_from(index).expect("few are given");
        let mut copies = [0; N];
        for (copy, given) in copies.iter_mut().zip(&given) {
            // None is in the place of another then.
            // SAFETY: a plain system call, on a descriptor that is open.
            *copy = unsafe { libc::fcntl(given.as_raw_fd(), libc::F_DUPFD, place(N)) };
            check(*copy)?;
        }
        for (index, copy) in copies.into_iter().enumerate() {
            // SAFETY: whatever is there is used by nobody from here on.
            check(unsafe { libc::dup2(copy, place(index)) })?;
        }
        // What is open here is not its concern. It also tells whoever waits that the process has started.
        // SAFETY: what is closed is used by nobody from here on: `work` opens what it needs.
        check(unsafe { libc::close_range(place(N).cast_unsigned(), libc::c_uint::MAX, 0) })?;
        // SAFETY: they were just made, and are closed with the process.
        let code = work(std::array::from_fn(|index| unsafe { BorrowedFd::borrow_raw(place(index)) }));
        // SAFETY: a plain system call, which does not return.
        unsafe { libc::_exit(code.into()) }
    };
    // SAFETY: as in `start_as`.
    unsafe { command.pre_exec(prepare) };
}

/// What this process takes from a descriptor, a workload wants delivered; a blocked signal stays blocked across
/// an exec.
fn unblock_signals() -> io::Result<()> {
    let mut none = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initialises the set before anything reads it, and all pointers are to it.
    unsafe {
        check(libc::sigemptyset(none.as_mut_ptr()))?;
        check(libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()))
    }
}

/// A program may open its streams anew, as `/dev/stdout`, and a pipe opens for its owner only.
fn give_pipes(uid: u32, gid: u32) -> io::Result<()> {
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        if FileType::from_raw_mode(rustix::fs::fstat(stream)?.st_mode) == FileType::Fifo {
            rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
    }
    Ok(())
}

/// A descriptor that becomes readable when one of `signals` arrives; they are blocked in this process.
pub(crate) fn signal_descriptor(signals: &[i32]) -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initialises the set before anything reads it, and all pointers are to it.
    unsafe {
        check(libc::sigemptyset(set.as_mut_ptr()))?;
        for signal in signals {
            check(libc::sigaddset(set.as_mut_ptr(), *signal))?;
        }
        check(libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()))?;
        let descriptor = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(descriptor)?;
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

/// The next signal that a [`signal_descriptor`] has.
pub(crate) fn next_signal(descriptor: impl AsFd) -> Option<i32> {
    let mut record = [0; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(descriptor, &mut record[..]) {
        // The record starts with the signal's number; signalfd(2).
        Ok(length) if length == record.len() => {
            Some(u32::from_ne_bytes([record[0], record[1], record[2], record[3]]).cast_signed())
        }
        _ => None,
    }
}

/// Sends a signal, a real-time one too, to a process group. One that is gone needs none.
pub(crate) fn signal_group(group: Pid, signal: i32) {
    // SAFETY: a plain system call; the kernel refuses numbers that are no signals.
    let _ = unsafe { libc::kill(-group.as_raw_nonzero().get(), signal) };
}

/// Sends a signal to every process but this one; false if there is none.
pub(crate) fn signal_every_process(signal: rustix::process::Signal) -> bool {
    // SAFETY: a plain system call; the kernel leaves out the first process itself.
    unsafe { libc::kill(-1, signal.as_raw()) == 0 }
}

#[repr(C)]
struct Entropy {
    bits: libc::c_int,
    bytes: libc::c_int,
    seed: [u8; 32],
}

/// Mixes `seed` into the kernel's random pool, counts it as fully random, and reseeds the generator from it.
pub(crate) fn add_entropy(seed: [u8; 32]) -> io::Result<()> {
    /// include/uapi/linux/random.h.
    const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
    const RNDRESEEDCRNG: libc::c_ulong = 0x5207;
    let random = std::fs::OpenOptions::new().write(true).open("/dev/urandom")?;
    let entropy = Entropy { bits: 256, bytes: 32, seed };
    // SAFETY: the argument is a rand_pool_info followed by as many bytes as it says.
    check(unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, &raw const entropy) })?;
    // SAFETY: the call has no argument.
    check(unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG) })
}

/// Makes a mounted ext4 file system, of which `directory` is a part, so many blocks large.
pub(crate) fn resize_ext4(directory: impl AsFd, blocks: u64) -> io::Result<()> {
    /// fs/ext4/ext4.h: `_IOW('f', 16, __u64)`.
    const EXT4_IOC_RESIZE_FS: libc::c_ulong = 0x4008_6610;
    let descriptor = directory.as_fd().as_raw_fd();
    // SAFETY: the argument is the number that the call takes.
    check(unsafe { libc::ioctl(descriptor, EXT4_IOC_RESIZE_FS as libc::Ioctl, &raw const blocks) })
}

/// Makes the kernel refuse to write to a disk.
pub(crate) fn set_read_only(device: &str) -> io::Result<()> {
    /// include/uapi/linux/fs.h: `_IO(0x12, 93)`.
    const BLKROSET: libc::c_ulong = 0x125d;
    let device = std::fs::File::open(device)?;
    let yes: libc::c_int = 1;
    // SAFETY: the argument is the number that the call reads.
    check(unsafe { libc::ioctl(device.as_raw_fd(), BLKROSET as libc::Ioctl, &raw const yes) })
}

/// Sets an interface's address and subnet mask.
pub(crate) fn set_address(interface: &str, address: Ipv4Addr, mask: Ipv4Addr) -> io::Result<()> {
    let mut request = interface_request(interface);
    request.ifr_ifru.ifru_addr = socket_address(address);
    interface_call(libc::SIOCSIFADDR, &request)?;
    request.ifr_ifru.ifru_netmask = socket_address(mask);
    interface_call(libc::SIOCSIFNETMASK, &request)
}

/// Brings an interface up.
pub(crate) fn bring_up(interface: &str) -> io::Result<()> {
    let mut request = interface_request(interface);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    interface_call(libc::SIOCSIFFLAGS, &request)
}

/// Makes `gateway` the default route.
pub(crate) fn add_default_route(gateway: Ipv4Addr) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid rtentry: integers and null pointers.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = socket_address(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    interface_call(libc::SIOCADDRT, &route)
}

/// `linux/ipv6.h`: `struct in6_ifreq`.
#[repr(C)]
struct Address6 {
    address: [u8; 16],
    prefix: u32,
    interface: libc::c_int,
}

/// Gives an interface an IPv6 address.
pub(crate) fn add_address_6(interface: &str, address: Ipv6Addr, prefix: u8) -> io::Result<()> {
    let argument =
        Address6 { address: address.octets(), prefix: prefix.into(), interface: index_of(interface)? };
    call(AddressFamily::INET6, libc::SIOCSIFADDR, &argument)
}

/// `linux/ipv6_route.h`: `struct in6_rtmsg`.
#[repr(C)]
struct Route6 {
    destination: [u8; 16],
    source: [u8; 16],
    gateway: [u8; 16],
    kind: u32,
    destination_length: u16,
    source_length: u16,
    metric: u32,
    information: libc::c_ulong,
    flags: u32,
    interface: libc::c_int,
}

/// Makes `gateway` the default route of IPv6.
pub(crate) fn add_default_route_6(interface: &str, gateway: Ipv6Addr) -> io::Result<()> {
    let argument = Route6 {
        destination: [0; 16],
        source: [0; 16],
        gateway: gateway.octets(),
        kind: 0,
        destination_length: 0,
        source_length: 0,
        metric: 1024,
        information: 0,
        flags: u32::from(libc::RTF_UP | libc::RTF_GATEWAY),
        interface: index_of(interface)?,
    };
    call(AddressFamily::INET6, libc::SIOCADDRT, &argument)
}

fn index_of(interface: &str) -> io::Result<libc::c_int> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"))?;
    text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

fn interface_call<T>(request: libc::Ioctl, argument: &T) -> io::Result<()> {
    call(AddressFamily::INET, request, argument)
}

fn call<T>(family: AddressFamily, request: libc::Ioctl, argument: &T) -> io::Result<()> {
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: the callers pair each request with the argument type that netdevice(7) gives for it.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), request, std::ptr::from_ref(argument)) })
}

fn interface_request(interface: &str) -> libc::ifreq {
    // SAFETY: all-zero bytes are a valid ifreq: characters and integers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
        *to = from.cast_signed();
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}

fn check(outcome: libc::c_int) -> io::Result<()> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
