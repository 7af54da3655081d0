//! Who opens a file for a process that asks for more than it needs.
//!
//! QEMU opens the file of a guest's memory for reading and writing also where it maps it privately, and does not start if it
//! may not. That of a template is shared by all machines that are restored from it, and none may change it for the
//! others. So the kernel asks the launcher about that call, `seccomp_unotify(2)`, and the launcher puts a descriptor into
//! the process that is open for reading. Nothing of the process is looked at for that: which call it is the filter
//! has seen, and the file is always the same.
//!
//! The launcher answers once, and then listens no more: the kernel refuses any later call of that kind with ENOSYS.
#![allow(unsafe_code, reason = "seccomp's notifications have no safe interface")]

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::Filter;
use crate::launch::out_of_the_way;

/// A file for one process, until that is there.
pub(crate) struct Opener {
    file: OwnedFd,
    filter: Filter,
    ours: OwnedFd,
    theirs: OwnedFd,
}

impl Opener {
    pub(crate) fn new(file: &OwnedFd) -> io::Result<Self> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let theirs = out_of_the_way(&theirs)?;
        Ok(Self { file: file.try_clone()?, filter: Filter::asking_to_write(), ours, theirs })
    }

    /// What the process installs, and where it sends its listener.
    pub(crate) fn plan(&self) -> (&Filter, RawFd) {
        (&self.filter, self.theirs.as_raw_fd())
    }

    /// Answers the process, which has begun, in a thread that ends when it asked or ended.
    pub(crate) fn serve(self) -> io::Result<()> {
        drop(self.theirs);
        let listener = receive(&self.ours)?;
        let answer = move || {
            // Whoever gets no answer is refused by the kernel when this thread ends, and that is told by its end.
            if let Err(error) = answer(&listener, &self.file) {
                tracing::warn!(%error, "failed to open a file for a confined process");
            }
        };
        std::thread::Builder::new().name("opener".to_owned()).spawn(answer).map(drop)
    }
}

/// Waits until the process asks, and gives it the file.
fn answer(listener: &OwnedFd, file: &OwnedFd) -> io::Result<()> {
    while has_question(listener)? {
        // SAFETY: the kernel wants zeros here.
        let mut question: libc::seccomp_notif = unsafe { zeroed() };
        match ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &mut question) {
            Ok(_) => return give(listener, question.id, file),
            // Who asked was interrupted meanwhile, and asks again, or has ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits for a question; false if nobody is left who could ask.
fn has_question(listener: &OwnedFd) -> io::Result<bool> {
    let mut waiting = [PollFd::new(listener, PollFlags::IN)];
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut waiting, None))?;
    Ok(waiting[0].revents().contains(PollFlags::IN))
}

fn give(listener: &OwnedFd, id: u64, file: &OwnedFd) -> io::Result<()> {
    // `struct seccomp_notif_addfd` of linux/seccomp.h. The descriptor gets the lowest number that is free, and stays when a
    // program is executed, which none will be.
    let mut given = libc::seccomp_notif_addfd {
        id,
        flags: 0,
        srcfd: file.as_raw_fd().cast_unsigned(),
        newfd: 0,
        newfd_flags: 0,
    };
    let number = ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_ADDFD, &mut given);
    let error = number.as_ref().err().map_or(0, |error| -error.raw_os_error().unwrap_or(libc::EACCES));
    let mut answer = libc::seccomp_notif_resp {
        id,
        val: number.as_ref().map_or(0, |number| i64::from(*number)),
        error,
        flags: 0,
    };
    ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &mut answer)?;
    number.map(drop)
}

/// A request with a value of the type that it is defined for.
fn ioctl<T>(listener: &OwnedFd, request: libc::c_ulong, value: &mut T) -> io::Result<i32> {
    // SAFETY: the callers above give the value that each request reads and writes.
    let outcome = unsafe { libc::ioctl(listener.as_raw_fd(), request, std::ptr::from_mut(value)) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
}

/// The listener that the process sent before it began.
fn receive(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut buffer = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    rustix::net::recvmsg(socket.as_fd(), &mut [io::IoSliceMut::new(&mut byte)], &mut buffer, flags)?;
    let files = buffer.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    files.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the process sent no listener"))
}

/// Sends `file` with a byte, by one system call and without allocating.
pub(crate) fn send(socket: RawFd, file: RawFd) -> io::Result<()> {
    const LENGTH: u32 = size_of::<RawFd>() as u32;
    let mut byte = 0_u8;
    let mut data = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // A control message has the alignment of its header.
    let mut control = [0_u64; 4];
    // SAFETY: the message and what it points to live until the call returns, and the control message fits its space.
    let outcome = unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &raw mut data;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(LENGTH) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(LENGTH) as _;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(file);
        libc::sendmsg(socket, &raw const message, 0)
    };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
