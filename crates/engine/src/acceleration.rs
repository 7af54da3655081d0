//! What runs the guest's instructions: the processor through KVM where that works, translation elsewhere.
//!
//! A `/dev/kvm` that opens proves nothing: a host may offer a paravirtual kind that runs patched guests only,
//! and a stock kernel then ends in an abort. So facts are asked for in turn, and the first that is missing is
//! the reason for translation.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use rustix::io::Errno;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Requested {
    /// KVM where it works, else translation.
    #[default]
    Auto,
    /// This one or none.
    Only(Accelerator),
}

/// A way to run a guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accelerator {
    /// The processor's own virtualization, through the kernel.
    Kvm,
    /// QEMU's translator; needs nothing of the host.
    Tcg,
}

/// A choice, with what speaks against the alternative.
#[derive(Debug)]
pub struct Acceleration {
    /// What is used.
    pub accelerator: Accelerator,
    /// Why it is not KVM, where that was asked about.
    pub problem: Option<KvmProblem>,
}

/// Why KVM cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KvmProblem {
    /// There is no such device.
    #[error("this host has no /dev/kvm")]
    Absent,
    /// The device is there, and not for this user.
    #[error("you have no permission on /dev/kvm")]
    Denied,
    /// The device could not be opened.
    #[error("failed to open /dev/kvm: {0}")]
    Unopenable(io::Error),
    /// The processor, as this host shows it, cannot run stock guests.
    #[error("/dev/kvm is there, but the processor shows neither VMX nor SVM, so it cannot run stock kernels")]
    NoProcessorSupport,
    /// Another kind of KVM answers.
    #[error(
        "/dev/kvm is there, but neither kvm_intel nor kvm_amd is behind it, so it cannot run stock kernels"
    )]
    OtherKind,
    /// The kernel refused to make a virtual machine.
    #[error("the kernel failed to make a virtual machine through /dev/kvm: {0}")]
    NoMachine(io::Error),
}

/// KVM was demanded and does not work here.
#[derive(Debug, thiserror::Error)]
#[error("cannot use KVM")]
pub struct UnusableKvm(#[from] pub KvmProblem);

impl Requested {
    /// Chooses by what this host can do.
    pub fn choose(self) -> Result<Acceleration, UnusableKvm> {
        match self {
            Self::Only(Accelerator::Tcg) => Ok(Acceleration { accelerator: Accelerator::Tcg, problem: None }),
            Self::Only(Accelerator::Kvm) => {
                probe_kvm()?;
                Ok(Acceleration { accelerator: Accelerator::Kvm, problem: None })
            }
            Self::Auto => Ok(match probe_kvm() {
                Ok(()) => Acceleration { accelerator: Accelerator::Kvm, problem: None },
                Err(problem) => Acceleration { accelerator: Accelerator::Tcg, problem: Some(problem) },
            }),
        }
    }
}

impl KvmProblem {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Denied => Some("add yourself to the group `kvm`, then log in again"),
            Self::Absent => Some("load kvm_intel or kvm_amd, or enable virtualization in the firmware"),
            _ => None,
        }
    }
}

/// Does each thing once that a guest will need, cheapest first.
fn probe_kvm() -> Result<(), KvmProblem> {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    probe_kvm_at(c"/dev/kvm", &processors, Path::new("/sys/module"))
}

fn probe_kvm_at(device: &CStr, processors: &str, modules: &Path) -> Result<(), KvmProblem> {
    let opened = kvm_ioctls::Kvm::new_with_path(device);
    let kvm = opened.map_err(|error| match Errno::from_raw_os_error(error.errno()) {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => KvmProblem::Absent,
        Errno::ACCESS | Errno::PERM => KvmProblem::Denied,
        errno => KvmProblem::Unopenable(errno.into()),
    })?;
    if !shows_virtualization(processors) {
        return Err(KvmProblem::NoProcessorSupport);
    }
    if !["kvm_intel", "kvm_amd"].iter().any(|module| modules.join(module).exists()) {
        return Err(KvmProblem::OtherKind);
    }
    let made = kvm.create_vm().map(drop);
    made.map_err(|error| KvmProblem::NoMachine(io::Error::from_raw_os_error(error.errno())))
}

/// Whether /proc/cpuinfo lists the flag of Intel's or AMD's virtualization.
fn shows_virtualization(processors: &str) -> bool {
    let flags = processors.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
}

impl fmt::Display for Accelerator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

impl fmt::Display for Requested {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Only(accelerator) => accelerator.fmt(formatter),
        }
    }
}

impl FromStr for Accelerator {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            _ => Err(format!("`{text}` is neither `kvm` nor `tcg`")),
        }
    }
}

impl FromStr for Requested {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse().map(Self::Only).map_err(|_| "choose one of `auto`, `kvm` and `tcg`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_flag_is_a_whole_word() {
        assert!(shows_virtualization("vendor_id\t: x\nflags\t\t: fpu svm sse\n"));
        assert!(shows_virtualization("flags : vmx"));
        assert!(!shows_virtualization("flags : vmxx asvm\nbugs : svm\n"));
        assert!(!shows_virtualization(""));
    }

    #[test]
    fn the_first_fact_that_is_missing_is_the_reason() {
        let with_svm = "flags : svm\n";
        let modules = tempfile::tempdir().unwrap();
        let probe = |device, processors| probe_kvm_at(device, processors, modules.path()).unwrap_err();
        assert!(matches!(probe(c"/dev/no-such-kvm", with_svm), KvmProblem::Absent));
        assert!(matches!(probe(c"/dev", with_svm), KvmProblem::Unopenable(_)));
        // Something opens, as where a host offers another kind of KVM under the name.
        assert!(matches!(probe(c"/dev/null", "flags : fpu\n"), KvmProblem::NoProcessorSupport));
        assert!(matches!(probe(c"/dev/null", with_svm), KvmProblem::OtherKind));
        std::fs::create_dir(modules.path().join("kvm_amd")).unwrap();
        assert!(matches!(probe(c"/dev/null", with_svm), KvmProblem::NoMachine(_)));
    }

    #[test]
    fn translation_is_always_to_be_had() {
        let chosen = Requested::Only(Accelerator::Tcg).choose().unwrap();
        assert_eq!(chosen.accelerator, Accelerator::Tcg);
        assert!(Requested::Auto.choose().is_ok());
    }
}
