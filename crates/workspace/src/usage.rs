//! What a workspace's machine takes of the host, as `/proc` tells.

use jiff::Timestamp;

use crate::workspace::Status;

/// A machine's use of the host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HostUsage {
    /// Processor time since the machine's process started, in seconds.
    pub cpu_seconds: f64,
    /// Processor time since the start, as a share of one processor, in percent.
    pub cpu_percent: f64,
    /// Resident memory, in bytes; what it shares with other machines is counted for each.
    pub memory: u64,
}

impl HostUsage {
    /// What the machine of a running workspace takes.
    pub fn of(status: &Status) -> Option<Self> {
        let live = status.live.as_ref()?;
        let process = live.machine?;
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).ok();
        let started = status.facts.boot.as_ref()?.started_at;
        let elapsed = Timestamp::now().duration_since(started).as_secs_f64().max(0.001);
        let cpu_seconds = processor_seconds(&read("stat")?)?;
        Some(Self {
            cpu_seconds,
            cpu_percent: cpu_seconds / elapsed * 100.0,
            memory: resident_pages(&read("statm")?)? * rustix::param::page_size() as u64,
        })
    }
}

/// User and system time; `proc_pid_stat(5)`, fields 14 and 15.
fn processor_seconds(stat: &str) -> Option<f64> {
    // The name, which may hold anything, ends with the last parenthesis.
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 2..)?.split(' ').collect();
    let ticks = fields.get(11)?.parse::<u32>().ok()?.checked_add(fields.get(12)?.parse().ok()?)?;
    let a_second = u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    Some(f64::from(ticks) / f64::from(a_second))
}

/// `proc_pid_statm(5)`, field 2.
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_no_obstacle() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 300 100 0 0 20 0 1 0 5 6 7";
        let seconds = processor_seconds(stat).unwrap();
        assert!((seconds - 4.0).abs() < 0.001, "{seconds}");
        assert_eq!(resident_pages("100 25 3 4 0 5 0"), Some(25));
    }
}
