//! What to start in the guest: the image's configuration, and what the user said instead.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use image::ImageConfiguration;
use oci_spec::image::Config as RunConfiguration;
use proto::{Command, Stdio};

/// Where programs are looked for if neither image nor user says; what Docker uses.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the user said; what is absent, the image says.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Replaces the image's command, and follows the entrypoint.
    pub command: Vec<OsString>,
    /// Replaces the image's entrypoint and drops its command; an empty one only drops both.
    pub entrypoint: Option<OsString>,
    /// `NAME=value` entries, later ones first among equals.
    pub environment: Vec<OsString>,
    /// Replaces the image's working directory.
    pub directory: Option<OsString>,
    /// Replaces the image's user.
    pub user: Option<String>,
}

/// Why there is nothing to start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Neither image nor user names a command.
    #[error("the image names no command, and none was given")]
    NoCommand,
    /// The working directory is relative to nothing.
    #[error("the working directory `{0}` is not an absolute path")]
    RelativeDirectory(String),
}

/// Joins the image's `config` and the user's `overrides`.
pub(crate) fn resolve(
    config: &ImageConfiguration,
    overrides: Overrides,
    stdio: Stdio,
) -> Result<Command, CommandError> {
    let inner = config.config().as_ref();
    let directory = overrides.directory.map(OsString::into_vec);
    let directory = directory
        .or_else(|| inner.and_then(|inner| inner.working_dir().clone()).map(String::into_bytes))
        .filter(|directory| !directory.is_empty())
        .unwrap_or_else(|| b"/".to_vec());
    if directory.first() != Some(&b'/') {
        return Err(CommandError::RelativeDirectory(String::from_utf8_lossy(&directory).into_owned()));
    }
    let user = overrides.user.or_else(|| inner.and_then(|inner| inner.user().clone())).unwrap_or_default();
    let image_environment = inner.and_then(|inner| inner.env().clone()).unwrap_or_default();
    let environment = overrides.environment.into_iter().map(OsString::into_vec);
    let mut env = vec![DEFAULT_PATH.as_bytes().to_vec()];
    if matches!(stdio, Stdio::Terminal(_)) {
        env.push(b"TERM=xterm".to_vec());
    }
    for entry in image_environment.into_iter().map(String::into_bytes).chain(environment) {
        set(&mut env, entry);
    }
    let argv = arguments(inner, overrides.entrypoint, overrides.command)?;
    Ok(Command { argv, env, directory, user, stdio })
}

fn arguments(
    inner: Option<&RunConfiguration>,
    entrypoint: Option<OsString>,
    command: Vec<OsString>,
) -> Result<Vec<Vec<u8>>, CommandError> {
    let bytes = |words: Option<Vec<String>>| -> Vec<Vec<u8>> {
        words.unwrap_or_default().into_iter().map(String::into_bytes).collect()
    };
    let command: Vec<_> = command.into_iter().map(OsString::into_vec).collect();
    let (mut argv, fallback) = match entrypoint {
        Some(entrypoint) if entrypoint.is_empty() => (Vec::new(), Vec::new()),
        Some(entrypoint) => (vec![entrypoint.into_vec()], Vec::new()),
        None => (
            bytes(inner.and_then(|inner| inner.entrypoint().clone())),
            bytes(inner.and_then(|inner| inner.cmd().clone())),
        ),
    };
    argv.extend(if command.is_empty() { fallback } else { command });
    if argv.is_empty() { Err(CommandError::NoCommand) } else { Ok(argv) }
}

/// Sets a variable, in the place of an earlier setting.
pub(crate) fn set(env: &mut Vec<Vec<u8>>, entry: Vec<u8>) {
    let name = |entry: &[u8]| entry.split(|byte| *byte == b'=').next().map(<[u8]>::to_vec);
    let wanted = name(&entry);
    match env.iter_mut().find(|existing| name(existing) == wanted) {
        Some(existing) => *existing = entry,
        None => env.push(entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> ImageConfiguration {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}},"config":{json}}}"#
        );
        image::parse_config(text.as_bytes()).unwrap()
    }

    fn words(command: &Command) -> Vec<&str> {
        command.argv.iter().map(|word| std::str::from_utf8(word).unwrap()).collect()
    }

    fn resolve_words(json: &str, overrides: Overrides) -> String {
        words(&resolve(&config(json), overrides, Stdio::Pipes).unwrap()).join(" ")
    }

    #[test]
    fn entrypoint_and_command_combine_as_in_docker() {
        let image = r#"{"Entrypoint":["e","1"],"Cmd":["c"]}"#;
        let given = |entrypoint: Option<&str>, command: &[&str]| Overrides {
            entrypoint: entrypoint.map(OsString::from),
            command: command.iter().map(OsString::from).collect(),
            ..Overrides::default()
        };
        assert_eq!(resolve_words(image, given(None, &[])), "e 1 c");
        assert_eq!(resolve_words(image, given(None, &["x", "y"])), "e 1 x y");
        assert_eq!(resolve_words(image, given(Some("n"), &[])), "n");
        assert_eq!(resolve_words(image, given(Some("n"), &["x"])), "n x");
        assert_eq!(resolve_words(image, given(Some(""), &["x"])), "x");
        let nothing = resolve(&config("{}"), Overrides::default(), Stdio::Pipes);
        assert_eq!(nothing.unwrap_err(), CommandError::NoCommand);
    }

    #[test]
    fn the_users_environment_replaces_the_images() {
        let overrides = Overrides {
            command: vec!["x".into()],
            environment: vec!["A=mine".into(), "B=".into()],
            ..Overrides::default()
        };
        let command = resolve(&config(r#"{"Env":["A=1","PATH=/p"]}"#), overrides, Stdio::Pipes).unwrap();
        let env: Vec<_> = command.env.iter().map(|entry| String::from_utf8_lossy(entry)).collect();
        assert_eq!(env, ["PATH=/p", "A=mine", "B="]);
    }

    #[test]
    fn a_relative_working_directory_is_refused() {
        let overrides =
            Overrides { command: vec!["x".into()], directory: Some("a".into()), ..Overrides::default() };
        let error = resolve(&config("{}"), overrides, Stdio::Pipes).unwrap_err();
        assert_eq!(error, CommandError::RelativeDirectory("a".to_owned()));
    }
}
