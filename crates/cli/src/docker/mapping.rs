//! The tables for people: on a terminal, and as a page of the guide.

use std::fmt::Write;

use super::{DockerCommand, DockerFlag, Instead, Takes, commands, flags, other_flags, quote, values};

/// What `help docker` prints.
pub(crate) fn help() -> String {
    let mut text = String::from(
        "What Docker has and microagent has not, or calls differently. Each is answered with the same words when it is\n\
         typed. What is not listed here means what it means in Docker: see `microagent --help`.\n",
    );
    text.push_str("\nCommands:\n");
    for command in commands::COMMANDS {
        entry(&mut text, &command.names.join(", "), command.why, &instead_of_command(command));
    }
    text.push_str("\nFlags of `run` and `create`:\n");
    for flag in run_flags() {
        entry(&mut text, &flag.names.join(", "), flag.why, &instead_of_flag(flag));
    }
    text.push_str("\nFlags of other commands:\n");
    for of_verbs in other_flags::OTHER_FLAGS {
        for flag in of_verbs.flags {
            let names = format!("{} ({})", flag.names.join(", "), of_verbs.verbs.join(", "));
            entry(&mut text, &names, flag.why, &instead_of_flag(flag));
        }
    }
    text
}

fn entry(text: &mut String, names: &str, why: &str, instead: &str) {
    let _ = writeln!(text, "  {names}\n      {why}");
    if !instead.is_empty() {
        let _ = writeln!(text, "      {instead}");
    }
}

fn run_flags() -> impl Iterator<Item = &'static DockerFlag> {
    values::VALUES.iter().copied().chain(flags::RUN_FLAGS)
}

/// What is typed in place of the command with its example.
fn instead_of_command(command: &DockerCommand) -> String {
    let words: Vec<String> = command.example.iter().map(|word| (*word).to_owned()).collect();
    (command.instead)(&words)
}

/// What is typed in place of the flag with its example value.
fn instead_of_flag(flag: &DockerFlag) -> String {
    let value = match flag.takes {
        Takes::Nothing => "",
        Takes::Value(value) => value,
    };
    match flag.instead {
        Instead::LeaveOut => String::new(),
        Instead::LeaveOutAnd(tip) => tip.to_owned(),
        Instead::Words(words) => quote::line(&words(value)),
        Instead::InGuest(line) => format!("sh -c '{}; exec COMMAND'", line(value)),
        Instead::Prepared(prepare) => {
            let prepared = prepare(value);
            let words = quote::line(&prepared.words);
            match prepared.line {
                Some(line) => format!("{line}, then {words}"),
                None => words,
            }
        }
        Instead::Command(command) => command(&["NAME".to_owned()]),
    }
}

/// The tables of the guide's page.
#[cfg(test)]
fn markdown() -> String {
    let mut text = String::from("### Commands\n\n| typed | | instead |\n|---|---|---|\n");
    for command in commands::COMMANDS {
        row(&mut text, command.names, command.why, &instead_of_command(command));
    }
    text.push_str("\n### Flags of `run` and `create`\n\n| typed | | instead |\n|---|---|---|\n");
    for flag in run_flags() {
        row(&mut text, flag.names, flag.why, &instead_of_flag(flag));
    }
    text.push_str("\n### Flags of other commands\n\n| typed | | instead |\n|---|---|---|\n");
    for of_verbs in other_flags::OTHER_FLAGS {
        let verbs: Vec<_> = of_verbs.verbs.iter().map(|verb| format!("`{verb}`")).collect();
        for flag in of_verbs.flags {
            let why = format!("of {}: {}", verbs.join(", "), flag.why);
            row(&mut text, flag.names, &why, &instead_of_flag(flag));
        }
    }
    text
}

#[cfg(test)]
fn row(text: &mut String, names: &[&str], why: &str, instead: &str) {
    let escaped = |text: &str| text.replace('|', r"\|");
    let names: Vec<_> = names.iter().map(|name| format!("`{}`", escaped(name))).collect();
    let instead = if instead.is_empty() { "nothing".to_owned() } else { as_code(&escaped(instead)) };
    let _ = writeln!(text, "| {} | {} | {instead} |", names.join(", "), escaped(why));
}

/// A command or flag in the shape of code; sentences stay as they are.
#[cfg(test)]
fn as_code(text: &str) -> String {
    let begins_as_code =
        ["microagent ", "--", "-v ", "docker ", "sh -c"].iter().any(|start| text.starts_with(start));
    let is_sentence = text.contains("; see ") || text.contains(": microagent") || text.contains(", then ");
    let is_tip = text.starts_with('-') && text.split(' ').count() > 2;
    if begins_as_code && !is_sentence && !is_tip { format!("`{text}`") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    const START: &str = "<!-- The tables are made from the program's own; UPDATE_DOCS=1 cargo test -p microagent-cli docker -->\n";

    #[test]
    fn the_guide_has_the_same_tables() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/coming-from-docker.md");
        let text = std::fs::read_to_string(&page).unwrap();
        let (before, tables) = text.split_once(START).expect("the page says where its tables begin");
        let made = super::markdown();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&page, format!("{before}{START}\n{made}")).unwrap();
            return;
        }
        assert!(
            tables.trim_start() == made,
            "bring it up to date: UPDATE_DOCS=1 cargo test -p microagent-cli docker"
        );
    }
}
