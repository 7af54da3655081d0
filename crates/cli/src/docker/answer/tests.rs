//! Each answer leads to something that works.

use clap::{CommandFactory, Parser};

use super::*;
use crate::args::Args;
use crate::docker::{Takes, flags, other_flags, values};

fn root() -> Command {
    let mut root = Args::command();
    root.build();
    root
}

fn find<'a>(root: &'a Command, verb: &str) -> Option<&'a Command> {
    verb.split(' ').try_fold(root, |command, word| command.find_subcommand(word))
}

/// What is printed for a line that the parser refuses.
fn told(typed: &str) -> (String, String) {
    let words = quote::words(typed);
    let program = std::iter::once("microagent".to_owned());
    let refused = Args::try_parse_from(program.chain(words.iter().cloned()));
    let error = refused.err().unwrap_or_else(|| panic!("`{typed}` is taken"));
    let failure = answer(&root(), &words, error.kind());
    let failure = failure.unwrap_or_else(|| panic!("`{typed}` has no answer: {error}"));
    (failure.message().to_owned(), failure.advice().unwrap_or_default().to_owned())
}

/// Whether each command of ours in the advice is one that the parser takes.
fn leads_to_what_works(typed: &str) {
    let (message, hint) = told(typed);
    assert!(!hint.is_empty(), "{typed}: {message}");
    for words in commands_of(&hint) {
        let taken = Args::try_parse_from(&words);
        let help = |error: &clap::Error| !error.use_stderr();
        assert!(taken.as_ref().err().is_none_or(help), "`{typed}`: {words:?}: {}", taken.unwrap_err());
    }
}

/// The commands of ours in a hint: from the program's name to what ends a command, outside of quotes. What stands in
/// backticks is only mentioned, and `IMAGE` is to be filled in.
fn commands_of(hint: &str) -> Vec<Vec<String>> {
    let mut parts = vec![String::new()];
    let (mut quoted, mut mentioned) = (false, false);
    for letter in hint.chars() {
        quoted ^= letter == '\'';
        mentioned ^= letter == '`';
        if !quoted && ";|>&`".contains(letter) {
            parts.push(String::new());
        } else if !mentioned {
            parts.last_mut().expect("there is one").push(letter);
        }
    }
    let ours = parts.iter().filter_map(|part| part.find("microagent ").map(|at| part[at..].trim()));
    let filled_in = |word: String| if word == "IMAGE" { "busybox".to_owned() } else { word };
    ours.map(|line| quote::words(line).into_iter().map(filled_in).collect()).collect()
}

fn with_example(verb: &str, name: &str, takes: Takes, rest: &str) -> String {
    match takes {
        Takes::Nothing => format!("{verb} {name} {rest}"),
        Takes::Value(value) => format!("{verb} {name} {} {rest}", quote::quoted(value)),
    }
}

#[test]
fn each_flag_of_run_is_answered_with_a_command_that_works() {
    for flag in flags::RUN_FLAGS {
        for name in flag.names {
            let typed = with_example("run", name, flag.takes, "busybox true");
            leads_to_what_works(&typed);
            assert!(told(&typed).0.starts_with(name), "{typed}");
            leads_to_what_works(&with_example("create", name, flag.takes, "--image busybox true"));
        }
    }
    for value in values::VALUES {
        let name = value.names[0].split(' ').next().unwrap();
        leads_to_what_works(&with_example("run", name, value.takes, "busybox true"));
    }
}

#[test]
fn each_flag_of_another_command_is_answered_with_one_that_works() {
    let root = root();
    for entry in other_flags::OTHER_FLAGS {
        for verb in entry.verbs {
            let command = find(&root, verb).unwrap_or_else(|| panic!("there is no `{verb}`"));
            let needed = command.get_positionals().filter(|positional| positional.is_required_set()).count();
            let rest = ["one", "two", "three"][..needed].join(" ");
            let ours = |name: &str| {
                command.get_arguments().any(|argument| {
                    let letter = argument.get_short().map(|letter| format!("-{letter}"));
                    let long = argument.get_long().map(|long| format!("--{long}"));
                    letter.as_deref() == Some(name) || long.as_deref() == Some(name)
                })
            };
            for flag in entry.flags {
                // An entry is for several commands, of which some have the flag.
                for name in flag.names.iter().filter(|name| !ours(name)) {
                    leads_to_what_works(&with_example(verb, name, flag.takes, &rest));
                }
            }
        }
    }
}

#[test]
fn each_command_is_answered_with_one_that_works() {
    for command in commands::COMMANDS {
        for name in command.names {
            leads_to_what_works(&format!("{name} {}", command.example.join(" ")));
        }
    }
}

#[test]
fn the_users_own_words_are_filled_in() {
    let hint = |typed| told(typed).1;
    assert_eq!(
        hint("run --rm --privileged -itP --cap-add=SYS_ADMIN -e 'A=b c' busybox ls -l '/a b'"),
        "leave it out: microagent run --rm -i -t -e 'A=b c' busybox ls -l '/a b'; \
         publish each with -p HOST:GUEST; host port 0 takes one that is free"
    );
    assert_eq!(
        hint("run --network none busybox true"),
        "instead: microagent run --network isolated busybox true"
    );
    assert_eq!(
        hint("run --ulimit nofile=64 --sysctl a.b=1 busybox cat file"),
        "instead: microagent run busybox sh -c 'ulimit -n 64; echo 1 >/proc/sys/a/b; exec cat file'"
    );
    assert_eq!(hint("--json ps --format '{{json .}}' -a"), "instead: microagent --json ps -a");
    assert_eq!(hint("create -l a=b nginx"), "instead: microagent create -l a=b --image nginx");
    assert_eq!(hint("start -a web"), "instead: microagent start web && microagent logs -f web");
}

#[test]
fn each_flag_is_told_once_on_a_line_of_its_own() {
    let (message, _) = told("run --cap-add A --cap-add B --privileged busybox");
    assert_eq!(message.lines().count(), 2, "{message}");
    assert!(told("run --network host busybox").0.starts_with("--network host does"));
}

#[test]
fn what_nobody_has_is_told_with_the_nearest() {
    assert!(told("run --memroy 1g busybox").1.contains("`--memory`"));
    assert!(told("run --frobnicate busybox").1.contains("help docker"));
    assert!(told("halt --frobnicate web").1.contains("microagent halt --help"));
    assert!(told("biuld .").1.contains("`microagent build`"), "Docker's are near too");
    assert!(told("image lst").1.contains("`microagent image list`"));
    assert!(told("frobnicate").1.contains("microagent --help"));
}

#[test]
fn what_is_behind_the_image_is_the_commands() {
    let words = quote::words("run busybox ls --privileged");
    assert!(answer(&root(), &words, ErrorKind::UnknownArgument).is_none());
}
