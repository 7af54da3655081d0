//! Docker's credential helpers: programs that keep secrets.
//!
//! ```text
//! docker-credential-NAME get    < registry                            > {"ServerURL", "Username", "Secret"}
//! docker-credential-NAME store  < {"ServerURL", "Username", "Secret"}
//! docker-credential-NAME erase  < registry
//! docker-credential-NAME list                                         > {"registry": "user", …}
//! ```

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::Login;

/// Of an answer, in bytes; tokens have some thousands.
const MAX_ANSWER: u64 = 1 << 20;
/// What helpers agree to say when they have no such login.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The user by which helpers tell that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// Why a helper gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// Its name is none that a program has.
    #[error("its name is not that of a program")]
    Name,
    /// It could not be run.
    #[error("failed to run it")]
    Run(#[from] std::io::Error),
    /// It ended with an error.
    #[error("it says: {0}")]
    Failed(String),
    /// Its answer makes no sense.
    #[error("its answer is damaged")]
    Answer(#[source] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Credentials {
    #[serde(default, rename = "ServerURL")]
    server_url: String,
    username: String,
    secret: String,
}

/// The login that a helper has for a registry.
pub(super) fn get(name: &str, registry: &str) -> Result<Option<Login>, HelperError> {
    let answer = match ask(name, "get", registry.as_bytes()) {
        Err(HelperError::Failed(said)) if said == NOT_FOUND => return Ok(None),
        answer => answer?,
    };
    let Credentials { username, secret, .. } =
        serde_json::from_slice(&answer).map_err(HelperError::Answer)?;
    Ok(Some(match username.as_str() {
        TOKEN_USER => Login::IdentityToken(secret),
        _ => Login::Password { user: username, password: secret },
    }))
}

/// Gives a helper a login.
pub(super) fn store(name: &str, registry: &str, user: &str, password: &str) -> Result<(), HelperError> {
    let credentials =
        Credentials { server_url: registry.into(), username: user.into(), secret: password.into() };
    let credentials = serde_json::to_vec(&credentials).expect("credentials are plain data");
    ask(name, "store", &credentials).map(drop)
}

/// Has a helper forget a login.
pub(super) fn erase(name: &str, registry: &str) -> Result<(), HelperError> {
    ask(name, "erase", registry.as_bytes()).map(drop)
}

/// The registries that a helper has logins for, and the users.
pub(super) fn list(name: &str) -> Result<BTreeMap<String, String>, HelperError> {
    serde_json::from_slice(&ask(name, "list", b"")?).map_err(HelperError::Answer)
}

fn ask(name: &str, verb: &str, question: &[u8]) -> Result<Vec<u8>, HelperError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err(HelperError::Name);
    }
    // It may ask the user for something on the terminal, so it has all the time that it wants.
    let mut helper = Command::new(format!("docker-credential-{name}"))
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut input = helper.stdin.take().expect("it is a pipe");
    // A helper may answer without having read everything.
    let _ = input.write_all(question);
    drop(input);
    let mut answer = Vec::new();
    let output = helper.stdout.take().expect("it is a pipe");
    let read = output.take(MAX_ANSWER).read_to_end(&mut answer);
    let status = helper.wait()?;
    read?;
    if status.success() {
        return Ok(answer);
    }
    // By agreement, messages go to standard output.
    let said: String =
        String::from_utf8_lossy(&answer).chars().filter(|c| !c.is_control()).take(200).collect();
    let said = said.trim();
    Err(HelperError::Failed(if said.is_empty() { status.to_string() } else { said.to_owned() }))
}
