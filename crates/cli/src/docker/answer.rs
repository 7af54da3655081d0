//! The answer to what Docker has and this program has not: why, and what to type, with the user's own words.

use clap::builder::Command;
use clap::error::ErrorKind;

use super::typed::{Origin, Typed, TypedFlag};
use super::{DockerFlag, Instead, commands, nearest, quote};
use crate::failure::Failure;

/// What is behind the image, where nothing else is known.
const COMMAND: &str = "COMMAND";

/// The answer to a mistake in `words`, without the program's name, that `root`, built, refused as `mistake`; none where
/// the parser's own is as good.
pub(crate) fn answer(root: &Command, words: &[String], mistake: ErrorKind) -> Option<Failure> {
    let typed = Typed::read(root, words);
    if mistake == ErrorKind::InvalidSubcommand {
        return Some(unknown_command(root, &typed));
    }
    if typed.verb.is_empty() {
        return None;
    }
    let foreign = typed.flags.iter().any(|flag| matches!(flag.origin, Origin::Docker(_)));
    let unknown = typed.flags.iter().find(|flag| matches!(flag.origin, Origin::Unknown));
    match (mistake, unknown) {
        (_, _) if foreign => Some(foreign_flags(&typed)),
        (ErrorKind::UnknownArgument, Some(flag)) => Some(unknown_flag(root, &typed, flag)),
        (ErrorKind::UnknownArgument | ErrorKind::ArgumentConflict, None) => below(&typed),
        (ErrorKind::MissingRequiredArgument, None) => image_as_a_word(&typed),
        _ => None,
    }
}

/// A command that is Docker's, or nobody's.
fn unknown_command(root: &Command, typed: &Typed) -> Failure {
    let below: Vec<String> = typed.verb.iter().chain(&typed.rest).cloned().collect();
    let found = commands::look_up(&below).or_else(|| commands::look_up(&typed.rest));
    if let Some((command, rest)) = found {
        // `image build` is told as it was typed.
        let name = line_of(&below[..below.len() - rest.len()]);
        return Failure::unsupported(format!("`{name}` {}", command.why))
            .hint(Some(format!("instead: {}", (command.instead)(rest))));
    }
    let parent = typed.verb.iter().try_fold(root, |command, verb| command.find_subcommand(verb));
    let names = parent.unwrap_or(root).get_subcommands().filter(|command| !command.is_hide_set());
    let names = names.flat_map(|command| {
        std::iter::once(command.get_name()).chain(command.get_visible_aliases()).map(str::to_owned)
    });
    let docker = commands::COMMANDS.iter().flat_map(|command| command.names).map(|name| (*name).to_owned());
    let typed_name = typed.rest.first().cloned().unwrap_or_default();
    let near = nearest::to(&typed_name, names.chain(docker.filter(|_| typed.verb.is_empty())));
    let shown = crate::output::printable(&line_of(&[&typed.verb[..], &[typed_name]].concat()));
    Failure::usage(format!("there is no command `{shown}`")).hint(Some(match near {
        Some(near) => {
            let meant = [&typed.verb[..], &[near]].concat();
            format!(
                "did you mean `microagent {}`? see all: microagent {}",
                line_of(&meant),
                line_of(&help(typed))
            )
        }
        None => format!("see those there are: microagent {}", line_of(&help(typed))),
    }))
}

/// A word too many, where Docker has commands below this one.
fn below(typed: &Typed) -> Option<Failure> {
    let words: Vec<String> = typed.verb.iter().chain(&typed.rest).cloned().collect();
    let (command, rest) = commands::look_up(&words)?;
    let name = line_of(&words[..words.len() - rest.len()]);
    Some(
        Failure::unsupported(format!("`{name}` {}", command.why))
            .hint(Some(format!("instead: {}", (command.instead)(rest)))),
    )
}

fn help(typed: &Typed) -> Vec<String> {
    let mut words = typed.verb.clone();
    words.push("--help".to_owned());
    words
}

fn line_of(words: &[String]) -> String {
    quote::line(words)
}

/// Flags of Docker's: why each is not here, and the command without them or with ours.
fn foreign_flags(typed: &Typed) -> Failure {
    let mut told: Vec<&'static DockerFlag> = Vec::new();
    let mut messages = Vec::new();
    let mut advice = Vec::new();
    for flag in &typed.flags {
        let Origin::Docker(known) = flag.origin else { continue };
        if told.iter().any(|other| std::ptr::eq(*other, known)) {
            continue;
        }
        told.push(known);
        messages.push(format!("{} {}", shown(flag), known.why));
        if let Instead::LeaveOutAnd(tip) = known.instead {
            advice.push(tip.to_owned());
        }
    }
    let plain = told.iter().all(|flag| matches!(flag.instead, Instead::LeaveOut | Instead::LeaveOutAnd(_)));
    let lead = if plain { "leave it out" } else { "instead" };
    let corrected = format!("{lead}: {}", corrected(typed));
    advice.insert(0, corrected);
    Failure::unsupported(messages.join("\n")).hint(Some(advice.join("; ")))
}

/// The flag, with a value that says more than the flag does.
fn shown(flag: &TypedFlag) -> String {
    let value = flag
        .value
        .as_deref()
        .filter(|_| ["--network", "--net", "-v", "--volume"].contains(&flag.name.as_str()));
    match value {
        Some(value) => format!("{} {}", flag.name, quote::quoted(value)),
        None => flag.name.clone(),
    }
}

/// The command as it works here.
fn corrected(typed: &Typed) -> String {
    let mut before = Vec::new();
    let mut words = vec!["microagent".to_owned()];
    let mut flags: Vec<String> = Vec::new();
    let mut in_guest = Vec::new();
    for flag in &typed.flags {
        let value = flag.value.as_deref().unwrap_or_default();
        let mut replacement = Vec::new();
        match flag.origin {
            Origin::Ours | Origin::Unknown => replacement.clone_from(&flag.words),
            Origin::Docker(known) => match known.instead {
                Instead::LeaveOut | Instead::LeaveOutAnd(_) => {}
                // A switch that is there already, or that two flags become, is not given twice.
                Instead::Words(of_value) => {
                    let made = of_value(value);
                    let there = |word: &String| words.contains(word) || flags.contains(word);
                    replacement = if made.len() == 1 && there(&made[0]) { Vec::new() } else { made };
                }
                Instead::InGuest(line) => in_guest.push(line(value)),
                Instead::Prepared(prepare) => {
                    let prepared = prepare(value);
                    before.extend(prepared.line);
                    replacement = prepared.words;
                }
                Instead::Command(command) => return command(&typed.rest),
            },
        }
        let target = if flag.before { &mut words } else { &mut flags };
        target.extend(replacement);
    }
    words.extend(typed.verb.iter().cloned().chain(flags));
    words.extend(if in_guest.is_empty() { typed.rest.clone() } else { through_a_shell(typed, &in_guest) });
    before.push(quote::line(&words));
    before.join(" && ")
}

/// The image, and the command behind lines for a shell.
fn through_a_shell(typed: &Typed, lines: &[String]) -> Vec<String> {
    let is_run = typed.verb.first().is_some_and(|verb| verb == "run");
    let (image, command) = typed.rest.split_at(usize::from(is_run).min(typed.rest.len()));
    let command = if command.is_empty() { COMMAND.to_owned() } else { quote::line(command) };
    let line = format!("{}; exec {command}", lines.join("; "));
    let mut words = image.to_vec();
    words.extend(["sh".to_owned(), "-c".to_owned(), line]);
    words
}

/// A flag that neither this program nor Docker, as far as it is known here, has.
fn unknown_flag(root: &Command, typed: &Typed, flag: &TypedFlag) -> Failure {
    let command =
        typed.verb.iter().try_fold(root, |command, verb| command.find_subcommand(verb)).unwrap_or(root);
    let longs =
        command.get_arguments().filter(|argument| !argument.is_hide_set()).filter_map(clap::Arg::get_long);
    let near = flag.name.strip_prefix("--").and_then(|name| nearest::to(name, longs.map(str::to_owned)));
    let verb = line_of(&typed.verb);
    let name = crate::output::printable(&flag.name);
    let hint = match near {
        Some(near) => format!("did you mean `--{near}`? see all flags: microagent {verb} --help"),
        None if matches!(verb.as_str(), "run" | "create" | "exec") => format!(
            "see the flags there are: microagent {verb} --help; what differs from Docker: microagent help docker; \
             flags of the command stand behind its {}",
            match verb.as_str() {
                "run" => "image",
                "create" => "name",
                _ => "workspace",
            }
        ),
        None => format!("see the flags there are: microagent {verb} --help"),
    };
    Failure::usage(format!("`{verb}` has no flag `{name}`")).hint(Some(hint))
}

/// `create IMAGE`, as in Docker.
fn image_as_a_word(typed: &Typed) -> Option<Failure> {
    let is_create = typed.verb.first().is_some_and(|verb| verb == "create");
    let given = typed.flags.iter().any(|flag| flag.name == "--image");
    if !is_create || given || typed.rest.is_empty() {
        return None;
    }
    let mut words = vec!["microagent".to_owned(), "create".to_owned()];
    words.extend(typed.flags.iter().flat_map(|flag| flag.words.clone()));
    words.push("--image".to_owned());
    words.extend(typed.rest.iter().cloned());
    Some(
        Failure::usage("`create` takes the image as a flag")
            .hint(Some(format!("instead: {}", quote::line(&words)))),
    )
}

#[cfg(test)]
mod tests;
