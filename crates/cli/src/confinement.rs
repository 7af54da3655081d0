//! `try-confinement` and `attempt`, hidden: what QEMU could do that was taken over, tried from inside.
//!
//! This program is started in QEMU's stead, confined as QEMU is, makes its attempts and tells how each was refused.
//! `doctor` asks for it, and the tests.
#![allow(unsafe_code, reason = "a descriptor that was inherited is only known by number")]

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::FromRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use confine::{Attempt, Held, Part, Places, Targets};
use engine::{Accelerator, CONTROL_DESCRIPTOR, LaunchError};
use serde::Serialize;

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::pull::{open_home, runtime};

/// Try what QEMU's confinement must refuse, and tell
#[derive(Debug, clap::Args)]
pub(crate) struct TryConfinementArgs {
    /// Leave this part out, to see what the others hold
    #[arg(long, value_name = "PART", value_parser = part)]
    leave_out: Vec<Part>,
    /// Confine nothing, to see what could succeed
    #[arg(long)]
    unconfined: bool,
    /// Confine as this kind of process does itself, and not as QEMU is
    #[arg(long = "as", value_enum)]
    role: Option<Role>,
    /// More files that are not to be read
    paths: Vec<PathBuf>,
}

/// A kind of process that takes rights away from itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// What a running workspace has.
    Supervisor,
    /// A run in the foreground whose outputs go to the current directory.
    Run,
    /// What reads foreign bytes.
    Reader,
}

/// What confines a machine, as `status --json` has it; a contract.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Confinement {
    /// The version of the kernel's Landlock that it is under.
    landlock: Option<u32>,
    /// The parts that this host lacked when it was started.
    missing: Vec<Lacking>,
    /// The control group that it has to itself, where one is delegated.
    cgroup: Option<PathBuf>,
}

/// A part that a host lacks.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Lacking {
    /// `landlock`, `namespaces`, `filter` or `read_only`.
    #[cfg_attr(test, schemars(with = "String"))]
    part: Part,
    reason: String,
}

impl From<Held> for Confinement {
    fn from(held: Held) -> Self {
        let missing = held.missing.into_iter().map(|why| Lacking { part: why.part, reason: why.reason });
        Self { landlock: held.landlock, missing: missing.collect(), cgroup: held.cgroup }
    }
}

impl Confinement {
    /// As a person reads it.
    pub(crate) fn words(&self) -> String {
        let landlock = self.landlock.map(|version| format!("Landlock {version}"));
        let has = |part: Part| self.missing.iter().all(|lacking| lacking.part != part);
        let others = [Part::Namespaces, Part::Filter, Part::ReadOnly].into_iter().filter(|part| has(*part));
        let group = self.cgroup.as_ref().map(|_| "a cgroup".to_owned());
        let parts: Vec<_> =
            landlock.into_iter().chain(others.map(|part| part.to_string())).chain(group).collect();
        let lacking = self.missing.iter().map(|lacking| format!("{} ({})", lacking.part, lacking.reason));
        match lacking.collect::<Vec<_>>().join(", ") {
            lacking if lacking.is_empty() => parts.join(", "),
            lacking => format!("{}; not by {lacking}", parts.join(", ")),
        }
    }
}

/// What holds, and how the attempts went.
#[derive(Debug, Serialize)]
pub(crate) struct Trial {
    /// None where nothing was confined.
    pub(crate) held: Option<Held>,
    pub(crate) attempts: Vec<Attempt>,
}

pub(crate) fn try_confinement(global: &Global, args: &TryConfinementArgs) -> Result<Exit, Failure> {
    let trial = if args.unconfined || args.role.is_some() {
        try_outside(global, &args.paths, args.role)
    } else {
        try_confined(args.paths.clone(), args.leave_out.clone())
    };
    output::json(&trial.map_err(|error| Failure::new("confinement", &error))?);
    Ok(Exit::Success)
}

/// Makes the attempts in QEMU's confinement.
pub(crate) fn try_confined(paths: Vec<PathBuf>, left_out: Vec<Part>) -> Result<Trial, LaunchError> {
    let directory = tempfile::tempdir().map_err(LaunchError::Spawn)?;
    let places = Places::make(directory.path(), paths).map_err(LaunchError::Spawn)?;
    let program = std::env::current_exe().map_err(LaunchError::Spawn)?;
    let arguments = words(places.targets());
    let memory = File::open(&places.targets().memory).map_err(LaunchError::Spawn)?;
    let runtime = runtime().map_err(|_| LaunchError::Spawn(std::io::ErrorKind::Other.into()))?;
    let (held, said) =
        runtime.block_on(engine::try_confinement(Accelerator::Tcg, program, arguments, memory, left_out))?;
    Ok(Trial { held: Some(held), attempts: confine::attempts_told(&said) })
}

/// Makes the same attempts in a process that confines itself, or may do all that its user may.
fn try_outside(global: &Global, paths: &[PathBuf], role: Option<Role>) -> Result<Trial, LaunchError> {
    let directory = tempfile::tempdir().map_err(LaunchError::Spawn)?;
    let places = Places::make(directory.path(), paths.to_vec()).map_err(LaunchError::Spawn)?;
    let program = std::env::current_exe().map_err(LaunchError::Spawn)?;
    let mut command = Command::new(program);
    if let Some(home) = &global.home {
        command.arg("--home").arg(home);
    }
    command.args(words(places.targets()));
    command.args(
        role.map(|role| format!("--as={}", role.to_possible_value().expect("all have a name").get_name())),
    );
    let output = command.output().map_err(LaunchError::Spawn)?;
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(Trial { held: None, attempts: confine::attempts_told(&said) })
}

fn words(targets: &Targets) -> Vec<OsString> {
    vec!["attempt".into(), targets.argument()]
}

/// In the confined process, or in one that shows what a confined one could do otherwise: then there is no such channel.
pub(crate) fn attempt(global: &Global, targets: &str, role: Option<Role>) -> Result<Exit, Failure> {
    let targets =
        Targets::parse(targets).ok_or_else(|| Failure::usage("this command is for tests to use"))?;
    match role {
        Some(Role::Run) => workspace::confine_run(&open_home(global)?, &[], [Path::new("output")]),
        Some(Role::Supervisor) => workspace::confine_supervisor(&open_home(global)?, &[]),
        Some(Role::Reader) => reader::lock_in().map_err(|error| Failure::new("confinement", &error))?,
        None => {}
    }
    let outcome = if rustix::fs::fstat(standing(CONTROL_DESCRIPTOR)).is_ok() {
        // SAFETY: it is open, as was just seen, and nothing else in this process has it: it was open before it began.
        confine::attempt(&targets, unsafe { File::from_raw_fd(CONTROL_DESCRIPTOR) })
    } else {
        confine::attempt(&targets, std::io::stdout())
    };
    outcome.map(|()| Exit::Success).map_err(|error| Failure::new("confinement", &error))
}

/// A number that may be that of an open descriptor.
fn standing(number: i32) -> std::os::fd::BorrowedFd<'static> {
    // SAFETY: it is only asked whether it is open.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(number) }
}

fn part(text: &str) -> Result<Part, String> {
    let known = ["landlock", "namespaces", "filter", "read_only"];
    let named = Part::ALL.into_iter().zip(known).find(|(_, name)| *name == text);
    named.map(|(part, _)| part).ok_or_else(|| format!("choose one of {}", known.join(", ")))
}
