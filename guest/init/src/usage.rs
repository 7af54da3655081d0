//! How much of the machine is used.

use proto::Usage;

/// What the kernel says now; zero where it says nothing.
pub(crate) fn measure() -> Usage {
    // The root is an overlay, whose numbers are those of the file system that takes changes.
    let disk = rustix::fs::statvfs("/").ok();
    let blocks = |count: u64| disk.as_ref().map_or(0, |disk| count * disk.f_frsize);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let size = field(&memory, "MemTotal:");
    Usage {
        disk_size: disk.as_ref().map_or(0, |disk| blocks(disk.f_blocks)),
        disk_used: disk.as_ref().map_or(0, |disk| blocks(disk.f_blocks.saturating_sub(disk.f_bfree))),
        memory_size: size,
        memory_used: size.saturating_sub(field(&memory, "MemAvailable:")),
    }
}

/// A field of /proc/meminfo, in bytes.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemTotal:        1000 kB\nMemFree: 1 kB\nMemAvailable:   250 kB\n";
        assert_eq!((field(text, "MemTotal:"), field(text, "MemAvailable:")), (1_024_000, 256_000));
        assert_eq!(field(text, "Mem:"), 0);
        assert!(measure().memory_size > 0);
    }
}
