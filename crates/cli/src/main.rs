//! `microagent`: words in, words out.
//!
//! ```text
//! arguments ──▶ args (what was typed) ──▶ one verb, one file ──▶ library calls ──▶ exit code
//!                                              │
//!                  output: data to stdout      ├── failure: what failed, why, what to do
//!                  progress: talk to stderr    └── terminal: raw mode, size, signals
//! ```
//!
//! This crate decides nothing about workspaces; it translates. It is the only one that prints.

mod args;
mod artifacts;
mod clone;
mod commit;
mod completion;
mod confinement;
mod connect;
mod cp;
mod create;
mod delete;
mod disk_verbs;
mod docker;
mod doctor;
mod end;
mod events;
mod exec;
mod exit;
mod failure;
mod help;
mod image_verbs;
mod kernel_verbs;
mod list;
mod logs;
mod man;
mod network_verb;
mod output;
mod perf;
mod port;
mod progress;
mod pull;
mod push;
mod quarantine;
mod question;
mod read;
mod registry_verbs;
mod resize;
mod run;
#[cfg(test)]
mod schemas;
mod signals;
mod standard_streams;
mod start;
mod stats;
mod status;
mod supervise;
mod template_verbs;
mod terminal;
mod time;
mod volume_verbs;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Verb};
use exit::Exit;
use failure::Failure;
use image_verbs::ImageVerb;

fn main() -> ExitCode {
    home::mark("program");
    completion::answer();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return failure::usage(&error, &words()).into(),
    };
    start_log(args.global.verbose);
    read::elsewhere();
    let format = args.global.format();
    let exit = match dispatch(args) {
        Ok(exit) => exit,
        Err(failure) => failure::print(&failure, format),
    };
    exit.into()
}

/// What was typed behind the program's name.
fn words() -> Vec<String> {
    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect()
}

fn dispatch(args: Args) -> Result<Exit, Failure> {
    let global = args.global;
    match args.verb {
        Verb::Run(run) => run::run(&global, run),
        Verb::Create(create) => create::create(&global, &create),
        Verb::Start(start) => start::start(&global, &start),
        Verb::Restart(restart) => start::restart(&global, &restart),
        Verb::Halt(names) => end::halt(&global, &names),
        Verb::Stop(stop) => end::stop(&global, &stop),
        Verb::Kill(kill) => end::kill(&global, &kill),
        Verb::Pause(names) => end::pause(&global, &names),
        Verb::Resume(names) => end::resume(&global, &names),
        Verb::Wait(names) => end::wait(&global, &names),
        Verb::Rename(rename) => delete::rename(&global, &rename),
        Verb::Clone(copy) => clone::clone(&global, &copy),
        Verb::Resize(resize) => resize::resize(&global, &resize),
        Verb::Commit(args) => commit::commit(&global, &args),
        Verb::Volume(verb) => volume_verbs::volume(&global, verb),
        Verb::Delete(delete) => delete::delete(&global, &delete),
        Verb::Ps(list) => list::ps(&global, &list),
        Verb::List(list) => list::list(&global, &list),
        Verb::Status(status) => status::status(&global, &status),
        Verb::Exec(exec) => exec::exec(&global, &exec),
        Verb::Connect(connect) => connect::connect(&global, &connect),
        Verb::Cp(copy) => cp::cp(&global, &copy),
        Verb::Artifacts(artifacts) => artifacts::artifacts(&global, &artifacts),
        Verb::Network(network) => network_verb::network(&global, &network),
        Verb::Port(port) => port::port(&global, &port),
        Verb::Stats(stats) => stats::stats(&global, &stats),
        Verb::Logs(logs) => logs::logs(&global, &logs),
        Verb::Events(events) => events::events(&global, &events),
        Verb::Quarantine(quarantine) => quarantine::quarantine(&global, &quarantine),
        Verb::Supervise { name, pcap } => supervise::supervise(&global, name, pcap),
        Verb::Doctor(_) => doctor::doctor(&global),
        Verb::Df => disk_verbs::df(&global),
        Verb::Prune(prune) => disk_verbs::prune(&global, &prune),
        Verb::Pull(pull) | Verb::Image(ImageVerb::Pull(pull)) => pull::pull(&global, &pull),
        Verb::Load(load) | Verb::Image(ImageVerb::Load(load)) => image_verbs::load(&global, &load),
        Verb::Images(list) | Verb::Image(ImageVerb::List(list)) => image_verbs::list(&global, &list),
        Verb::Push(push) | Verb::Image(ImageVerb::Push(push)) => push::push(&global, &push),
        Verb::Tag(tag) | Verb::Image(ImageVerb::Tag(tag)) => image_verbs::tag::tag(&global, &tag),
        Verb::Rmi(delete) | Verb::Image(ImageVerb::Delete(delete)) => {
            image_verbs::delete::delete(&global, &delete)
        }
        Verb::Save(save) | Verb::Image(ImageVerb::Save(save)) => image_verbs::save::save(&global, &save),
        Verb::Import(import) | Verb::Image(ImageVerb::Import(import)) => {
            image_verbs::import::import(&global, &import)
        }
        Verb::Image(ImageVerb::Inspect(inspect)) => image_verbs::inspect::inspect(&global, &inspect),
        Verb::Image(ImageVerb::History(history)) => image_verbs::history::history(&global, &history),
        Verb::Image(ImageVerb::Prune(prune)) => image_verbs::prune::prune(&global, &prune),
        Verb::Image(ImageVerb::Verify(verify)) => image_verbs::verify::verify(&global, &verify),
        Verb::Registry(verb) => registry_verbs::registry(&global, verb),
        Verb::Kernel(kernel) => kernel_verbs::kernel(&global, kernel),
        Verb::Template(template) => template_verbs::template(&global, template),
        Verb::Perf(perf) => perf::perf(&global, &perf),
        Verb::Completion(completion) => completion::print(&completion),
        Verb::Help(topic) => Ok(help::help(&topic)),
        Verb::Man { directory } => man::write(&directory),
        Verb::Version => Ok(output::version(global.format())),
        Verb::GuardTerminal => Ok(terminal::guard()),
        Verb::Read { foreign } => read::read(foreign),
        Verb::TryConfinement(args) => confinement::try_confinement(&global, &args),
        Verb::Attempt { targets, role } => confinement::attempt(&global, &targets, role),
    }
}

/// `-v` tells what is decided, `-vv` what is done; `MICROAGENT_LOG` says it in detail.
fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "off",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = std::env::var("MICROAGENT_LOG").unwrap_or_else(|_| level.to_owned());
    if filter == "off" {
        return;
    }
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_timer(tracing_subscriber::fmt::time::uptime())
        .init();
}
