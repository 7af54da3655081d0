//! `help`: a command's help, or what differs from Docker.

use clap::Parser;

use crate::args::Args;
use crate::exit::Exit;
use crate::{docker, failure, output};

/// Explain a command, or what differs from Docker
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent help run
  microagent help docker      # what Docker has and microagent has not, and what to type instead")]
pub(crate) struct HelpArgs {
    /// A command, or `docker`
    #[arg(value_name = "COMMAND")]
    topic: Vec<String>,
}

pub(crate) fn help(args: &HelpArgs) -> Exit {
    if args.topic == ["docker"] {
        output::raw(&docker::help());
        return Exit::Success;
    }
    let mut words = args.topic.clone();
    words.push("--help".to_owned());
    let program = std::iter::once("microagent".to_owned());
    match Args::try_parse_from(program.chain(words.iter().cloned())) {
        Ok(_) => unreachable!("asking for help ends the parsing"),
        Err(error) => failure::usage(&error, &words),
    }
}
