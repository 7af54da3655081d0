//! A workspace's long-running process: what its settings and its image make of it.
//!
//! It is resolved once, when the workspace is created, so that it stays the same whatever becomes of the image.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use image::{Image, Store};
use proto::{Command, Stdio, TerminalSize};
use serde::{Deserialize, Serialize};

use crate::command::{resolve, set};
use crate::spec::{HealthSpec, WorkspaceSpec, seconds};
use crate::{CommandError, InvalidStopSignal, Overrides, StopSignal};

/// The terminal of a service that nobody looks at.
const UNSEEN: TerminalSize = TerminalSize { rows: 24, columns: 80 };

/// A workspace's long-running process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// `NAME=value` entries, the image's and the user's.
    pub env: Vec<String>,
    /// The working directory.
    pub directory: String,
    /// `user[:group]`; empty for root.
    pub user: String,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its input stays open.
    pub interactive: bool,
    /// The signal that asks it to end.
    #[serde(with = "home::as_text::optional", default)]
    pub stop_signal: Option<StopSignal>,
    /// How long it has to end when asked to, in seconds.
    #[serde(with = "seconds")]
    pub grace: Duration,
    /// How to tell that it is well.
    #[serde(default)]
    pub health: Option<HealthCheck>,
}

/// A check that runs again and again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Program and arguments; exit code 0 means well.
    pub argv: Vec<String>,
    /// The time between checks, in seconds.
    #[serde(with = "seconds")]
    pub interval: Duration,
    /// How long one may take, in seconds.
    #[serde(with = "seconds")]
    pub timeout: Duration,
    /// How long after the start failures do not count, in seconds.
    #[serde(with = "seconds")]
    pub start_period: Duration,
    /// How many failures in a row mean that it is not well.
    pub retries: u32,
}

/// Why a workspace has no service.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// There is nothing to start.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The image's signal to end is none.
    #[error("cannot use the image's stop signal")]
    StopSignal(#[from] InvalidStopSignal),
    /// The line for a shell comes with other words.
    #[error("cannot take both a service command and a command")]
    TwoCommands,
}

impl Service {
    /// What `spec` and `image` make of it.
    pub(crate) fn resolve(spec: &WorkspaceSpec, image: &Image, store: &Store) -> Result<Self, ServiceError> {
        let stdio = if spec.tty { Stdio::Terminal(UNSEEN) } else { Stdio::NoInput };
        let command = resolve(&image.config, overrides(spec)?, stdio)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let stop_signal = match spec.stop_signal {
            Some(signal) => Some(signal),
            None => crate::run::image_stop_signal(image)?,
        };
        Ok(Self {
            argv: command.argv.into_iter().map(text).collect(),
            env: command.env.into_iter().map(text).collect(),
            directory: text(command.directory),
            user: command.user,
            tty: spec.tty,
            interactive: spec.interactive,
            stop_signal,
            grace: spec.stop_timeout,
            health: health(spec.health.as_ref(), image_health(image, store)),
        })
    }

    /// What to start in the guest.
    pub(crate) fn command(&self) -> Command {
        let stdio = match (self.tty, self.interactive) {
            (true, _) => Stdio::Terminal(UNSEEN),
            (false, true) => Stdio::Pipes,
            (false, false) => Stdio::NoInput,
        };
        self.beside(&self.argv, stdio)
    }

    /// Another command in the service's environment.
    pub fn beside(&self, argv: &[String], stdio: Stdio) -> Command {
        let bytes = |words: &[String]| words.iter().map(|word| word.clone().into_bytes()).collect();
        Command {
            argv: bytes(argv),
            env: bytes(&self.env),
            directory: self.directory.clone().into_bytes(),
            user: self.user.clone(),
            stdio,
        }
    }

    /// A command that was typed, in the service's environment. The image's entrypoint has no part in it.
    pub fn exec(&self, overrides: Overrides, stdio: Stdio) -> Result<Command, CommandError> {
        let mut command = self.beside(&[], stdio);
        if overrides.command.is_empty() {
            return Err(CommandError::NoCommand);
        }
        command.argv = overrides.command.into_iter().map(OsString::into_vec).collect();
        if matches!(stdio, Stdio::Terminal(_)) && !self.tty {
            set(&mut command.env, b"TERM=xterm".to_vec());
        }
        for entry in overrides.environment {
            set(&mut command.env, entry.into_vec());
        }
        if let Some(directory) = overrides.directory.map(OsString::into_vec) {
            if directory.first() != Some(&b'/') {
                return Err(CommandError::RelativeDirectory(
                    String::from_utf8_lossy(&directory).into_owned(),
                ));
            }
            command.directory = directory;
        }
        command.user = overrides.user.unwrap_or(command.user);
        Ok(command)
    }

    /// The signal that asks it to end.
    pub(crate) fn stop_signal(&self) -> StopSignal {
        self.stop_signal.unwrap_or(StopSignal::TERMINATE)
    }
}

fn overrides(spec: &WorkspaceSpec) -> Result<Overrides, ServiceError> {
    let words = |words: &[String]| words.iter().map(OsString::from).collect();
    let (entrypoint, command) = match &spec.service_command {
        Some(_) if !spec.command.is_empty() || spec.entrypoint.is_some() => {
            return Err(ServiceError::TwoCommands);
        }
        Some(line) => (Some("".into()), vec!["/bin/sh".into(), "-c".into(), line.into()]),
        None => (spec.entrypoint.as_ref().map(OsString::from), words(&spec.command)),
    };
    Ok(Overrides {
        command,
        entrypoint,
        environment: words(&spec.env),
        directory: spec.workdir.as_ref().map(OsString::from),
        user: spec.user.clone(),
    })
}

/// `HEALTHCHECK` as Docker writes it into an image's configuration, which OCI's specification does not know:
/// durations are in nanoseconds, and what is zero is inherited.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ImageHealth {
    test: Vec<String>,
    interval: u64,
    timeout: u64,
    start_period: u64,
    retries: u32,
}

fn image_health(image: &Image, store: &Store) -> Option<ImageHealth> {
    #[derive(Deserialize)]
    struct Configuration {
        config: Option<Inner>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Inner {
        healthcheck: Option<ImageHealth>,
    }
    let text = std::fs::read(store.blob_path(&image.config_digest)).ok()?;
    serde_json::from_slice::<Configuration>(&text).ok()?.config?.healthcheck
}

/// The user's words first, then the image's, then Docker's defaults.
fn health(wanted: Option<&HealthSpec>, image: Option<ImageHealth>) -> Option<HealthCheck> {
    let default = HealthSpec::default();
    let wanted = wanted.unwrap_or(&default);
    if wanted.disable {
        return None;
    }
    let image = image.unwrap_or_default();
    let shell = |line: &String| vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()];
    let argv = match (&wanted.command, image.test.split_first()) {
        (Some(line), _) => shell(line),
        (None, Some((kind, rest))) if kind == "CMD" && !rest.is_empty() => rest.to_vec(),
        (None, Some((kind, [line]))) if kind == "CMD-SHELL" => shell(line),
        _ => return None,
    };
    let or = |wanted: Option<Duration>, image: u64, default: u64| {
        let image = Some(Duration::from_nanos(image)).filter(|image| !image.is_zero());
        wanted.or(image).unwrap_or(Duration::from_secs(default))
    };
    Some(HealthCheck {
        argv,
        interval: or(wanted.interval, image.interval, 30),
        timeout: or(wanted.timeout, image.timeout, 30),
        start_period: or(wanted.start_period, image.start_period, 0),
        retries: wanted.retries.or(Some(image.retries).filter(|retries| *retries > 0)).unwrap_or(3),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(test: &[&str]) -> ImageHealth {
        let test = test.iter().map(|word| (*word).to_owned()).collect();
        ImageHealth { test, interval: 2_000_000_000, ..ImageHealth::default() }
    }

    #[test]
    fn a_health_check_is_the_users_then_the_images_then_dockers() {
        let shell = health(None, Some(image(&["CMD-SHELL", "true"]))).unwrap();
        assert_eq!(shell.argv, ["/bin/sh", "-c", "true"]);
        assert_eq!((shell.interval.as_secs(), shell.timeout.as_secs(), shell.retries), (2, 30, 3));
        assert_eq!(health(None, Some(image(&["CMD", "a", "b"]))).unwrap().argv, ["a", "b"]);
        assert_eq!(health(None, Some(image(&["NONE"]))), None);
        assert_eq!(health(None, None), None);
        let own = HealthSpec { command: Some("mine".to_owned()), retries: Some(1), ..HealthSpec::default() };
        assert_eq!(health(Some(&own), Some(image(&["CMD", "a"]))).unwrap().argv[2], "mine");
        let off = HealthSpec { disable: true, ..own };
        assert_eq!(health(Some(&off), Some(image(&["CMD", "a"]))), None);
    }
}
