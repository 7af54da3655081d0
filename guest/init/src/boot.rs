//! From the kernel's hand-over to an open port: the steps that every boot takes.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

use crate::failed;

/// Kernel object events; include/uapi/linux/netlink.h.
const NETLINK_KOBJECT_UEVENT: u32 = 15;

/// Prepares the machine and returns the port to the host.
pub(crate) fn boot() -> Result<OwnedFd, String> {
    mount_kernel_file_systems()?;
    // Listening starts before the modules do, so that no device can appear unnoticed.
    let events = listen_for_devices()?;
    load_modules()?;
    raise_limits();
    wait_for_port(&events)
}

fn mount_kernel_file_systems() -> Result<(), String> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mounts =
        [("devtmpfs", "/dev", MountFlags::NOSUID), ("proc", "/proc", quiet), ("sysfs", "/sys", quiet)];
    for (kind, target, flags) in mounts {
        match mount(kind, target, flags, "") {
            // The kernel may have mounted /dev by itself.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            outcome => outcome.map_err(failed(&format!("mount {kind} on {target}")))?,
        }
    }
    Ok(())
}

/// Mounts a file system that has no device.
pub(crate) fn mount(kind: &str, target: &str, flags: MountFlags, data: &str) -> std::io::Result<()> {
    let data = CString::new(data)?;
    Ok(rustix::mount::mount(kind, target, kind, flags, data.as_c_str())?)
}

fn load_modules() -> Result<(), String> {
    let order = std::fs::read_to_string("/modules/order").map_err(failed("read /modules/order"))?;
    for (place, name) in order.lines().enumerate() {
        let path = format!("/modules/{place:02}-{name}.ko");
        let module = File::open(&path).map_err(failed(&format!("open module {name}")))?;
        match rustix::system::finit_module(&module, c"", 0) {
            // EEXIST: built in or loaded already. ENODEV: the hardware it is for is not here.
            Ok(()) | Err(rustix::io::Errno::EXIST | rustix::io::Errno::NODEV) => {}
            Err(error) => return Err(format!("failed to load module {name}: {error}")),
        }
        // A loaded module's file is memory for nothing.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// What processes may have open; the soft limit stays where old programs expect it.
fn raise_limits() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let files = Rlimit { current: Some(1024), maximum: Some(524_288) };
    // Left as they are, the limits only are lower.
    let _ = setrlimit(Resource::Nofile, files);
}

fn listen_for_devices() -> Result<OwnedFd, String> {
    let protocol = rustix::net::Protocol::from_raw(NETLINK_KOBJECT_UEVENT.try_into().expect("is not zero"));
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(protocol),
    )
    .map_err(|error| format!("failed to listen for devices: {error}"))?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 1))
        .map_err(|error| format!("failed to listen for devices: {error}"))?;
    Ok(socket)
}

fn wait_for_port(events: &OwnedFd) -> Result<OwnedFd, String> {
    loop {
        if let Some(path) = find_port() {
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
            return rustix::fs::open(&path, flags, Mode::empty())
                .map_err(|error| format!("failed to open the port {}: {error}", path.display()));
        }
        let mut event = [0; 8192];
        rustix::net::recv(events, &mut event[..], RecvFlags::empty())
            .map_err(|error| format!("failed to wait for the port to the host: {error}"))?;
    }
}

fn find_port() -> Option<PathBuf> {
    let ports = std::fs::read_dir("/sys/class/virtio-ports").ok()?;
    let named = |path: &PathBuf| {
        std::fs::read_to_string(path.join("name")).is_ok_and(|name| name.trim_end() == proto::PORT_NAME)
    };
    let port = ports.flatten().map(|entry| entry.path()).find(named)?;
    Some(Path::new("/dev").join(port.file_name()?)).filter(|device| device.exists())
}
