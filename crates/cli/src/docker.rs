//! What a Docker user types that does not exist here, and what it is answered with.
//!
//! ```text
//! a mistake, as the parser sees it ──▶ typed (what was typed, in Docker's terms) ──▶ answer
//!                                          ▲                                           │
//!      flags, commands: the tables ────────┴──▶ mapping (help docker, the guide)       ▼
//!                                                                       a failure with why, and what to type
//! ```
//!
//! The tables are the one source of the answers, of `help docker` and of the page in the guide. Nothing here runs for
//! a command line that makes sense: what this program knows itself is never looked up.

mod answer;
mod commands;
mod flags;
mod mapping;
mod nearest;
mod other_flags;
mod quote;
mod typed;
mod values;

pub(crate) use answer::answer;
pub(crate) use mapping::help;
#[cfg(test)]
pub(crate) use quote::words;

/// A flag of Docker's that this program has not.
#[derive(Debug)]
pub(crate) struct DockerFlag {
    /// How it is written; the first is the usual one.
    names: &'static [&'static str],
    /// Whether a value follows, and one to show it with.
    takes: Takes,
    /// What follows its name in a sentence.
    why: &'static str,
    /// What to type in its place.
    instead: Instead,
}

const fn flag(
    names: &'static [&'static str],
    takes: Takes,
    why: &'static str,
    instead: Instead,
) -> DockerFlag {
    DockerFlag { names, takes, why, instead }
}

/// What follows a flag.
#[derive(Debug, Clone, Copy)]
enum Takes {
    /// Nothing.
    Nothing,
    /// A value, such as this one.
    Value(&'static str),
}

/// What is typed in place of a flag.
#[derive(Debug, Clone, Copy)]
enum Instead {
    /// Nothing: the rest of the command works.
    LeaveOut,
    /// Nothing, and this helps.
    LeaveOutAnd(&'static str),
    /// Other words, made from its value.
    Words(fn(&str) -> Vec<String>),
    /// A line for the guest's shell before the command, made from its value.
    InGuest(fn(&str) -> String),
    /// Other words, and perhaps a command of the host's before.
    Prepared(fn(&str) -> Preparation),
    /// Another command, made from what the command names.
    Command(fn(&[String]) -> String),
}

/// What to do before, and which words to type then.
#[derive(Debug)]
struct Preparation {
    line: Option<String>,
    words: Vec<String>,
}

/// A command of Docker's that this program has not.
#[derive(Debug)]
pub(crate) struct DockerCommand {
    /// How it is written; the first is the usual one.
    names: &'static [&'static str],
    /// What follows its name in a sentence.
    why: &'static str,
    /// What to type in its place, made from the words that followed.
    instead: fn(&[String]) -> String,
    /// Words that may follow it, to show it with.
    example: &'static [&'static str],
}
