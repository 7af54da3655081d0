//! Completion in shells: the script that a shell loads calls this program for what can come next, so that it knows
//! the workspaces and images there are.

use std::ffi::OsStr;

use clap::CommandFactory;
use clap_complete::env::Shells;
use clap_complete::{ArgValueCompleter, CompleteEnv, CompletionCandidate};
use home::Home;
use image::Store;
use network::NamedNetwork;
use workspace::{Volume, Workspace};

use crate::args::{Args, CompletionArgs};
use crate::exit::Exit;
use crate::failure::Failure;

/// The environment variable by which a shell asks.
const VARIABLE: &str = "MICROAGENT_COMPLETE";

/// Answers a shell, if it is one that asks, and ends.
pub(crate) fn answer() {
    CompleteEnv::with_factory(Args::command).var(VARIABLE).complete();
}

/// Writes the script for a shell to standard output.
pub(crate) fn print(completion: &CompletionArgs) -> Result<Exit, Failure> {
    let shell = completion.shell.to_string();
    let shells = Shells::builtins();
    let completer = shells.completer(&shell).expect("the shells that can be named are known");
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, "microagent", "microagent", "microagent", &mut script)
        .map_err(|error| Failure::new("system", &error))?;
    crate::output::data(String::from_utf8_lossy(&script).trim_end());
    Ok(Exit::Success)
}

/// The names of workspaces.
pub(crate) fn workspaces() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let names = |home: Home| {
            Some(Workspace::all(&home).ok()?.into_iter().map(|(name, _)| name.to_string()).collect())
        };
        candidates(typed, names)
    })
}

/// The names of volumes.
pub(crate) fn volumes() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let names = |home: Home| {
            Some(Volume::all(&home).ok()?.into_iter().map(|(name, _)| name.to_string()).collect())
        };
        candidates(typed, names)
    })
}

/// What a workspace's network may be: two words, and the names of networks.
pub(crate) fn network_choices() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let words = ["user", "isolated"].map(str::to_owned);
        candidates(typed, |home| Some(words.into_iter().chain(network_names(&home)).collect()))
    })
}

/// The names of networks.
pub(crate) fn networks() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| candidates(typed, |home| Some(network_names(&home))))
}

fn network_names(home: &Home) -> Vec<String> {
    let all = NamedNetwork::all(home).unwrap_or_default();
    all.into_iter().map(|(name, _)| name.to_string()).collect()
}

/// The names of images.
pub(crate) fn images() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let names = |home: Home| {
            let all = Store::open(&home.images()).ok()?.list().ok()?;
            Some(all.into_iter().filter_map(|listed| listed.reference).map(|name| name.to_string()).collect())
        };
        candidates(typed, names)
    })
}

/// Those of `names` that begin with what was typed. Where nothing can be read there is nothing to offer.
fn candidates(typed: &OsStr, names: impl FnOnce(Home) -> Option<Vec<String>>) -> Vec<CompletionCandidate> {
    let home = std::env::var_os("MICROAGENT_HOME");
    let home = Home::open(home.as_deref().map(std::path::Path::new)).ok();
    let typed = typed.to_string_lossy();
    let names = home.and_then(names).unwrap_or_default();
    names.into_iter().filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}
