//! What a new supervisor says to the process that started it, a JSON document a line, until the service runs.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use serde::{Deserialize, Serialize};

use crate::control::line;

/// One thing that a new supervisor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// A template is restored.
    Restoring,
    /// The machine boots.
    Booting,
    /// The service was started. The last word.
    Started,
    /// It was not. The last word.
    Failed(Failure),
}

/// Why a service was not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// The kind of failure, for programs.
    pub kind: String,
    /// Why, in words.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The supervisor's end.
#[derive(Debug)]
pub(crate) struct Report(Option<File>);

impl Report {
    pub(crate) fn new(pipe: File) -> Self {
        Self(Some(pipe))
    }

    /// Whether the last word is still to be said.
    pub(crate) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Says it. Whoever started us may have gone, which changes nothing.
    pub(crate) fn say(&mut self, said: &Said) {
        if let Some(pipe) = &mut self.0 {
            let _ = pipe.write_all(&line(said));
        }
        if matches!(said, Said::Started | Said::Failed(_)) {
            self.0 = None;
        }
    }
}

/// Hears a new supervisor out, up to its last word; `None` if it ended without one.
pub(crate) fn hear(pipe: File, observe: &mut dyn FnMut(&Said)) -> Option<Said> {
    for line in BufReader::new(pipe).lines() {
        let said = serde_json::from_str(&line.ok()?).ok()?;
        if matches!(said, Said::Started | Said::Failed(_)) {
            return Some(said);
        }
        observe(&said);
    }
    None
}

/// An error and what is behind it, outermost first; an error that only repeats the one before is left out.
pub fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard_up_to_the_last_word() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut report = Report::new(std::os::fd::OwnedFd::from(writer).into());
        report.say(&Said::Booting);
        report.say(&Said::Started);
        assert!(!report.is_open());
        let mut steps = Vec::new();
        let last = hear(std::os::fd::OwnedFd::from(reader).into(), &mut |said| steps.push(said.clone()));
        assert_eq!((steps, last), (vec![Said::Booting], Some(Said::Started)));
    }

    #[derive(Debug, thiserror::Error)]
    #[error("failed to open `x`")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn an_error_names_its_causes_once() {
        let inner = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        assert_eq!(causes(&Outer(inner)), "failed to open `x`: no such file");
    }

    #[test]
    fn an_end_without_a_last_word_is_noticed() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(writer);
        assert_eq!(hear(std::os::fd::OwnedFd::from(reader).into(), &mut |_| ()), None);
    }
}
