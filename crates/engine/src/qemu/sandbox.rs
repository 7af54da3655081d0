//! What QEMU may have: its program and what comes with it, the files of its machine, and room for that machine.
//!
//! Disks, channels and saved states come as open descriptors, and QEMU opens none of them. By path it opens its own
//! libraries and firmware, the kernel and initramfs of a machine that boots, KVM's device, and the file of the guest's
//! memory, which it opens anew from its descriptor. No socket is among it: all that it speaks over is connected already.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use confine::{Files, Filter, Launch, Limits, Share};

use super::command_line;
use super::process::DESCRIPTORS;
use super::{LaunchError, PROGRAM};
use crate::{Accelerator, Memory, Start, VmSpec};

/// Libraries, and what the linker needs to find them. A path that a host has not is no rule.
const LIBRARIES: &[&str] = &[
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/nix/store",
    "/gnu/store",
];

/// Dynamic linkers, which execve(2) executes in a program's stead.
const LINKERS: &[&str] = &["/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"];

/// What a package of QEMU has below its prefix's `share`: firmware, and option ROMs.
const FIRMWARE: &[&str] = &["qemu", "qemu-kvm", "seabios", "ipxe"];

/// How many processors and memory nodes there are.
const SHAPE_OF_HOST: &[&str] = &["/sys/devices/system/cpu", "/sys/devices/system/node"];

/// Descriptors beside those of disks: QEMU opens some twenty of its own.
const DESCRIPTORS_OF_ITS_OWN: u64 = 192;

/// Threads beside the virtual processors: its pool of those that wait for disks has up to 64.
const THREADS_OF_ITS_OWN: u64 = 128;

/// Address space beside the guest's memory: libraries, up to 1 GiB of translated code, stacks of threads; and what the C
/// library reserves for the heaps of threads, by the host's processors, mostly without using it.
const SPACE_OF_ITS_OWN: u64 = 16 << 30;
const SPACE_BY_PROCESSOR: u64 = 1 << 30;

/// Memory beside the guest's: translated code, what QEMU has itself, and what of disks is on its way.
const MEMORY_OF_ITS_OWN: u64 = 1536 << 20;

/// Processors' time beside that of virtual ones, in processors: QEMU's own thread, and those that wait for disks.
const PROCESSORS_OF_ITS_OWN: u64 = 1;

/// The longest saved state: it is far shorter.
const LONGEST_STATE: u64 = 256 << 20;

/// What is launched for `spec`, but for the channels.
pub(super) fn launch(spec: VmSpec) -> Result<Launch, LaunchError> {
    let program = find_program().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => LaunchError::Missing,
        _ => LaunchError::Spawn(error),
    })?;
    let arguments = command_line::arguments(&spec, DESCRIPTORS);
    let limits = limits(&spec).map_err(LaunchError::Spawn)?;
    let share = Share {
        memory: bytes(&spec) + MEMORY_OF_ITS_OWN,
        threads: limits.threads,
        processors: u64::from(spec.cpus) + PROCESSORS_OF_ITS_OWN,
    };
    let mut files = Files::default();
    add_files_of(&program, spec.accelerator, &mut files);
    let demand = spec.confinement;
    let (memory, state) = match spec.start {
        Start::Boot { kernel, initramfs, memory } => {
            files.read(kernel).read(initramfs);
            match memory {
                Memory::File(memory) => {
                    files.write_open(&memory).map_err(LaunchError::Spawn)?;
                    (Some(memory), None)
                }
                Memory::Private => (None, None),
            }
        }
        Start::Restore(saved) => {
            // It is mapped privately, and others are restored from it too.
            files.read_open(&saved.memory).map_err(LaunchError::Spawn)?;
            (Some(saved.memory), Some(saved.state))
        }
    };
    let mut descriptors = Vec::new();
    descriptors.extend(memory.map(|memory| (DESCRIPTORS.memory, memory.into())));
    descriptors.extend(state.map(|state| (DESCRIPTORS.state, state.into())));
    descriptors.extend(spec.cable.map(|cable| (DESCRIPTORS.cable, cable)));
    descriptors.extend((DESCRIPTORS.first_disk..).zip(spec.disks.into_iter().map(|disk| disk.file.into())));
    Ok(Launch {
        program,
        arguments,
        descriptors,
        files,
        limits,
        share: Some(share),
        filter: Filter::for_guests(),
        demand,
        left_out: Vec::new(),
    })
}

/// Adds to `files` what machines are launched from, beside their own files, for whoever confines itself and launches them.
pub fn add_files(files: &mut Files) {
    // Without the program there is no machine either.
    if let Ok(program) = find_program() {
        add_files_of(&program, Accelerator::Kvm, files);
    }
    // Machines get their control groups there.
    if let Some(group) = confine::delegated_group() {
        files.change(group);
    }
}

fn add_files_of(program: &Path, accelerator: Accelerator, files: &mut Files) {
    files.run(program);
    if let Some(interpreter) = interpreter(program) {
        files.run(interpreter);
    }
    for linker in LINKERS {
        files.run(linker);
    }
    for path in LIBRARIES.iter().chain(SHAPE_OF_HOST) {
        files.read(path);
    }
    let prefix = program.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
    for name in FIRMWARE {
        files.read(prefix.join("share").join(name));
    }
    if accelerator == Accelerator::Kvm {
        files.device("/dev/kvm");
    }
}

/// What executes the program where it is a script.
fn interpreter(program: &Path) -> Option<PathBuf> {
    let mut start = [0; 256];
    let length = std::fs::File::open(program).and_then(|mut file| file.read(&mut start)).ok()?;
    let line = start[..length].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let word = std::str::from_utf8(line).ok()?.split_whitespace().next()?;
    Some(word.into())
}

/// Room for the machine, and bounds for what is none.
fn limits(spec: &VmSpec) -> io::Result<Limits> {
    let memory = bytes(spec);
    let mut longest = memory.max(LONGEST_STATE);
    for disk in &spec.disks {
        longest = longest.max(disk.file.metadata()?.len());
    }
    let processors = std::thread::available_parallelism().map_or(1, |number| number.get() as u64);
    Ok(Limits {
        descriptors: DESCRIPTORS_OF_ITS_OWN + spec.disks.len() as u64,
        file_size: longest,
        address_space: memory + SPACE_OF_ITS_OWN + processors * SPACE_BY_PROCESSOR,
        threads: THREADS_OF_ITS_OWN + u64::from(spec.cpus),
    })
}

/// The guest's memory.
fn bytes(spec: &VmSpec) -> u64 {
    u64::from(spec.memory.as_mebibytes()) << 20
}

/// QEMU's file, through `PATH`.
pub(super) fn find_program() -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|directory| directory.join(PROGRAM)).find(|path| path.is_file());
    found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?.canonicalize()
}
