//! What was typed, as Docker would read it: which words are flags, which of them are ours, and where the command begins.

use clap::builder::Command;

use super::other_flags::OTHER_FLAGS;
use super::{DockerFlag, Takes, flags, values};

/// A command line, taken apart.
#[derive(Debug, Default)]
pub(super) struct Typed {
    /// The command, and the command below it.
    pub(super) verb: Vec<String>,
    /// The flags, in their order, also those before the command.
    pub(super) flags: Vec<TypedFlag>,
    /// Everything else: the image or the names, and what follows them.
    pub(super) rest: Vec<String>,
}

/// A flag as it was typed.
#[derive(Debug)]
pub(super) struct TypedFlag {
    /// Its words.
    pub(super) words: Vec<String>,
    /// Its name, with its dashes.
    pub(super) name: String,
    /// Its value.
    pub(super) value: Option<String>,
    /// Whether it comes before the command.
    pub(super) before: bool,
    /// Whose it is.
    pub(super) origin: Origin,
}

/// Whose a flag is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin {
    /// One that is known here, with a value that may make sense.
    Ours,
    /// One of Docker's, or of ours with a value of Docker's.
    Docker(&'static DockerFlag),
    /// Nobody's.
    Unknown,
}

/// Whether names come before what belongs to another program.
fn ends_at_first_word(verb: &[String]) -> bool {
    matches!(verb.first().map(String::as_str), Some("run" | "create" | "exec"))
}

/// Whether the flags shape a machine, and may have values of Docker's.
fn makes_a_machine(verb: &[String]) -> bool {
    matches!(verb.first().map(String::as_str), Some("run" | "create"))
}

impl Typed {
    /// Takes `words`, without the program's name, apart by what `root`, built, knows.
    pub(super) fn read(root: &Command, words: &[String]) -> Self {
        let mut typed = Self::default();
        let mut command = root;
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            if word == "--" {
                typed.rest.extend(std::iter::once(word).chain(words).cloned());
                break;
            }
            if let Some(long) = word.strip_prefix("--") {
                let next = words.peek().map(|next| (*next).clone());
                let flag = typed.long(command, word, long, next);
                if flag.words.len() > 1 {
                    words.next();
                }
                typed.flags.push(flag);
            } else if word.len() > 1 && word.starts_with('-') {
                let (flags, used_next) = typed.cluster(command, word, words.peek().copied());
                if used_next {
                    words.next();
                }
                typed.flags.extend(flags);
            } else if let Some(below) = typed.below(command, word) {
                typed.verb.push(below.get_name().to_owned());
                command = below;
            } else {
                typed.rest.push(word.clone());
                if typed.verb.is_empty() || ends_at_first_word(&typed.verb) {
                    typed.rest.extend(words.cloned());
                    break;
                }
            }
        }
        typed
    }

    fn below<'a>(&self, command: &'a Command, word: &str) -> Option<&'a Command> {
        if !self.rest.is_empty() {
            return None;
        }
        command.find_subcommand(word)
    }

    fn long(&self, command: &Command, word: &str, long: &str, next: Option<String>) -> TypedFlag {
        let (name, attached) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        self.flag(command, &format!("--{name}"), word, attached, next)
    }

    /// Short flags that are typed together. They stay together if all are ours.
    fn cluster(&self, command: &Command, word: &str, next: Option<&String>) -> (Vec<TypedFlag>, bool) {
        let mut flags = Vec::new();
        for (at, letter) in word.char_indices().skip(1) {
            let after = &word[at + letter.len_utf8()..];
            let name = format!("-{letter}");
            let takes = takes_value(command, &self.verb, &name);
            if takes && !after.is_empty() {
                let value = after.trim_start_matches('=').to_owned();
                flags.push(self.flag(command, &name, &format!("{name}{after}"), Some(value), None));
                break;
            }
            let next = next.filter(|_| after.is_empty()).cloned();
            flags.push(self.flag(command, &name, &name, None, next));
        }
        let used_next = flags.last().is_some_and(|flag| flag.words.len() > 1);
        if flags.len() > 1 && flags.iter().all(|flag| matches!(flag.origin, Origin::Ours)) {
            let mut last = flags.pop().expect("there is more than one");
            word.clone_into(&mut last.words[0]);
            return (vec![last], used_next);
        }
        (flags, used_next)
    }

    fn flag(
        &self,
        command: &Command,
        name: &str,
        word: &str,
        attached: Option<String>,
        next: Option<String>,
    ) -> TypedFlag {
        let mut words = vec![word.to_owned()];
        let mut value = attached;
        if value.is_none() && takes_value(command, &self.verb, name) {
            words.extend(next.clone());
            value = next;
        }
        let origin = origin(command, &self.verb, name, value.as_deref());
        TypedFlag { words, name: name.to_owned(), value, before: self.verb.is_empty(), origin }
    }
}

fn origin(command: &Command, verb: &[String], name: &str, value: Option<&str>) -> Origin {
    if let Some(argument) = ours(command, name) {
        let long = argument.get_long().unwrap_or_default();
        let refused = value.filter(|_| makes_a_machine(verb)).and_then(|value| values::look_up(long, value));
        return refused.map_or(Origin::Ours, Origin::Docker);
    }
    let by_value = value.filter(|_| makes_a_machine(verb));
    let by_value = by_value.and_then(|value| values::look_up(values::long_name(name), value));
    by_value.or_else(|| docker(verb, name)).map_or(Origin::Unknown, Origin::Docker)
}

fn takes_value(command: &Command, verb: &[String], name: &str) -> bool {
    if let Some(argument) = ours(command, name) {
        return argument.get_action().takes_values();
    }
    let by_value = makes_a_machine(verb) && values::takes(name);
    by_value || docker(verb, name).is_some_and(|flag| matches!(flag.takes, Takes::Value(_)))
}

fn ours<'a>(command: &'a Command, name: &str) -> Option<&'a clap::Arg> {
    let long = name.strip_prefix("--");
    let letter = name.chars().nth(1).filter(|_| long.is_none());
    command.get_arguments().find(|argument| {
        let by_long = long.is_some_and(|long| {
            argument.get_long() == Some(long)
                || argument.get_all_aliases().is_some_and(|aliases| aliases.contains(&long))
        });
        let by_letter = letter.is_some_and(|letter| {
            argument.get_short() == Some(letter)
                || argument.get_all_short_aliases().is_some_and(|aliases| aliases.contains(&letter))
        });
        by_long || by_letter
    })
}

/// Docker's flag of this name.
fn docker(verb: &[String], name: &str) -> Option<&'static DockerFlag> {
    let has_name = |flag: &&DockerFlag| flag.names.contains(&name);
    if makes_a_machine(verb) {
        return flags::RUN_FLAGS.iter().find(has_name);
    }
    let verb = verb.join(" ");
    let of_verb = OTHER_FLAGS.iter().filter(|entry| entry.verbs.contains(&verb.as_str()));
    of_verb.flat_map(|entry| entry.flags).find(has_name)
}
