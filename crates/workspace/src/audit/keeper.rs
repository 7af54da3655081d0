//! Takes decisions as they are made, and keeps what there is room for.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use network::{Audit, Decision};

use super::{BOUNDS, DIRECTORY, NetworkLogEntry, Verdict};
use crate::journal::{Appender, Directory};

/// Decisions that are the same are one line if they are made within a moment, and a moment has so many lines.
const MOMENT: Duration = Duration::from_millis(200);
const MOST_LINES: usize = 50;

/// Listeners hear of so many refusals at once, and then of one more in each interval; of the same one once in it.
const MOST_AT_ONCE: u32 = 16;
const MOST_REMEMBERED: usize = 64;
const INTERVAL: Duration = Duration::from_secs(60);

/// Who hears of refusals, one line at a time and not too often.
pub(crate) type Listener = Box<dyn FnMut(&NetworkLogEntry) + Send>;

/// A thread that keeps decisions, until the network that makes them ends.
#[derive(Debug)]
pub(crate) struct Keeper {
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Keeps what is decided in a journal in `directory`, if one is named, and tells `listener` of refusals.
    pub(crate) fn start(directory: Option<&Path>, listener: Listener) -> io::Result<(Self, Audit)> {
        let journal =
            directory.map(|directory| Appender::open(Directory::make(&directory.join(DIRECTORY))?, BOUNDS));
        let (audit, decisions) = Audit::heard();
        let work = Work {
            journal: journal.transpose()?,
            listener,
            budget: Budget::new(Instant::now()),
            left_out: 0,
            untold: 0,
            told: VecDeque::new(),
        };
        let run = move || work.run(&decisions);
        let thread = std::thread::Builder::new().name("network-log".to_owned()).spawn(run)?;
        Ok((Self { thread }, audit))
    }

    /// Waits until what was decided is kept. The network must have ended.
    pub(crate) fn finish(self) {
        // One that has failed keeps nothing more.
        let _ = self.thread.join();
    }
}

struct Work {
    journal: Option<Appender>,
    listener: Listener,
    budget: Budget,
    /// Decisions that are in no line, and refusals of which nobody was told.
    left_out: u64,
    untold: u64,
    /// What was told last, and when.
    told: VecDeque<(NetworkLogEntry, Instant)>,
}

impl Work {
    fn run(mut self, decisions: &Receiver<Decision>) {
        while let Ok(first) = decisions.recv() {
            let until = Instant::now() + MOMENT;
            let mut entries = vec![NetworkLogEntry::of(first)];
            let over = loop {
                match decisions.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(decision) => self.collect(&mut entries, decision),
                    Err(RecvTimeoutError::Timeout) => break false,
                    Err(RecvTimeoutError::Disconnected) => break true,
                }
                if Instant::now() >= until {
                    break false;
                }
            };
            self.keep(&mut entries);
            self.tell(entries, Instant::now());
            if over {
                return;
            }
        }
    }

    fn collect(&mut self, entries: &mut Vec<NetworkLogEntry>, decision: Decision) {
        let entry = NetworkLogEntry::of(decision);
        match entries.iter().position(|other| other.is_same(&entry)) {
            Some(place) => entries[place].times += 1,
            None if entries.len() < MOST_LINES => entries.push(entry),
            None => self.left_out += 1,
        }
    }

    fn keep(&mut self, entries: &mut [NetworkLogEntry]) {
        let Some(journal) = &mut self.journal else { return };
        if let Some(first) = entries.first_mut() {
            first.left_out = self.left_out;
        }
        let mut lines = Vec::new();
        for entry in entries.iter() {
            serde_json::to_writer(&mut lines, entry).expect("entries are plain data");
            lines.push(b'\n');
        }
        match journal.append(&lines) {
            Ok(()) => self.left_out = 0,
            Err(incomplete) => {
                let kept = lines[..incomplete.kept].split_inclusive(|byte| *byte == b'\n').count();
                if kept > 0 {
                    self.left_out = 0;
                }
                self.left_out += entries[kept..].iter().map(|entry| entry.times).sum::<u64>();
                tracing::warn!(error = %incomplete.source, "decisions about the network could not be kept");
            }
        }
    }

    fn tell(&mut self, entries: Vec<NetworkLogEntry>, now: Instant) {
        for mut entry in entries.into_iter().filter(|entry| entry.verdict == Verdict::Refused) {
            self.told.retain(|(_, when)| now.saturating_duration_since(*when) < INTERVAL);
            let is_new = !self.told.iter().any(|(told, _)| told.is_same(&entry));
            if is_new && self.budget.take(now) {
                self.told.truncate(MOST_REMEMBERED - 1);
                self.told.push_front((entry.clone(), now));
                entry.left_out = std::mem::take(&mut self.untold);
                (self.listener)(&entry);
            } else {
                self.untold += entry.times;
            }
        }
    }
}

/// How much may be told now.
#[derive(Debug)]
struct Budget {
    left: u32,
    since: Instant,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { left: MOST_AT_ONCE, since: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_secs() / INTERVAL.as_secs();
        if passed > 0 {
            self.left = MOST_AT_ONCE.min(self.left.saturating_add(u32::try_from(passed).unwrap_or(u32::MAX)));
            self.since = now;
        }
        let allowed = self.left > 0;
        self.left -= u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_is_told_at_once_and_then_a_little_at_a_time() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        let taken = |budget: &mut Budget, at: Duration| (0..100).filter(|_| budget.take(now + at)).count();
        assert_eq!(taken(&mut budget, Duration::ZERO), 16);
        assert_eq!(taken(&mut budget, Duration::from_secs(59)), 0);
        assert_eq!(taken(&mut budget, Duration::from_secs(125)), 2);
        assert_eq!(taken(&mut budget, Duration::from_secs(1_000_000)), 16);
    }
}
