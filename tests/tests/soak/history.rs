//! What was done and how it ended, for those who must find out why something went wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::ledger::Ledger;

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Done,
    /// Refused or failed, in words and for a reason that is in order.
    Refused,
    /// The client itself was killed.
    Killed,
    /// Neither.
    Wrong,
}

struct Line {
    at: Duration,
    client: usize,
    what: String,
    end: End,
    detail: String,
}

pub(super) struct History {
    seed: u64,
    operations: usize,
    started: Instant,
    lines: Mutex<Vec<Line>>,
}

impl History {
    pub(super) fn new(seed: u64, operations: usize) -> Self {
        Self { seed, operations, started: Instant::now(), lines: Mutex::default() }
    }

    pub(super) fn note(&self, client: usize, what: &str, end: End, detail: &str) {
        let at = self.started.elapsed();
        let line = Line { at, client, what: what.to_owned(), end, detail: detail.to_owned() };
        self.lines.lock().unwrap().push(line);
    }

    /// How often each verb ended how.
    pub(super) fn summary(&self, ledger: &Ledger) -> String {
        let mut counts: BTreeMap<String, BTreeMap<End, usize>> = BTreeMap::new();
        for line in self.lines.lock().unwrap().iter() {
            let verb = line.what.split(' ').find(|word| word.parse::<u64>().is_err()).unwrap_or_default();
            *counts.entry(verb.to_owned()).or_default().entry(line.end).or_default() += 1;
        }
        let table: Vec<_> = counts.iter().map(|(verb, ends)| format!("  {verb}: {ends:?}")).collect();
        let table = table.join("\n");
        format!(
            "seed {}, {} operations, {} acknowledged records\n{table}",
            self.seed,
            self.operations,
            ledger.len()
        )
    }

    /// A soak in which next to nothing succeeds shows nothing.
    pub(super) fn must_have_done_something(&self, ledger: &Ledger) {
        let lines = self.lines.lock().unwrap();
        let done = lines.iter().filter(|line| line.end == End::Done).count();
        let (all, kept) = (lines.len(), ledger.len());
        drop(lines);
        assert!(done * 3 > all, "{done} of {all} were done\n{self}");
        assert!(kept * 20 > all, "{kept} records of {all} operations\n{self}");
    }
}

impl fmt::Display for History {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let again =
            format!("MICROAGENT_SOAK_SEED={} MICROAGENT_SOAK_OPERATIONS={}", self.seed, self.operations);
        writeln!(formatter, "to have this plan again: {again}")?;
        for Line { at, client, what, end, detail } in self.lines.lock().unwrap().iter() {
            writeln!(formatter, "{:8.3} {client} {end:?} {what}: {detail}", at.as_secs_f64())?;
        }
        Ok(())
    }
}
