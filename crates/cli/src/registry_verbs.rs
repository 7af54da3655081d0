//! `registry login`, `logout` and `list`.

use std::io::{BufRead, IsTerminal, Read};

use clap::Subcommand;
use image::{Kept, LogInError, LoginError, Logins, RegistryName};
use serde::Serialize;

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Format, printable};
use crate::pull::{registries, registry_kind, runtime};
use crate::terminal::Silence;

/// Of a password, in bytes; tokens have some thousands.
const MAX_PASSWORD: u64 = 1 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryVerb {
    /// Log in to a registry
    Login(LoginArgs),
    /// Forget the login of a registry
    Logout(LogoutArgs),
    /// List the registries that there are logins for
    #[command(
        alias = "ls",
        after_help = "Example:
  microagent registry list"
    )]
    List,
}

/// Log in to a registry
///
/// The login is kept where Docker keeps it: by the credential helper that ~/.docker/config.json names, else in that file,
/// or in the one that `REGISTRY_AUTH_FILE` names. It is kept only once the registry has taken it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent registry login -u me
  pass show registry | microagent registry login -u me --password-stdin registry.example.com")]
pub(crate) struct LoginArgs {
    /// The registry; Docker Hub if absent
    #[arg(value_name = "REGISTRY")]
    registry: Option<RegistryName>,
    /// The user's name; asked for if absent
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// The password, which others on this host can see; better have it asked for, or use --password-stdin
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
}

/// Forget the login of a registry
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  microagent registry logout registry.example.com")]
pub(crate) struct LogoutArgs {
    /// The registry; Docker Hub if absent
    #[arg(value_name = "REGISTRY")]
    registry: Option<RegistryName>,
}

/// An entry of `registry list --json`, and what `registry login --json` prints; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Listed {
    registry: String,
    user: Option<String>,
    kept_in: String,
}

/// What `registry logout --json` prints; a contract.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct LoggedOut {
    registry: String,
    was_logged_in: bool,
}

pub(crate) fn registry(global: &Global, verb: RegistryVerb) -> Result<Exit, Failure> {
    match verb {
        RegistryVerb::Login(args) => login(global, args),
        RegistryVerb::Logout(args) => logout(global, args),
        RegistryVerb::List => list(global),
    }
}

fn login(global: &Global, args: LoginArgs) -> Result<Exit, Failure> {
    let registry = args.registry.unwrap_or_default();
    let user = match args.username {
        Some(user) => user,
        None => asked(&format!("user of {registry}: "))?,
    };
    let password = match args.password {
        Some(password) => {
            output::talk(
                "warning: a password on the command line can be seen by others on this host; use --password-stdin",
            );
            password
        }
        None if args.password_stdin => piped()?,
        None => secret(&format!("password of {user}: "))?,
    };
    if user.is_empty() || password.is_empty() {
        return Err(Failure::usage("a login needs a user's name and a password"));
    }
    if user.contains(':') {
        return Err(Failure::usage("a user's name has no colon in it"));
    }
    let outcome = runtime()?.block_on(image::log_in(&registries()?, &registry, &user, &password));
    let kept = outcome.map_err(|error| Failure::new(kind(&error), &error).hint(error.hint()))?;
    let listed = Listed { registry: registry.to_string(), user: Some(user), kept_in: place(&kept) };
    match global.format() {
        Format::Json => output::json(&listed),
        Format::Text => {
            if let Kept::File(path) = &kept {
                output::talk(&format!(
                    "the password is in {}, legible to whoever can read that",
                    path.display()
                ));
            }
            output::data(&format!("logged in to {registry}"));
        }
    }
    Ok(Exit::Success)
}

fn kind(error: &LogInError) -> &'static str {
    match error {
        LogInError::Registry { source, .. } => registry_kind(source, "login_failed"),
        LogInError::Keep { .. } => "logins",
    }
}

fn place(kept: &Kept) -> String {
    match kept {
        Kept::File(path) => path.display().to_string(),
        Kept::Helper(name) => format!("docker-credential-{name}"),
    }
}

/// A line that is typed.
fn asked(question: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("cannot ask for a login: standard input is no terminal")
            .hint(Some("give --username, and the password by --password-stdin")));
    }
    output::ask(question);
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|error| Failure::new("system", &error))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// A line that is typed and not shown.
fn secret(question: &str) -> Result<String, Failure> {
    let silence = if std::io::stdin().is_terminal() { Some(Silence::begin()) } else { None };
    let silence = silence.transpose().map_err(|error| Failure::new("system", &error))?;
    let line = asked(question);
    drop(silence);
    // The line break was not shown either.
    output::talk("");
    line
}

/// All of standard input, without the line break at its end.
fn piped() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(MAX_PASSWORD).read_to_string(&mut text);
    read.map_err(|error| Failure::new("system", &error).about("failed to read the password"))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

fn logout(global: &Global, args: LogoutArgs) -> Result<Exit, Failure> {
    let registry = args.registry.unwrap_or_default();
    let known = Logins::from_environment().forget(registry.as_str()).map_err(|error| failure(&error))?;
    match global.format() {
        Format::Json => {
            output::json(&LoggedOut { registry: registry.to_string(), was_logged_in: known });
        }
        Format::Text if known => output::data(&format!("forgot the login for {registry}")),
        Format::Text => output::talk(&format!("there is no login for {registry}")),
    }
    Ok(Exit::Success)
}

fn list(global: &Global) -> Result<Exit, Failure> {
    let known = Logins::from_environment().list().map_err(|error| failure(&error))?;
    let listed = known.into_iter().map(|known| Listed {
        kept_in: place(&known.kept),
        registry: known.registry,
        user: known.user,
    });
    let listed: Vec<_> = listed.collect();
    match global.format() {
        Format::Json => output::json(&listed),
        Format::Text => {
            let row = |login: Listed| {
                let user = login.user.unwrap_or_else(|| "-".to_owned());
                [printable(&login.registry), printable(&user), printable(&login.kept_in)]
            };
            let rows: Vec<_> = listed.into_iter().map(row).collect();
            output::table(["REGISTRY", "USER", "KEPT IN"], &rows);
        }
    }
    Ok(Exit::Success)
}

fn failure(error: &LoginError) -> Failure {
    Failure::new("logins", error)
}
