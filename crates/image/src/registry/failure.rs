//! What goes wrong between us and a registry.

use std::time::Duration;

use crate::{Digest, LoginError, RegistriesError, StoreError};

/// Why a registry did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// How to reach it is not known.
    #[error(transparent)]
    Configuration(#[from] RegistriesError),
    /// It wants a login, or another one.
    #[error("registry `{registry}` denied access")]
    Unauthorized {
        /// The registry.
        registry: String,
        /// Whether a login was tried.
        login: bool,
        /// Why no login could be tried, if one is configured.
        source: Option<LoginError>,
    },
    /// It cannot be talked to.
    #[error("failed to reach registry `{registry}`")]
    Unreachable {
        /// The registry.
        registry: String,
        /// What failed.
        source: reqwest::Error,
    },
    /// It stopped in the middle.
    #[error("registry `{registry}` was silent for {} s", after.as_secs_f64())]
    Stalled {
        /// The registry.
        registry: String,
        /// For how long.
        after: Duration,
    },
    /// It ended a blob too early, each time.
    #[error("registry `{registry}` sent {sent} of the {size} bytes of `{digest}`")]
    Truncated {
        /// The registry.
        registry: String,
        /// The blob.
        digest: Digest,
        /// How many bytes came.
        sent: u64,
        /// How many it has.
        size: u64,
    },
    /// It answered with an error.
    #[error("registry `{registry}` answered with status {status}{}", colon(message))]
    Answer {
        /// The registry.
        registry: String,
        /// The HTTP status.
        status: u16,
        /// What it said, if it said something.
        message: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It answered with something for browsers.
    #[error("`{registry}` answered with a web page")]
    WebPage {
        /// The registry.
        registry: String,
    },
    /// It leads around, or to where nothing can be.
    #[error("registry `{registry}` redirects to nowhere")]
    Redirects {
        /// The registry.
        registry: String,
    },
    /// Its name makes no address.
    #[error("cannot make an address of registry `{registry}`")]
    Address {
        /// The registry.
        registry: String,
    },
    /// It sent other bytes than were asked for. They were not kept.
    #[error("registry `{registry}` sent wrong content for `{expected}`")]
    WrongContent {
        /// The registry.
        registry: String,
        /// The digest of what was asked for.
        expected: Digest,
    },
    /// It sent, or announced, more than an honest one would.
    #[error("registry `{registry}` sent more than {limit} bytes for {what}")]
    TooLarge {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// How much was acceptable.
        limit: u64,
    },
    /// It has something else than what was sent to it.
    #[error("registry `{registry}` does not have `{digest}` as it was sent")]
    NotKept {
        /// The registry.
        registry: String,
        /// What was sent.
        digest: Digest,
    },
    /// A blob could not be written or read here.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RegistryError {
    /// What the user can do about it, if anything is known to help.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unauthorized { registry, login: true, .. } => {
                Some(format!("the login for `{registry}` may be wrong or lack access"))
            }
            Self::Unauthorized { registry, source: None, .. } => {
                Some(format!("log in first: microagent registry login {registry}"))
            }
            Self::Unauthorized { .. } => {
                Some("the configured login could not be read; log in again".to_owned())
            }
            Self::Unreachable { registry, source } if names_certificate(source) => Some(format!(
                "if its certificate is your own authority's, put that into certs.d/{registry}/ca.crt of ~/.config/microagent"
            )),
            Self::Unreachable { .. } => {
                Some("check the registry's name and the network; pulled images work offline".to_owned())
            }
            Self::Stalled { .. } | Self::Truncated { .. } => {
                Some("try again: what has come in full is not fetched again".to_owned())
            }
            Self::Answer { status: 429, .. } => {
                Some("the registry limits how often it is asked; wait, or log in".to_owned())
            }
            Self::WebPage { .. } => Some("check the registry's name: this is not one".to_owned()),
            Self::Store(source) => source.hint(),
            _ => None,
        }
    }
}

/// Whether it failed because of the other side's certificate.
fn names_certificate(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("certificate") {
            return true;
        }
        cause = error.source();
    }
    false
}

fn colon(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

/// The first message of an error in the specification's form; safe to show.
pub(super) fn message_of(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Answer {
        errors: Vec<Said>,
    }
    #[derive(serde::Deserialize)]
    struct Said {
        #[serde(default)]
        message: String,
    }
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    let said = answer.and_then(|answer| answer.errors.into_iter().next()).map(|said| said.message);
    said.unwrap_or_default().chars().filter(|character| !character.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_words_cannot_steer_a_terminal() {
        let body = br#"{"errors":[{"code":"X","message":"no \u001b[31mway"}]}"#;
        assert_eq!(message_of(body), "no [31mway");
        assert_eq!(message_of(b"<html>"), "");
    }
}
