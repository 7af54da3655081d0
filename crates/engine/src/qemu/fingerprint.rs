//! What a saved machine depends on beside its own files: restored under anything else, it is another machine.

use std::fmt::Write;
use std::io;
use std::os::unix::fs::MetadataExt;

use super::command_line;
use super::process::DESCRIPTORS;
use super::sandbox::find_program;
use crate::{Accelerator, Memory, Start, VmSpec};

/// A text that is equal for two machines only if one can be restored as the other: QEMU itself, its command
/// line, and, where the guest's code runs on the processor, the processor and the host's kernel.
///
/// The contents of disks, kernel and initramfs are for the caller to tell apart.
pub fn fingerprint(spec: &VmSpec) -> io::Result<String> {
    let mut text = String::new();
    let program = find_program()?;
    let metadata = std::fs::metadata(&program)?;
    let _ = writeln!(
        text,
        "{} {} {} {}.{}",
        program.display(),
        metadata.ino(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec()
    );
    for word in command_line::arguments(spec, DESCRIPTORS) {
        let _ = writeln!(text, "{}", word.display());
    }
    if spec.accelerator == Accelerator::Kvm {
        text.push_str(&processor());
        text.push_str(&std::fs::read_to_string("/proc/version")?);
    }
    debug_assert!(matches!(spec.start, Start::Boot { memory: Memory::Private, .. }), "a fresh machine");
    Ok(text)
}

/// The first processor's model and features.
fn processor() -> String {
    let all = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let first = all.split("\n\n").next().unwrap_or_default();
    let telling = ["vendor_id", "cpu family", "model", "stepping", "microcode", "flags"];
    let lines = first.lines().filter(|line| telling.iter().any(|key| line.starts_with(key)));
    lines.map(|line| format!("{line}\n")).collect::<Vec<_>>().concat()
}
