//! What a process tries that was taken over, to see from inside whether it is refused.
//!
//! The attempts are made in a process that was launched as the real one is; the same, made in one that is not confined,
//! show that each could have succeeded. None does harm where it succeeds.
#![allow(unsafe_code, reason = "what is tried has no safe interface")]

mod targets;
mod tried;

use std::ffi::OsString;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

pub use targets::{Places, Targets};

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What, as in "to read a file of the user's".
    pub what: String,
    /// How it was refused; none if it was not.
    pub refused: Option<String>,
}

/// The last attempt: it leaves nobody to tell how it went.
pub(crate) const LAST: &str = "execute a shell";

/// Makes all attempts at `targets`, tells each to `report` as a line of JSON, and ends with the last one.
pub fn attempt(targets: &Targets, mut report: impl Write) -> io::Result<()> {
    for (what, outcome) in tried::all(targets) {
        tell(&mut report, what, outcome)?;
    }
    let error = tried::execute_shell();
    tell(&mut report, LAST.to_owned(), Err(error))
}

fn tell(report: &mut impl Write, what: String, outcome: io::Result<()>) -> io::Result<()> {
    let attempt = Attempt { what, refused: outcome.err().map(|error| error.to_string()) };
    writeln!(report, "{}", serde_json::to_string(&attempt)?)
}

/// Reads what [`attempt`] told. What it did not live to tell was not refused.
pub fn attempts_told(text: &str) -> Vec<Attempt> {
    let mut told: Vec<Attempt> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if told.iter().all(|attempt| attempt.what != LAST) {
        told.push(Attempt { what: LAST.to_owned(), refused: None });
    }
    told
}

/// The arguments that a program hands to [`attempt`], after words of its own.
impl Targets {
    /// As one argument.
    pub fn argument(&self) -> OsString {
        serde_json::to_string(self).expect("plain data").into()
    }

    /// Reads the argument.
    pub fn parse(argument: &str) -> Option<Self> {
        serde_json::from_str(argument).ok()
    }
}
