//! `cp`: files between the host and a workspace.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use home::Name;
use serde::Serialize;
use transfer::{Destination, Report, source_name};
use workspace::{
    Access, Copied, CopyError, GuestSource, GuestTarget, HostSource, HostTarget, OpenFiles, Workspace,
    helper_machine,
};

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, helper_kind};
use crate::output::{self, Format};
use crate::progress::Counter;
use crate::pull::{open_home, runtime};
use crate::signals;
use crate::standard_streams::Standard;
use crate::template_verbs::prepare_next;

/// Copy files between this host and a workspace
///
/// One of the two is in a workspace, written NAME:PATH, and `-` is a tar archive on standard input or output. A
/// directory is copied with all that is in it; with `/.` behind it, only what is in it. A workspace at rest is
/// reached through its disk.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent cp ./site web:/srv
  microagent cp web:/var/log/app.log .
  microagent cp web:/etc - | tar t
  tar c . | microagent cp - web:/srv")]
pub(crate) struct CpArgs {
    /// What to copy: PATH, NAME:PATH, or `-`
    #[arg(value_name = "SOURCE")]
    source: OsString,
    /// Where to: NAME:PATH, PATH, or `-`
    #[arg(value_name = "DESTINATION")]
    destination: OsString,
    /// Keep owners and extended attributes
    #[arg(short, long)]
    archive: bool,
    /// Where the source is a symbolic link, copy what it leads to
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Show no progress
    #[arg(short = 'q')]
    silent: bool,
}

/// What `cp --json` prints; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Done {
    /// Files of whatever kind.
    entries: u64,
    /// Bytes of data.
    bytes: u64,
    /// Devices that were left out.
    left_out: u64,
}

/// One of the two sides.
#[derive(Debug, PartialEq, Eq)]
enum Side {
    Guest(Name, Vec<u8>),
    Host(PathBuf),
    Archive,
}

impl Side {
    /// What begins like a path is one; else a colon ends a workspace's name.
    fn of(word: &OsStr) -> Result<Self, Failure> {
        let bytes = word.as_bytes();
        if bytes == b"-" {
            return Ok(Self::Archive);
        }
        let colon = bytes.iter().position(|byte| *byte == b':');
        let Some(colon) = colon.filter(|_| !bytes.starts_with(b"/") && !bytes.starts_with(b".")) else {
            return Ok(Self::Host(PathBuf::from(word)));
        };
        let (name, path) = (String::from_utf8_lossy(&bytes[..colon]), &bytes[colon + 1..]);
        let name = name.parse().map_err(|error| {
            Failure::usage(format!("cannot use `{}`: {error}", word.display()))
                .hint(Some(format!("a file of this host with a colon in its name: ./{}", word.display())))
        })?;
        if path.is_empty() {
            return Err(Failure::usage(format!("`{}` names no path in the workspace", word.display()))
                .hint(Some(format!("its root is {name}:/"))));
        }
        Ok(Self::Guest(name, path.to_vec()))
    }
}

pub(crate) fn cp(global: &Global, args: &CpArgs) -> Result<Exit, Failure> {
    let (from, to) = (Side::of(&args.source)?, Side::of(&args.destination)?);
    let task = match (from, to) {
        (Side::Guest(name, path), to @ (Side::Host(_) | Side::Archive)) => {
            Task { name, transfer: Transfer::Out(out_of(path, to, args)?) }
        }
        (from @ (Side::Host(_) | Side::Archive), Side::Guest(name, path)) => {
            Task { name, transfer: Transfer::In(into(path, from, args)?) }
        }
        (Side::Guest(one, _), Side::Guest(other, _)) => {
            let both = format!("microagent cp {one}:PATH - | microagent cp - {other}:DIRECTORY");
            return Err(Failure::usage("one of the two must be on this host")
                .hint(Some(format!("from one workspace to another: {both}"))));
        }
        _ => {
            return Err(Failure::usage("neither of the two is in a workspace")
                .hint(Some("name one, as in: microagent cp FILE NAME:/PATH")));
        }
    };
    let quiet = args.silent || global.quiet;
    match task.run(global, quiet)? {
        Copied::Interrupted(signal) => Ok(Exit::Signaled(signal)),
        Copied::All(report) => {
            tell_left_out(&report);
            if global.format() == Format::Json && !matches!(Side::of(&args.destination)?, Side::Archive) {
                let Report { entries, bytes, left_out } = report;
                output::json(&Done { entries, bytes, left_out });
            }
            Ok(Exit::Success)
        }
    }
}

/// Says what of the files has no meaning on this host.
pub(crate) fn tell_left_out(report: &Report) {
    if report.left_out > 0 {
        output::talk(&format!(
            "left out {} device files, which would be devices of this host",
            report.left_out
        ));
    }
}

fn out_of(path: Vec<u8>, to: Side, args: &CpArgs) -> Result<(GuestSource, HostTarget), Failure> {
    let name = source_name(&path, b"/");
    let target = match to {
        Side::Host(path) => HostTarget::Path(Destination { path, name, merge: false }),
        _ if std::io::stdout().is_terminal() => {
            return Err(Failure::usage("a tar archive is nothing for a terminal")
                .hint(Some("pass it on, as in: microagent cp NAME:/PATH - | tar t")));
        }
        _ => {
            let out = Standard::output().map_err(|error| Failure::new("system", &error))?;
            HostTarget::Archive(Box::new(out), name)
        }
    };
    Ok((GuestSource { path, follow: args.follow_link, archive: args.archive }, target))
}

fn into(path: Vec<u8>, from: Side, args: &CpArgs) -> Result<(HostSource, GuestTarget), Failure> {
    let (source, name) = match from {
        Side::Host(from) => {
            let here = std::env::current_dir().unwrap_or_default();
            let name = source_name(from.as_os_str().as_bytes(), here.as_os_str().as_bytes());
            // It is said before anything starts.
            let there = if args.follow_link { from.metadata() } else { from.symlink_metadata() };
            there.map_err(|error| {
                Failure::usage(format!("cannot read `{}`: {error}", from.display())).exit(Exit::Failed)
            })?;
            (HostSource::Path { path: from, follow: args.follow_link }, name)
        }
        _ if std::io::stdin().is_terminal() => {
            return Err(Failure::usage("standard input is a terminal, and no tar archive")
                .hint(Some("pass one on, as in: tar c . | microagent cp - NAME:/PATH")));
        }
        _ => {
            let input = Standard::input().map_err(|error| Failure::new("system", &error))?;
            (HostSource::Archive(Box::new(input)), None)
        }
    };
    Ok((source, GuestTarget { path, name, archive: args.archive }))
}

/// Files on their way out of a workspace, or into one.
pub(crate) enum Transfer {
    Out((GuestSource, HostTarget)),
    In((HostSource, GuestTarget)),
}

/// A copy, and the workspace that it is of.
pub(crate) struct Task {
    pub(crate) name: Name,
    pub(crate) transfer: Transfer,
}

impl Task {
    /// Copies, with its progress.
    pub(crate) fn run(self, global: &Global, quiet: bool) -> Result<Copied, Failure> {
        let home = open_home(global)?;
        let workspace = Workspace::find(&home, &self.name).map_err(|error| Failure::workspace(&error))?;
        let mut counter = Counter::new(global, quiet);
        let progress = move |bytes| counter.set(bytes);
        let access = match self.transfer {
            Transfer::Out(_) => Access::Read,
            Transfer::In(_) => Access::Change,
        };
        let mut booted = false;
        let outcome = runtime()?.block_on(async {
            let mut controls = signals::watch()?;
            let files = OpenFiles::open(&workspace, access, global.helpers()).await?;
            booted = files.booted();
            tell_state(&files, &self.name);
            let copied = match self.transfer {
                Transfer::Out((source, target)) => {
                    files.copy_out(source, target, &mut controls, progress).await
                }
                Transfer::In((source, target)) => {
                    files.copy_in(source, target, &mut controls, progress).await
                }
            };
            // A copy that failed is what is to be told.
            let closed = match copied {
                Ok(Copied::Interrupted(_)) => files.close_interrupted().await,
                _ => files.close().await,
            };
            copied.and_then(|copied| closed.map(|()| copied))
        });
        if booted && global.templates != template::Budget::Off {
            prepare_next(global, &home, "warm", None, &helper_machine(workspace.record()));
        }
        outcome.map_err(|error| failure(&error))
    }
}

/// Says what is not as it should be with a workspace's files.
pub(crate) fn tell_state(files: &OpenFiles, name: &Name) {
    if files.damaged() {
        output::talk(&format!(
            "the disk of `{name}` is damaged: what can be read of it is copied, and nothing on it is changed"
        ));
    }
    if let Some(mut stalls) = files.stalls() {
        tokio::spawn(async move {
            if let Some(stall) = stalls.changed().await {
                output::talk(&format!(
                    "microagent: the copy stands still, since {stall}; it goes on by itself"
                ));
            }
        });
    }
}

/// Why a copy failed. What a guest says is shown, and not obeyed.
pub(crate) fn failure(error: &CopyError) -> Failure {
    let failure = match error {
        CopyError::Workspace(error) => Failure::workspace(error),
        CopyError::Helper(helper) => Failure::new(helper_kind(helper), error),
        CopyError::Protocol(_) | CopyError::Lost(_) | CopyError::NotStarted(_) => {
            Failure::new("guest", error)
        }
        CopyError::Unclean(_) => Failure::new("not_clean", error),
        _ => Failure::new("copy_failed", error),
    };
    let failure = failure.printable();
    match error.hint() {
        Some(hint) => failure.hint(Some(hint)),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart_as_docker_does() {
        let side = |word: &str| Side::of(OsStr::new(word)).ok();
        let host = |path: &str| Some(Side::Host(path.into()));
        let guest = |path: &[u8]| Some(Side::Guest("web".parse().unwrap(), path.to_vec()));
        assert_eq!(side("-"), Some(Side::Archive));
        assert_eq!(side("file"), host("file"));
        assert_eq!(side("./a:b"), host("./a:b"));
        assert_eq!(side("/a:b"), host("/a:b"));
        assert_eq!(side("web:/a:b"), guest(b"/a:b"));
        assert_eq!(side("web:a"), guest(b"a"));
        assert_eq!(side("web:"), None);
        assert_eq!(side("not a name:/x"), None);
    }
}
