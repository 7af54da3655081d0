//! Errors in words: what failed, on which object, why, and what to do next. The one place that prints them.

use std::error::Error;

use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory};
use serde::Serialize;
use workspace::WorkspaceError;

use crate::args::Args;
use crate::exit::Exit;
use crate::output::Format;

/// An error on its way to the user.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: &'static str,
    message: String,
    hint: Option<String>,
    exit: Exit,
}

/// The error document of `--json`; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Document<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Body<'a> {
    kind: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
    retryable: bool,
}

impl Failure {
    /// A failure because of `error` and the errors behind it.
    pub(crate) fn new(kind: &'static str, error: &(dyn Error + 'static)) -> Self {
        Self { kind, message: workspace::causes(error), hint: None, exit: Exit::Failed }
    }

    /// What was asked for cannot be done now.
    pub(crate) fn refused(kind: &'static str, message: String) -> Self {
        Self { kind, message, hint: None, exit: Exit::Failed }
    }

    /// Its kind, as programs are told.
    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    /// What was asked for makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { kind: "usage", message: message.into(), hint: None, exit: Exit::Usage }
    }

    /// What was asked for exists elsewhere, and not here.
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self { kind: "unsupported", ..Self::usage(message) }
    }

    /// With advice.
    pub(crate) fn hint(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hint = hint.map(Into::into);
        self
    }

    /// Why a workspace cannot be used.
    pub(crate) fn workspace(error: &WorkspaceError) -> Self {
        let kind = match error {
            WorkspaceError::Unknown(_) => "workspace_not_found",
            WorkspaceError::State { .. } | WorkspaceError::Foreground(_) => "state",
            WorkspaceError::Busy(_) => "busy",
            WorkspaceError::Stalled { .. } => "stalled",
            WorkspaceError::Refused { kind, .. } => known_kind(kind),
            WorkspaceError::Control { .. } => "supervisor",
            _ => "workspace",
        };
        Self::new(kind, error).hint(error.hint())
    }

    /// With what it is about before it.
    pub(crate) fn about(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// As something that does not stop what was asked for.
    pub(crate) fn as_warning(&self) -> String {
        let hint = self.hint.as_ref().map_or_else(String::new, |hint| format!("\nhint: {hint}"));
        format!("warning: {}{hint}", self.message)
    }

    /// With what a guest may have said made harmless for a terminal.
    pub(crate) fn printable(self) -> Self {
        Self { message: crate::output::printable(&self.message), ..self }
    }

    /// With this advice, if there is none yet.
    pub(crate) fn or_hint(mut self, hint: impl FnOnce() -> String) -> Self {
        self.hint.get_or_insert_with(hint);
        self
    }

    /// What failed.
    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// What to do next.
    #[cfg(test)]
    pub(crate) fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// With another exit code.
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

/// Of a failure of a sealed machine.
pub(crate) fn helper_kind(error: &workspace::HelperError) -> &'static str {
    if error.is_unconfined() { "confinement" } else { "boot_failed" }
}

/// The kinds that supervisors tell, which are a contract of ours as well.
fn known_kind(kind: &str) -> &'static str {
    const KINDS: [&str; 14] = [
        "boot_failed",
        "confinement",
        "command_not_executable",
        "command_not_found",
        "command_setup",
        "disk",
        "image_unusable",
        "machine",
        "name_taken",
        "no_kernel",
        "not_clean",
        "state",
        "still_up",
        "supervisor",
    ];
    KINDS.into_iter().find(|known| *known == kind).unwrap_or("workspace")
}

/// Prints a failure and tells the exit code.
pub(crate) fn print(failure: &Failure, format: Format) -> Exit {
    match format {
        Format::Json => {
            let retryable = matches!(failure.kind, "unreachable" | "busy" | "stalled");
            let body = Body {
                kind: failure.kind,
                message: &failure.message,
                hint: failure.hint.as_deref(),
                retryable,
            };
            let document = serde_json::to_string(&Document { error: body }).expect("errors are plain data");
            crate::output::talk(&document);
        }
        Format::Text => {
            for line in failure.message.lines() {
                crate::output::talk(&format!("microagent: {line}"));
            }
            if let Some(hint) = &failure.hint {
                crate::output::talk(&format!("hint: {hint}"));
            }
        }
    }
    failure.exit
}

/// Prints what clap has to say: help and version to standard output, mistakes to standard error.
///
/// `words` are those that were typed behind the program's name.
pub(crate) fn usage(error: &clap::Error, words: &[String]) -> Exit {
    if !error.use_stderr() {
        // A broken standard stream leaves nobody to tell.
        let _ = error.print();
        return Exit::Success;
    }
    let program = std::iter::once("microagent".to_owned());
    let typed = Args::command().ignore_errors(true);
    let typed = typed.try_get_matches_from(program.chain(words.iter().cloned())).unwrap_or_default();
    // A mistake in `run` or `exec` looks like any other failure of theirs to whoever called it.
    let exit =
        if matches!(typed.subcommand_name(), Some("run" | "exec")) { Exit::RunFailed } else { Exit::Usage };
    let format = Format::wanted(has_json(&typed));
    if let Some(answer) = answer(error.kind(), words) {
        return print(&answer.exit(exit), format);
    }
    if format == Format::Json {
        return print(&mistake(&error.render().to_string()).exit(exit), Format::Json);
    }
    let _ = error.print();
    exit
}

/// The answer to what Docker users type and this program has not.
fn answer(kind: ErrorKind, words: &[String]) -> Option<Failure> {
    let mut root = Args::command();
    root.build();
    crate::docker::answer(&root, words, kind)
}

fn has_json(typed: &ArgMatches) -> bool {
    let here = matches!(typed.try_get_one("json"), Ok(Some(true)));
    here || typed.subcommand().is_some_and(|(_, below)| has_json(below))
}

/// The parts of clap's text: paragraphs, of which the first is the message, and some are tips.
fn mistake(text: &str) -> Failure {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let message = text.split("\n\n").next().unwrap_or(text);
    let message = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let tips: Vec<_> = text.lines().filter_map(|line| line.trim().strip_prefix("tip: ")).collect();
    Failure::usage(message).hint(Some(tips.join("; ")).filter(|tips| !tips.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_has_a_message_and_tips() {
        let text = "error: unexpected argument '--x' found\n\n  tip: one\n  tip: two\n\nUsage: y\n";
        let failure = mistake(text);
        assert_eq!(failure.message, "unexpected argument '--x' found");
        assert_eq!(failure.hint.as_deref(), Some("one; two"));
        assert_eq!(mistake("error: not provided:\n  <A>\n\nUsage: y\n").message, "not provided: <A>");
    }
}
