//! How much of the machine is used.

use proto::Usage;

use crate::root::serial_of;

/// The unit of a disk's counters, in bytes; the kernel's Documentation/block/stat.rst.
const SECTOR: u64 = 512;

/// What the kernel says now; zero where it says nothing.
pub(crate) fn measure() -> Usage {
    // The root is an overlay, whose numbers are those of the file system that takes changes.
    let disk = rustix::fs::statvfs("/").ok();
    let blocks = |count: u64| disk.as_ref().map_or(0, |disk| count * disk.f_frsize);
    let memory = text("/proc/meminfo");
    let size = field(&memory, "MemTotal:");
    let (disk_read, disk_written) = total(&counters_of_disks(), disk_bytes);
    let (network_received, network_sent) = total(&[text("/proc/net/dev")], network_bytes);
    Usage {
        disk_size: disk.as_ref().map_or(0, |disk| blocks(disk.f_blocks)),
        disk_used: disk.as_ref().map_or(0, |disk| blocks(disk.f_blocks.saturating_sub(disk.f_bfree))),
        memory_size: size,
        memory_used: size.saturating_sub(field(&memory, "MemAvailable:")),
        busy: busy(&text("/proc/stat"), rustix::param::clock_ticks_per_second()),
        disk_read,
        disk_written,
        network_received,
        network_sent,
        clock: clock(),
    }
}

/// The time of the clock that only runs forward, in microseconds.
fn clock() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    u64::try_from(microseconds).unwrap_or(0)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// What the kernel counts of each disk that keeps something. What host and guest exchange is no disk's.
fn counters_of_disks() -> Vec<String> {
    let Ok(disks) = std::fs::read_dir("/sys/block") else { return Vec::new() };
    let kept = disks.flatten().map(|disk| disk.path()).filter(|disk| serial_of(disk) != proto::EXCHANGE_DISK);
    kept.map(|disk| std::fs::read_to_string(disk.join("stat")).unwrap_or_default()).collect()
}

fn total(texts: &[String], read: impl Fn(&str) -> (u64, u64)) -> (u64, u64) {
    texts.iter().map(|text| read(text)).fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1))
}

/// A field of /proc/meminfo, in bytes.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// The time that all processors were busy, in microseconds; `proc_stat(5)`: user, nice, system, then idle and
/// waiting, then interrupts of both kinds.
fn busy(stat: &str, ticks_per_second: u64) -> u64 {
    let line = stat.lines().next().unwrap_or_default();
    let ticks: u64 = numbers(line.strip_prefix("cpu ").unwrap_or_default(), &[0, 1, 2, 5, 6]).iter().sum();
    ticks * 1_000_000 / ticks_per_second.max(1)
}

/// Bytes read and written: sectors, in the third and the seventh column.
fn disk_bytes(stat: &str) -> (u64, u64) {
    let sectors = numbers(stat, &[2, 6]);
    (sectors[0] * SECTOR, sectors[1] * SECTOR)
}

/// Bytes received and sent by the devices of /proc/net/dev, in the first and the ninth column of each; what the
/// machine says to itself does not count.
fn network_bytes(text: &str) -> (u64, u64) {
    let devices = text.lines().filter_map(|line| line.split_once(':'));
    let others = devices.filter(|(name, _)| name.trim() != "lo");
    let bytes = others.map(|(_, counters)| numbers(counters, &[0, 8]));
    bytes.fold((0, 0), |sum, next| (sum.0 + next[0], sum.1 + next[1]))
}

/// The numbers of these columns; zero for those that are not there.
fn numbers(line: &str, columns: &[usize]) -> Vec<u64> {
    let all: Vec<&str> = line.split_whitespace().collect();
    columns.iter().map(|column| all.get(*column).and_then(|text| text.parse().ok()).unwrap_or(0)).collect()
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

    #[test]
    fn counters_are_those_of_their_columns() {
        assert_eq!(busy("cpu  10 1 20 3000 500 5 4 0 0 0\ncpu0 1 1 1 1", 100), 400_000);
        assert_eq!(disk_bytes("   11 0 100 7 3 0 30 9 0 0 0\n"), (51_200, 15_360));
        let devices = "Inter-| Receive | Transmit\n face |bytes\n    lo: 5 5 0 0 0 0 0 0 5 5\n  \
                       eth0: 100 2 0 0 0 0 0 0 70 1 0\n";
        assert_eq!(network_bytes(devices), (100, 70));
    }
}
