//! Proving to a registry who pulls.
//!
//! ```text
//! 401, WWW-Authenticate: Basic                           ─▶ user and password with every request
//! 401, WWW-Authenticate: Bearer realm, service, scope    ─▶ a token from the realm, by user and password,
//!                                                           by an identity token, or for nothing
//! ```
//!
//! Logins are Docker's: `auths`, `credHelpers` and `credsStore` of its `config.json`. They are looked up only when a
//! registry asks. A login that cannot be read does not stop the pull of a public image.

use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use reqwest::header::WWW_AUTHENTICATE;
use reqwest::{RequestBuilder, Response, Url};
use serde::Deserialize;

use super::registry::{Registry, unreachable};
use super::{PullError, blocking};

/// Why a configured login could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The file could not be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// Docker's configuration.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is damaged, or a credential helper failed.
    #[error("failed to get a login by `{}`", path.display())]
    Lookup {
        /// Docker's configuration.
        path: PathBuf,
        /// What failed.
        source: CredentialRetrievalError,
    },
}

/// What a request carries. Not `Debug`: secrets are never logged.
pub(super) enum Authorization {
    Basic { user: String, password: String },
    Bearer { token: String, login: bool },
}

enum Challenge {
    Basic,
    Bearer { realm: Url, service: Option<String>, scope: Option<String> },
}

impl Authorization {
    /// Adds itself to a request.
    pub(super) fn apply(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Basic { user, password } => request.basic_auth(user, Some(password)),
            Self::Bearer { token, .. } => request.bearer_auth(token),
        }
    }

    /// Whether it says who pulls.
    pub(super) fn has_login(&self) -> bool {
        matches!(self, Self::Basic { .. } | Self::Bearer { login: true, .. })
    }
}

impl Registry<'_> {
    /// Answers the challenge in `refusal` as well as can be, and tells what kept it from using a login.
    pub(super) async fn log_in(
        &self,
        refusal: &Response,
    ) -> Result<(Option<Authorization>, Option<LoginError>), PullError> {
        let (login, problem) = match self.login().await {
            Ok(login) => (login, None),
            Err(error) => (None, Some(error)),
        };
        if let Some(error) = &problem {
            tracing::warn!(%error, registry = self.reference.registry(), "pulling without a login");
        }
        let authorization = match (challenge(refusal), login) {
            (Some(Challenge::Basic), Some(DockerCredential::UsernamePassword(user, password))) => {
                Some(Authorization::Basic { user, password })
            }
            (None | Some(Challenge::Basic), _) => None,
            (Some(Challenge::Bearer { realm, service, scope }), login) => {
                let scope =
                    scope.unwrap_or_else(|| format!("repository:{}:pull", self.reference.repository()));
                match self.token(realm, service, scope, login).await {
                    Err(PullError::Unauthorized { reference, login, .. }) => {
                        return Err(PullError::Unauthorized { reference, login, source: problem });
                    }
                    outcome => Some(outcome?),
                }
            }
        };
        Ok((authorization, problem))
    }

    async fn token(
        &self,
        realm: Url,
        service: Option<String>,
        scope: String,
        login: Option<DockerCredential>,
    ) -> Result<Authorization, PullError> {
        let mut fields = vec![("scope", scope)];
        fields.extend(service.map(|service| ("service", service)));
        let has_login = login.is_some();
        let request = match login {
            Some(DockerCredential::IdentityToken(token)) => {
                fields.extend([("grant_type", "refresh_token".into()), ("client_id", "microagent".into())]);
                fields.push(("refresh_token", token));
                self.client.post(realm).form(&fields)
            }
            Some(DockerCredential::UsernamePassword(user, password)) => {
                self.client.get(realm).query(&fields).basic_auth(user, Some(password))
            }
            None => self.client.get(realm).query(&fields),
        };
        let response = request.send().await.map_err(unreachable(self.reference))?;
        let answer = self.answer(self.checked(response, has_login, None).await?).await?;
        match token_of(&answer) {
            Some(token) => Ok(Authorization::Bearer { token, login: has_login }),
            None => Err(PullError::Answer {
                registry: self.reference.registry().to_owned(),
                status: 200,
                message: "its token server sent no token".to_owned(),
            }),
        }
    }

    async fn login(&self) -> Result<Option<DockerCredential>, LoginError> {
        let Some(directory) = self.docker_config.clone() else { return Ok(None) };
        let registry = self.reference.registry().to_owned();
        blocking(move || find_login(&directory, &registry)).await
    }
}

/// The login for `registry` in Docker's configuration, which may run a credential helper.
fn find_login(directory: &Path, registry: &str) -> Result<Option<DockerCredential>, LoginError> {
    let path = directory.join("config.json");
    let content = match std::fs::read(&path) {
        Ok(content) => content,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LoginError::Read { path, source }),
    };
    // Docker Hub goes by its first URL in logins; what wrote the file may have shortened it.
    let keys =
        if registry == "docker.io" { vec!["https://index.docker.io/v1/", registry] } else { vec![registry] };
    for key in keys {
        match docker_credential::get_credential_from_reader(content.as_slice(), key) {
            Ok(login) => return Ok(Some(login)),
            Err(CredentialRetrievalError::NoCredentialConfigured) => {}
            Err(CredentialRetrievalError::HelperFailure { stdout, .. })
                if stdout.trim() == "credentials not found in native keychain" => {}
            Err(source) => return Err(LoginError::Lookup { path, source }),
        }
    }
    Ok(None)
}

/// The first challenge that can be answered; a token is preferred, as registries that offer both do.
fn challenge(refusal: &Response) -> Option<Challenge> {
    let headers = refusal.headers().get_all(WWW_AUTHENTICATE).iter();
    let all: Vec<Challenge> =
        headers.filter_map(|header| header.to_str().ok()).flat_map(parse_challenges).collect();
    let bearer = all.iter().position(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    all.into_iter().nth(bearer.unwrap_or(0))
}

fn parse_challenges(header: &str) -> Vec<Challenge> {
    let parsed = http_auth::parse_challenges(header).unwrap_or_default();
    let read = |challenge: http_auth::ChallengeRef<'_>| {
        if challenge.scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        let parameter = |name: &str| {
            let mut parameters = challenge.params.iter();
            parameters.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_unescaped())
        };
        let realm = parameter("realm").and_then(|realm| realm.parse().ok())?;
        let bearer = challenge.scheme.eq_ignore_ascii_case("bearer");
        bearer.then(|| Challenge::Bearer { realm, service: parameter("service"), scope: parameter("scope") })
    };
    parsed.into_iter().filter_map(read).collect()
}

/// Token servers call it by one name or by the other.
fn token_of(answer: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    answer.token.or(answer.access_token).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(content: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.json"), content).unwrap();
        directory
    }

    #[test]
    fn challenges_of_both_kinds_are_understood() {
        let header = r#"Bearer realm="https://auth.example.com/token",service="registry.example.com",scope="repository:a/b:pull""#;
        let challenges = parse_challenges(header);
        let [Challenge::Bearer { realm, service, scope }] = challenges.as_slice() else { panic!("{header}") };
        assert_eq!(realm.as_str(), "https://auth.example.com/token");
        assert_eq!(service.as_deref(), Some("registry.example.com"));
        assert_eq!(scope.as_deref(), Some("repository:a/b:pull"));
        assert!(matches!(parse_challenges(r#"Basic realm="x""#).as_slice(), [Challenge::Basic]));
        assert!(parse_challenges("Negotiate").is_empty());
        assert!(parse_challenges("Bearer realm=\"nonsense").is_empty());
    }

    #[test]
    fn logins_of_docker_hub_are_found_under_each_of_its_names() {
        for key in ["https://index.docker.io/v1/", "docker.io", "index.docker.io"] {
            // "me:secret"
            let directory = config(&format!(r#"{{"auths":{{"{key}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#));
            let login = find_login(directory.path(), "docker.io").unwrap();
            assert_eq!(
                login,
                Some(DockerCredential::UsernamePassword("me".into(), "secret".into())),
                "{key}"
            );
            assert_eq!(find_login(directory.path(), "other.io").unwrap(), None);
        }
    }

    #[test]
    fn no_configuration_is_no_login_and_a_damaged_one_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(find_login(directory.path(), "a.io").unwrap(), None);
        assert!(matches!(find_login(config("{").path(), "a.io"), Err(LoginError::Lookup { .. })));
    }

    #[test]
    fn a_credential_helper_that_fails_is_an_error() {
        let directory = config(r#"{"credsStore":"that-is-not-installed"}"#);
        assert!(matches!(find_login(directory.path(), "a.io"), Err(LoginError::Lookup { .. })));
    }

    #[test]
    fn a_token_has_either_name() {
        assert_eq!(token_of(br#"{"token":"a"}"#).as_deref(), Some("a"));
        assert_eq!(token_of(br#"{"access_token":"b"}"#).as_deref(), Some("b"));
        assert_eq!(token_of(br#"{"token":""}"#), None);
        assert_eq!(token_of(b"<html>"), None);
    }
}
