//! What a machine is to be.

use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::str::FromStr;

use confine::Demand;

use crate::Accelerator;

/// A machine to launch.
#[derive(Debug)]
pub struct VmSpec {
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// The number of virtual CPUs.
    pub cpus: u32,
    /// The guest's memory.
    pub memory: MemorySize,
    /// How it comes to run.
    pub start: Start,
    /// The disks, which the guest tells apart by their serial numbers.
    pub disks: Vec<Disk>,
    /// The network device.
    pub network: NetworkDevice,
    /// One end of the network device's cable, a stream socket: each Ethernet frame follows its length in bytes, as
    /// four bytes, big-endian. To be there where a machine with a card is launched.
    pub cable: Option<OwnedFd>,
    /// The name of the virtio-serial port behind [`crate::Machine::take_streams`].
    pub agent_port: &'static str,
    /// What becomes of it where this host lacks something to confine it with.
    pub confinement: Demand,
}

/// How a machine comes to run.
#[derive(Debug)]
pub enum Start {
    /// From power-on.
    Boot {
        /// The guest kernel: a bzImage, or an ELF image with a PVH entry.
        kernel: PathBuf,
        /// The initramfs, as a cpio archive.
        initramfs: PathBuf,
        /// Where the guest's memory is.
        memory: Memory,
    },
    /// From a machine that was saved; the specification is otherwise that machine's, with disks that have the
    /// content that its disks had.
    Restore(Saved),
}

/// Where a guest's memory is.
#[derive(Debug)]
pub enum Memory {
    /// In the machine alone.
    Private,
    /// In this empty file, for [`crate::Machine::save`].
    File(File),
}

/// A saved machine. Any number of machines may be restored from one; each sees its own changes only.
#[derive(Debug)]
pub struct Saved {
    /// The guest's memory, mapped copy-on-write.
    pub memory: File,
    /// The state of the devices.
    pub state: File,
}

/// A disk of a machine.
#[derive(Debug)]
pub struct Disk {
    /// The serial number that the guest sees; at most 20 bytes (virtio 1.2, 5.2.6.1).
    pub serial: String,
    /// The raw disk image, opened for the access that the guest gets.
    pub file: File,
    /// What the guest may do.
    pub access: Access,
}

/// What a guest may do with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read.
    ReadOnly,
    /// Read and write.
    ReadWrite(Durability),
}

/// What a guest's flush means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// What was flushed outlives a crash of the host.
    Durable,
    /// Nothing of it is needed after the machine ends; flushes do nothing.
    Scratch,
}

/// A machine's network device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkDevice {
    /// No device at all.
    None,
    /// An Ethernet card, at the other end of [`VmSpec::cable`].
    Ethernet {
        /// The longest packet that it takes, in bytes.
        mtu: u16,
    },
}

/// An amount of memory, in whole mebibytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize {
    mebibytes: u32,
}

/// A text that is no memory size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a memory size of at least {MINIMUM}; write it like `512m` or `2g`")]
pub struct InvalidMemorySize(String);

/// A stock kernel with its modules and a root file system starts with this much.
const MINIMUM: MemorySize = MemorySize::mebibytes(128);

impl MemorySize {
    /// So many mebibytes.
    pub const fn mebibytes(mebibytes: u32) -> Self {
        Self { mebibytes }
    }

    /// The amount in mebibytes.
    pub const fn as_mebibytes(self) -> u32 {
        self.mebibytes
    }
}

impl FromStr for MemorySize {
    type Err = InvalidMemorySize;

    /// Parses what Docker's `--memory` takes: a number with `b`, `k`, `m` or `g`, bytes by default.
    fn from_str(text: &str) -> Result<Self, InvalidMemorySize> {
        let invalid = || InvalidMemorySize(text.to_owned());
        let lower = text.to_ascii_lowercase();
        let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
        let (digits, shift) = match lower.as_bytes().last() {
            Some(b'k') => (&lower[..lower.len() - 1], 10),
            Some(b'm') => (&lower[..lower.len() - 1], 20),
            Some(b'g') => (&lower[..lower.len() - 1], 30),
            _ => (lower, 0),
        };
        let number: u64 = digits.parse().map_err(|_| invalid())?;
        let bytes = number.checked_mul(1 << shift).ok_or_else(invalid)?;
        let mebibytes = u32::try_from(bytes.div_ceil(1 << 20)).map_err(|_| invalid())?;
        Some(Self { mebibytes }).filter(|size| *size >= MINIMUM).ok_or_else(invalid)
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mebibytes {
            whole if whole % 1024 == 0 => write!(formatter, "{}g", whole / 1024),
            mebibytes => write!(formatter, "{mebibytes}m"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_sizes_are_written_as_docker_writes_them() {
        let parse = |text: &str| text.parse::<MemorySize>().map(MemorySize::as_mebibytes);
        assert_eq!(parse("512m"), Ok(512));
        assert_eq!(parse("2g"), Ok(2048));
        assert_eq!(parse("2GiB"), Ok(2048));
        assert_eq!(parse("536870912"), Ok(512));
        assert_eq!(parse("536870913b"), Ok(513));
        for bad in ["", "g", "1m", "-1g", "1.5g", "99999999999999999999", "12t", "18446744073709551615g"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
