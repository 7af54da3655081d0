//! `exec`: a command in a workspace that runs.

use std::ffi::OsString;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use home::Name;
use jiff::Timestamp;
use proto::{Command, ExitStatus, Stdio};
use serde::Serialize;
use workspace::{
    Capture, Captured, ExecRequest, ExecStatus, Finished, Input, Overrides, Streams, Workspace, detach,
    execute,
};

use crate::args::{Global, ServiceArgs, parse_time};
use crate::completion::workspaces;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::pull::{open_home, runtime};
use crate::run::{environment, exit};
use crate::signals;
use crate::standard_streams::Standard;
use crate::terminal::{self, RawMode};

/// Run a command in a workspace that runs
///
/// It has the service's environment, user and directory. Its output, errors and exit code are its own; it ends
/// when this command does.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent exec web -- ls -l /srv
  microagent exec -it web sh
  tar c . | microagent exec -i web -- tar x -C /srv
  microagent exec --json --timeout 30 web -- make test")]
pub(crate) struct ExecArgs {
    /// The workspace
    #[arg(value_name = "NAME", add = workspaces())]
    name: Name,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
    /// Pass standard input to the command
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Leave it running, and do not wait
    #[arg(short, long, conflicts_with_all = ["interactive", "tty", "timeout"])]
    detach: bool,
    /// Set an environment variable; without a value, pass on this one's
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<std::path::PathBuf>,
    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<OsString>,
    /// The user, and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// End the command after this long, with exit code 124 (as in 90, 1.5s, 10m)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,
    /// With --json: keep at most so many bytes of each stream
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    capture: usize,
}

/// What `exec --json` prints; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Document {
    #[cfg_attr(test, schemars(with = "String"))]
    status: ExecStatus,
    exit_code: Option<u8>,
    signal: Option<u8>,
    /// Why it could not be started.
    reason: Option<String>,
    stdout: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_encoding: Option<&'static str>,
    stdout_truncated: bool,
    stderr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_encoding: Option<&'static str>,
    stderr_truncated: bool,
    #[cfg_attr(test, schemars(with = "String"))]
    started_at: Timestamp,
    #[cfg_attr(test, schemars(with = "String"))]
    finished_at: Timestamp,
    duration_ms: u64,
}

pub(crate) fn exec(global: &Global, args: &ExecArgs) -> Result<Exit, Failure> {
    exec_inner(global, args).map_err(|failure| failure.exit(Exit::RunFailed))
}

fn exec_inner(global: &Global, args: &ExecArgs) -> Result<Exit, Failure> {
    if args.tty && args.interactive && !terminal::is_input() {
        return Err(Failure::usage("cannot give the command a terminal: standard input is none")
            .hint(Some("leave out -t to pass on standard input as it is")));
    }
    let home = open_home(global)?;
    let workspace = Workspace::find(&home, &args.name).map_err(|error| Failure::workspace(&error))?;
    let command = command(&workspace, args)?;
    if args.detach {
        let detached = detach(&workspace, command);
        return detached.map(|()| Exit::Success).map_err(|error| Failure::workspace(&error));
    }
    match global.format() {
        Format::Text => stream(&workspace, command, args),
        Format::Json => capture(&workspace, command, args),
    }
}

/// The service's environment, with what was typed over it.
fn command(workspace: &Workspace, args: &ExecArgs) -> Result<Command, Failure> {
    let stdio = match (args.tty, args.interactive) {
        (true, _) => Stdio::Terminal(terminal::size()),
        (false, true) => Stdio::Pipes,
        (false, false) => Stdio::NoInput,
    };
    let service =
        ServiceArgs { env: args.env.clone(), env_file: args.env_file.clone(), ..ServiceArgs::default() };
    let overrides = Overrides {
        command: args.command.clone(),
        environment: environment(&service)?,
        directory: args.workdir.clone(),
        user: args.user.clone(),
        ..Overrides::default()
    };
    let resolved = workspace.record().service.exec(overrides, stdio);
    resolved.map_err(|error| Failure::new("usage", &error))
}

fn stream(workspace: &Workspace, command: Command, args: &ExecArgs) -> Result<Exit, Failure> {
    let system = |error: std::io::Error| Failure::new("system", &error);
    let streams = Streams {
        input: input(args)?,
        stdout: Box::new(Standard::output().map_err(system)?),
        stderr: Box::new(Standard::error().map_err(system)?),
    };
    let raw = args.tty && args.interactive;
    let finished = drive(workspace, ExecRequest { command, streams, timeout: args.timeout }, raw)?;
    Ok(exit(&finished))
}

fn input(args: &ExecArgs) -> Result<Input, Failure> {
    if !args.interactive {
        return Ok(Input::None);
    }
    let input = Standard::input().map_err(|error| Failure::new("system", &error))?;
    Ok(Input::Stream(Box::new(input)))
}

/// Drives a command to its end; on a terminal, its keys are the command's.
pub(crate) fn drive(workspace: &Workspace, request: ExecRequest, raw: bool) -> Result<Finished, Failure> {
    let mut raw_mode = None;
    let finished = runtime()?.block_on(async {
        let mut controls = signals::watch().map_err(|error| Failure::new("system", &error))?;
        let mut started = || {
            if raw {
                raw_mode = RawMode::enter().ok();
            }
        };
        let finished = execute(workspace, request, &mut controls, &mut started).await;
        finished.map_err(|error| Failure::workspace(&error))
    });
    drop(raw_mode);
    finished
}

fn capture(workspace: &Workspace, command: Command, args: &ExecArgs) -> Result<Exit, Failure> {
    let (stdout, stderr) = (Capture::new(args.capture), Capture::new(args.capture));
    let streams =
        Streams { input: input(args)?, stdout: Box::new(stdout.clone()), stderr: Box::new(stderr.clone()) };
    let (began, started_at) = (std::time::Instant::now(), Timestamp::now());
    let finished = drive(workspace, ExecRequest { command, streams, timeout: args.timeout }, false)?;
    let duration = began.elapsed();
    let (status, exit_code, signal, reason) = match &finished {
        Finished::Exited(ExitStatus::Code(code)) => (ExecStatus::Exited, Some(*code), None, None),
        Finished::Exited(ExitStatus::Signal(signal)) => (ExecStatus::Signaled, None, Some(*signal), None),
        Finished::TimedOut => (ExecStatus::Timeout, None, None, None),
        Finished::NotStarted(failure) => {
            (ExecStatus::FailedToStart, None, None, Some(failure.reason.clone()))
        }
        Finished::Interrupted(_) | Finished::Detached => return Ok(exit(&finished)),
    };
    let (stdout, stdout_encoding, stdout_truncated) = shown(stdout.captured());
    let (stderr, stderr_encoding, stderr_truncated) = shown(stderr.captured());
    output::json(&Document {
        status,
        exit_code,
        signal,
        reason,
        stdout,
        stdout_encoding,
        stdout_truncated,
        stderr,
        stderr_encoding,
        stderr_truncated,
        started_at,
        finished_at: Timestamp::now(),
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
    });
    Ok(crate::run::exit_code(&finished))
}

/// Text as it is, and anything else in base64. A bound in the middle of a character does not make it something
/// else.
fn shown(captured: Captured) -> (String, Option<&'static str>, bool) {
    let Captured { bytes, truncated } = captured;
    match std::str::from_utf8(&bytes) {
        Ok(text) => (text.to_owned(), None, truncated),
        Err(error) if truncated && error.error_len().is_none() => {
            let text = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
            (text, None, true)
        }
        Err(_) => (BASE64_STANDARD.encode(&bytes), Some("base64"), truncated),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captured_bytes_are_text_where_they_can_be() {
        let captured = |bytes: &[u8], truncated| Captured { bytes: bytes.to_vec(), truncated };
        assert_eq!(shown(captured(b"hi", false)), ("hi".to_owned(), None, false));
        assert_eq!(shown(captured(b"\xff", false)), ("/w==".to_owned(), Some("base64"), false));
        assert_eq!(
            shown(captured("h\u{e4}".as_bytes().split_last().unwrap().1, true)),
            ("h".to_owned(), None, true)
        );
    }
}
