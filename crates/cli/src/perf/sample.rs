//! One call of this program, timed, with its phases.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use home::{MARKS_VARIABLE, monotonic_nanoseconds};
use tempfile::TempDir;

use crate::failure::Failure;

/// Calls this program.
pub(super) struct Caller {
    program: PathBuf,
    home: PathBuf,
    marks: TempDir,
}

/// What a call took, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) total: u64,
    /// The phases in their order, by what they end with.
    pub(super) phases: Vec<(&'static str, u64)>,
}

/// A call failed.
#[derive(Debug, thiserror::Error)]
#[error("`microagent {words}` failed: {said}")]
struct CallFailed {
    words: String,
    said: String,
}

/// A mark is missing.
#[derive(Debug, thiserror::Error)]
#[error("`microagent {words}` did not pass the mark `{mark}`")]
struct MarkMissing {
    words: String,
    mark: &'static str,
}

impl Caller {
    pub(super) fn new(program: PathBuf, home: &Path) -> std::io::Result<Self> {
        Ok(Self { program, home: home.to_owned(), marks: tempfile::tempdir()? })
    }

    /// A call that was not started yet.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--home").arg(&self.home).args(words).stdin(Stdio::null());
        command
    }

    /// Calls, and waits for success.
    pub(super) fn call(&self, words: &[&str]) -> Result<(), Failure> {
        self.finish(self.command(words), words)
    }

    fn finish(&self, mut command: Command, words: &[&str]) -> Result<(), Failure> {
        let system = |error: std::io::Error| Failure::new("system", &error);
        // What a call leaves running may hold its standard streams: only files can be read to their end.
        let said = self.marks.path().join("said");
        command.stdout(Stdio::null()).stderr(std::fs::File::create(&said).map_err(system)?);
        if command.status().map_err(system)?.success() {
            return Ok(());
        }
        let said = std::fs::read_to_string(said).unwrap_or_default().trim().to_owned();
        Err(Failure::new("perf", &CallFailed { words: words.join(" "), said }))
    }

    /// Calls, and takes the time up to the end, or up to the mark `until`. `marks` are those that are passed, in
    /// their order.
    pub(super) fn sample(
        &self,
        words: &[&str],
        marks: &[&'static str],
        until: Option<&'static str>,
    ) -> Result<Sample, Failure> {
        let path = self.marks.path().join("marks");
        // There is none before the first sample.
        let _ = std::fs::remove_file(&path);
        let mut command = self.command(words);
        command.env(MARKS_VARIABLE, &path);
        let began = monotonic_nanoseconds();
        self.finish(command, words)?;
        let ended = monotonic_nanoseconds();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let missing = |mark| Failure::new("perf", &MarkMissing { words: words.join(" "), mark });
        phases(&text, marks, began, until.is_none().then_some(ended)).map_err(missing)
    }
}

/// The times between the marks in `text`; the error is the mark that is missing. A mark that several processes pass
/// counts when it is passed first after the one before.
fn phases(
    text: &str,
    marks: &[&'static str],
    began: u64,
    ended: Option<u64>,
) -> Result<Sample, &'static str> {
    let mut passed: Vec<(u64, &str)> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(time, name)| Some((time.parse().ok()?, name)))
        .collect();
    passed.sort_unstable();
    let (mut last, mut phases) = (began, Vec::new());
    for mark in marks {
        let time = passed.iter().find(|(time, name)| name == mark && *time >= last).ok_or(*mark)?.0;
        phases.push((*mark, time - last));
        last = time;
    }
    if let Some(ended) = ended {
        phases.push(("teardown", ended.saturating_sub(last)));
        last = ended.max(last);
    }
    Ok(Sample { total: last - began, phases })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_each_other_and_add_up() {
        let text = "300 b\n150 a\n170 a\n400 other\ntorn";
        let sample = phases(text, &["a", "b"], 100, Some(500)).unwrap();
        assert_eq!(sample.phases, [("a", 50), ("b", 150), ("teardown", 200)]);
        assert_eq!(sample.total, sample.phases.iter().map(|(_, time)| time).sum::<u64>());
        assert_eq!(phases(text, &["a", "b"], 100, None).unwrap().total, 200);
        assert_eq!(phases(text, &["a", "c"], 100, None), Err("c"));
    }
}
