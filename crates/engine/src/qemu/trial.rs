//! QEMU started for nothing but to see whether it starts here.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;

use confine::{Demand, Held, Part};
use rustix::fs::MemfdFlags;
use tokio::io::AsyncReadExt;

use super::qmp::{Qmp, QmpError};
use super::{GREETING_DEADLINE, LaunchError, process};
use crate::{Accelerator, MemorySize, NetworkDevice, Saved, Start, VmSpec};

/// The oldest QEMU that has all that machines are made of.
pub const OLDEST: QemuVersion = QemuVersion { major: 7, minor: 2 };

/// The longest account of a trial, in bytes.
const LONGEST_ACCOUNT: u64 = 1 << 20;

/// A version of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QemuVersion {
    /// What changes once a year.
    pub major: u32,
    /// What changes three times a year.
    pub minor: u32,
}

/// A text that does not begin with a version.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a version")]
pub struct InvalidVersion(String);

impl FromStr for QemuVersion {
    type Err = InvalidVersion;

    /// Reads what [`super::version`] tells, as in `7.2.22 (Debian 1:7.2+dfsg-7)`.
    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let mut numbers = text.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(Self { major, minor }),
            _ => Err(InvalidVersion(text.to_owned())),
        }
    }
}

/// Starts QEMU, confined as always and with the devices that every machine has, until it answers; then ends it. No
/// guest runs in it.
pub async fn try_launch(accelerator: Accelerator, network: NetworkDevice) -> Result<(), LaunchError> {
    // Nothing is said over the cable, and both ends stay until the end.
    let (theirs, _ours) = UnixStream::pair().map_err(LaunchError::Spawn)?;
    let spec = spec(accelerator, network, theirs, empty("memory")?)?;
    let mut process = process::start(spec)?;
    let control = process.control.take().expect("a new process has its control channel");
    let greeting = tokio::time::timeout(GREETING_DEADLINE, Qmp::connect(control, &[])).await;
    let outcome = match greeting {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(QmpError::Closed)) => return Err(process.died().await),
        Ok(Err(error)) => Err(LaunchError::Control(error.to_string())),
        Err(_) => Err(LaunchError::Silent { last_words: process.last_words() }),
    };
    process.kill().await;
    outcome
}

/// Starts `program` in QEMU's stead, with everything else as for QEMU that restores a machine from `memory`: the same
/// descriptors, files, limits and parts, but for those that are left out. Tells what holds, and what the program wrote to the descriptor of QEMU's control channel.
///
/// The program may read and execute itself.
pub async fn try_confinement(
    accelerator: Accelerator,
    program: PathBuf,
    arguments: Vec<OsString>,
    memory: File,
    left_out: Vec<Part>,
) -> Result<(Held, String), LaunchError> {
    let (theirs, _ours) = UnixStream::pair().map_err(LaunchError::Spawn)?;
    let spec = spec(accelerator, NetworkDevice::Ethernet { mtu: 1500 }, theirs, memory)?;
    let (mut launch, ours) = process::prepare(spec)?;
    launch.files.run(&program);
    (launch.program, launch.arguments, launch.left_out) = (program, arguments, left_out);
    let (child, _stderr, held) = launch.launch()?;
    let mut said = String::new();
    let mut control = ours.control.take(LONGEST_ACCOUNT);
    // What it does not say in time, it does not say.
    let _ = tokio::time::timeout(GREETING_DEADLINE, control.read_to_string(&mut said)).await;
    drop(child);
    Ok((held, said))
}

/// The descriptor that is QEMU's control channel.
pub const CONTROL: i32 = process::DESCRIPTORS.control;

fn empty(name: &str) -> Result<File, LaunchError> {
    let made = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC);
    made.map(File::from).map_err(|error| LaunchError::Spawn(error.into()))
}

fn spec(
    accelerator: Accelerator,
    network: NetworkDevice,
    cable: UnixStream,
    memory: File,
) -> Result<VmSpec, LaunchError> {
    Ok(VmSpec {
        accelerator,
        cpus: 1,
        memory: MemorySize::mebibytes(128),
        // Such a machine waits for its state, which never comes.
        start: Start::Restore(Saved { memory, state: empty("state")? }),
        disks: Vec::new(),
        network,
        cable: (network != NetworkDevice::None).then(|| cable.into()),
        agent_port: "agent",
        confinement: Demand::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_and_foreign_texts_refused() {
        let read = |text: &str| text.parse::<QemuVersion>();
        assert_eq!(read("7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"), Ok(OLDEST));
        assert!(read("10.0.2").unwrap() > OLDEST && read("5.2.0").unwrap() < OLDEST);
        for bad in ["", "version", "7", "7.x", "99999999999.1"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_machine_without_a_guest_starts_and_is_gone() {
        for network in [NetworkDevice::None, NetworkDevice::Ethernet { mtu: 1500 }] {
            try_launch(Accelerator::Tcg, network).await.unwrap();
        }
    }
}
