//! Completion scripts.

use clap::CommandFactory;

use crate::args::{Args, CompletionArgs};
use crate::exit::Exit;

/// Writes the script for a shell to standard output.
pub(crate) fn print(completion: &CompletionArgs) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(completion.shell, &mut Args::command(), "microagent", &mut script);
    crate::output::data(String::from_utf8_lossy(&script).trim_end());
    Exit::Success
}
