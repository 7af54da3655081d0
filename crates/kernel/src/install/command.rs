//! Running a program of the host to its end, or to a deadline.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const MAX_OUTPUT: u64 = 4 << 20;
const LAST_LINES: usize = 5;

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The program is not installed.
    #[error("the program `{program}` is not installed")]
    Missing {
        /// The program.
        program: String,
    },
    /// The command ended with an error.
    #[error("`{command}` failed with {status}: {stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines that it wrote to its standard error.
        stderr: String,
    },
    /// The command took too long and was ended.
    #[error("`{command}` was not done after {} seconds: {stderr}", deadline.as_secs())]
    Late {
        /// The command line.
        command: String,
        /// The time it had.
        deadline: Duration,
        /// The last lines that it wrote to its standard error.
        stderr: String,
    },
    /// The command could not be run.
    #[error("failed to run `{command}`")]
    Run {
        /// The command line.
        command: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs `command` with its messages in English, and returns its standard output.
pub(super) fn run(command: &mut Command, deadline: Duration) -> Result<String, CommandError> {
    let line = line_of(command);
    tracing::debug!(command = line, "running");
    let failed = |source| CommandError::Run { command: line.clone(), source };
    let (mut stdout, mut stderr) =
        (tempfile::tempfile().map_err(failed)?, tempfile::tempfile().map_err(failed)?);
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command.stdout(stdout.try_clone().map_err(failed)?).stderr(stderr.try_clone().map_err(failed)?);
    let mut child = command.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => {
            CommandError::Missing { program: command.get_program().to_string_lossy().into_owned() }
        }
        _ => CommandError::Run { command: line.clone(), source },
    })?;
    let status = wait(&mut child, deadline).map_err(failed)?;
    match status {
        Some(status) if status.success() => read_from_start(&mut stdout).map_err(failed),
        Some(status) => Err(CommandError::Failed { command: line, status, stderr: last_lines(&mut stderr) }),
        None => Err(CommandError::Late { command: line, deadline, stderr: last_lines(&mut stderr) }),
    }
}

/// Waits for the end of `child`; `None` if it had to be killed.
fn wait(child: &mut Child, deadline: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn read_from_start(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut output = Vec::new();
    file.take(MAX_OUTPUT).read_to_end(&mut output)?;
    Ok(String::from_utf8_lossy(&output).into_owned())
}

fn last_lines(stderr: &mut File) -> String {
    let text = read_from_start(stderr).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_output_of_a_command_is_returned() {
        assert_eq!(run(&mut shell("echo out; echo err >&2"), Duration::from_secs(10)).unwrap(), "out\n");
    }

    #[test]
    fn a_failure_carries_the_command_and_its_last_words() {
        let error = run(&mut shell("seq 9 >&2; exit 3"), Duration::from_secs(10)).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c seq 9 >&2; exit 3` failed with exit status: 3: 5\n6\n7\n8\n9");
    }

    #[test]
    fn a_command_that_takes_too_long_is_ended() {
        let started = Instant::now();
        let error = run(Command::new("sleep").arg("60"), Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, CommandError::Late { .. }));
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(&mut Command::new("no-such-program"), Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.to_string(), "the program `no-such-program` is not installed");
    }
}
