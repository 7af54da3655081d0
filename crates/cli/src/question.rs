//! Questions to whoever is at the terminal.

use std::io::{BufRead, IsTerminal};

use crate::failure::Failure;
use crate::output;

/// Whether the answer is yes; without a terminal, who would be asked is told what to type instead.
pub(crate) fn confirmed(question: &str, instead: &str) -> Result<bool, Failure> {
    if !can_ask() {
        return Err(Failure::usage("cannot ask: standard input is no terminal")
            .hint(Some(format!("say it: {instead}"))));
    }
    Ok(agreed(question))
}

/// Whether there is somebody to ask.
pub(crate) fn can_ask() -> bool {
    std::io::stdin().is_terminal()
}

/// Asks a question that is answered with yes or no.
pub(crate) fn agreed(question: &str) -> bool {
    output::ask(question);
    let mut answer = String::new();
    // No answer is no.
    let _ = std::io::stdin().lock().read_line(&mut answer);
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}
