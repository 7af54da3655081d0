//! What tells this machine from others: names, randomness, the clock, and the files that show them.
//!
//! The files live outside the root file system and are bound into it, so the disk of a workspace never
//! carries them and a restored machine gets new ones without touching its disk.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::Path;

use proto::{Identity, Resolver};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use rustix::time::{ClockId, Timespec};

use crate::failed;
use crate::kernel_calls::add_entropy;
use crate::scaffold::{make_directory, make_file};

const FILES: [&str; 4] = ["hosts", "hostname", "resolv.conf", "machine-id"];

/// The files of `/etc` that are this machine's own, and the facts in them.
pub(crate) struct Etc {
    directory: OwnedFd,
    hostname: String,
    address: Option<Ipv4Addr>,
    nameservers: Vec<Ipv4Addr>,
}

impl Etc {
    /// Makes the files, empty, in the initramfs; to be called while that is still the root.
    pub(crate) fn new() -> Result<Self, String> {
        let make = || {
            std::fs::create_dir_all("/etc-files")?;
            for file in FILES {
                std::fs::write(format!("/etc-files/{file}"), "")?;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(rustix::fs::open("/etc-files", flags, Mode::empty())?)
        };
        let directory = make().map_err(failed("make the files for /etc"))?;
        Ok(Self { directory, hostname: "localhost".to_owned(), address: None, nameservers: Vec::new() })
    }

    /// Binds the files into the root file system, which is the root by now.
    pub(crate) fn bind(&self) -> Result<(), String> {
        // An image without a writable /etc has no use for them.
        let _ = make_directory(Path::new("/etc"), 0o755);
        for file in FILES {
            self.bind_one(file).map_err(failed(&format!("put /etc/{file} in place")))?;
        }
        Ok(())
    }

    fn bind_one(&self, file: &str) -> std::io::Result<()> {
        let target = format!("/etc/{file}");
        make_file(Path::new(&target))?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = rustix::mount::open_tree(&self.directory, file, flags)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
        Ok(rustix::mount::move_mount(&tree, "", rustix::fs::CWD, &target, flags)?)
    }

    /// Becomes the machine that the host describes.
    pub(crate) fn identify(&mut self, identity: &Identity) -> Result<(), String> {
        // What the host said of the time grows old.
        set_clock(identity.clock)?;
        add_entropy(identity.seed).map_err(failed("seed the random number generator"))?;
        rustix::system::sethostname(identity.hostname.as_bytes())
            .map_err(|error| format!("failed to set the host name: {error}"))?;
        self.hostname.clone_from(&identity.hostname);
        let machine_id = identity.machine_id.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        self.write("machine-id", &format!("{machine_id}\n"))?;
        self.write("hostname", &format!("{}\n", self.hostname))?;
        self.write_hosts()
    }

    /// Shows the network's address and name servers.
    pub(crate) fn show_network(&mut self, network: &proto::Network) -> Result<(), String> {
        self.address = Some(network.address);
        self.nameservers.clone_from(&network.nameservers);
        self.show_resolver(&Resolver::default())?;
        self.write_hosts()
    }

    /// Shows what is added to names.
    pub(crate) fn show_resolver(&self, resolver: &Resolver) -> Result<(), String> {
        self.write("resolv.conf", &crate::network::resolver_configuration(&self.nameservers, resolver))
    }

    fn write_hosts(&self) -> Result<(), String> {
        let own = self.address.unwrap_or(Ipv4Addr::LOCALHOST);
        let name = &self.hostname;
        self.write("hosts", &format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n{own}\t{name}\n"))
    }

    fn write(&self, file: &str, content: &str) -> Result<(), String> {
        let write = || {
            let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
            let open = rustix::fs::openat(&self.directory, file, flags, Mode::empty())?;
            std::io::Write::write_all(&mut std::fs::File::from(open), content.as_bytes())
        };
        write().map_err(failed(&format!("write /etc/{file}")))
    }
}

/// Sets the wall clock to this time since the Unix epoch.
pub(crate) fn set_clock(clock: std::time::Duration) -> Result<(), String> {
    let time = Timespec { tv_sec: clock.as_secs().cast_signed(), tv_nsec: clock.subsec_nanos().into() };
    rustix::time::clock_settime(ClockId::Realtime, time)
        .map_err(|error| format!("failed to set the clock: {error}"))
}
