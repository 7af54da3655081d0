//! Proving to a registry who asks.
//!
//! ```text
//! 401, WWW-Authenticate: Basic                           ─▶ user and password with every request
//! 401, WWW-Authenticate: Bearer realm, service, scope    ─▶ a token from the realm, by user and password,
//!                                                           by an identity token, or for nothing
//! ```
//!
//! Logins are looked up only when a registry asks. One that cannot be read does not stop the pull of a public image.
//! A realm that is another host is reached as the user's configuration says of that host, and never in plain HTTP for a
//! registry that is not.

use reqwest::header::WWW_AUTHENTICATE;
use reqwest::{RequestBuilder, Response, Url};
use serde::Deserialize;

use super::{Access, MAX_ANSWER, RegistryError, Repository, blocking};
use crate::registries;
use crate::{Login, LoginError};

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

    /// Whether it says who asks.
    pub(super) fn has_login(&self) -> bool {
        matches!(self, Self::Basic { .. } | Self::Bearer { login: true, .. })
    }
}

impl Repository<'_> {
    /// Answers the challenge in `refusal` as well as can be, and tells what kept it from using a login.
    pub(super) async fn log_in(
        &self,
        refusal: &Response,
    ) -> Result<(Option<Authorization>, Option<LoginError>), RegistryError> {
        let (login, problem) = match self.login().await {
            Ok(login) => (login, None),
            Err(error) => (None, Some(error)),
        };
        if let Some(error) = &problem {
            tracing::warn!(%error, registry = self.name(), "going on without a login");
        }
        let authorization = match (challenge(refusal), login) {
            (Some(Challenge::Basic), Some(Login::Password { user, password })) => {
                Some(Authorization::Basic { user, password })
            }
            (None | Some(Challenge::Basic), _) => None,
            (Some(Challenge::Bearer { realm, service, scope }), login) => {
                match self.token(realm, service, scope, login).await {
                    Err(RegistryError::Unauthorized { registry, login, .. }) => {
                        return Err(RegistryError::Unauthorized { registry, login, source: problem });
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
        scope: Option<String>,
        login: Option<Login>,
    ) -> Result<Authorization, RegistryError> {
        let client = self.realm_client(&realm)?;
        let mut fields: Vec<_> = self.scopes(scope).into_iter().map(|scope| ("scope", scope)).collect();
        fields.extend(service.map(|service| ("service", service)));
        let has_login = login.is_some();
        let request = match login {
            Some(Login::IdentityToken(token)) => {
                // The form has one scope, in which several stand apart by spaces.
                let scopes: Vec<_> =
                    fields.iter().filter(|field| field.0 == "scope").map(|field| field.1.as_str()).collect();
                let mut form = vec![("scope", scopes.join(" "))];
                form.extend(fields.into_iter().filter(|field| field.0 != "scope"));
                form.extend([("grant_type", "refresh_token".into()), ("client_id", "microagent".into())]);
                form.push(("refresh_token", token));
                client.post(realm).form(&form)
            }
            Some(Login::Password { user, password }) => {
                client.get(realm).query(&fields).basic_auth(user, Some(password))
            }
            None => client.get(realm).query(&fields),
        };
        let response = tokio::time::timeout(self.registries.stall, request.send()).await;
        let response = response.map_err(|_| self.stalled())?.map_err(|error| self.unreachable(error))?;
        let answer = self.read(self.checked(response, has_login, None).await?, "a token", MAX_ANSWER).await?;
        match token_of(&answer) {
            Some(token) => Ok(Authorization::Bearer { token, login: has_login }),
            None => Err(self.no_token("its token server sent no token")),
        }
    }

    /// What the token is to be good for: what the registry says is needed, and what else we are about to do.
    fn scopes(&self, said: Option<String>) -> Vec<String> {
        let own = |actions| format!("repository:{}:{actions}", self.path);
        if self.path.is_empty() {
            return said.into_iter().collect();
        }
        if self.access == Access::Pull {
            return vec![said.unwrap_or_else(|| own("pull"))];
        }
        let sources = self.sources.iter().map(|source| format!("repository:{source}:pull"));
        std::iter::once(own("pull,push")).chain(sources).collect()
    }

    /// What speaks to a token server, which is known by its own name.
    fn realm_client(&self, realm: &Url) -> Result<reqwest::Client, RegistryError> {
        if self.is_own(realm) {
            return Ok(self.client.clone());
        }
        if self.endpoint.checked && realm.scheme() != "https" {
            return Err(self.no_token("it wants the login to be sent in plain HTTP"));
        }
        let host = realm.host_str().unwrap_or_default();
        let name = realm.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let mut endpoint = self.registries.endpoint(&name);
        if !self.endpoint.checked && realm.scheme() == "http" {
            endpoint.schemes.push(registries::Scheme::Http);
        }
        let certificates = self.registries.certificates(&name)?;
        registries::client(&endpoint, certificates).map_err(|error| self.unreachable(error))
    }

    fn no_token(&self, message: &str) -> RegistryError {
        let registry = self.name().to_owned();
        RegistryError::Answer { registry, status: 401, message: message.to_owned(), retry_after: None }
    }

    async fn login(&self) -> Result<Option<Login>, LoginError> {
        let logins = self.registries.logins.clone();
        let (registry, path) = (self.name().to_owned(), self.path.clone());
        blocking(move || logins.find(&registry, &path)).await
    }
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

/// Takes `bytes` for what a registry says of itself: challenges, tokens, errors.
pub fn inspect(bytes: &[u8]) {
    parse_challenges(&String::from_utf8_lossy(bytes));
    token_of(bytes);
    super::failure::message_of(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Logins, Registries};

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
    fn a_login_is_not_sent_in_plain_http_for_a_registry_that_speaks_tls() {
        let registries = Registries::plain(Logins::none());
        let of = |name| Repository::new(&registries, registries.endpoint(name), "app", Access::Pull).unwrap();
        let checked = of("registry.example.com");
        for realm in
            ["http://auth.example.com/token", "http://127.0.0.1:5000/token", "http://registry.example.com/"]
        {
            let error = checked.realm_client(&realm.parse().unwrap()).unwrap_err();
            assert!(error.to_string().ends_with("it wants the login to be sent in plain HTTP"), "{error}");
        }
        assert!(checked.realm_client(&"https://auth.example.com/".parse().unwrap()).is_ok());
        assert!(of("127.0.0.1:5000").realm_client(&"http://127.0.0.1:5001/".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_push_asks_for_all_that_it_does_at_once() {
        let registries = Registries::plain(Logins::none());
        let endpoint = || registries.endpoint("a.io");
        let push = Repository::new(&registries, endpoint(), "app", Access::Push).unwrap();
        let push = push.reading(vec!["base".to_owned()]);
        assert_eq!(push.scopes(Some("x".into())), ["repository:app:pull,push", "repository:base:pull"]);
        let pull = Repository::new(&registries, endpoint(), "app", Access::Pull).unwrap();
        assert_eq!(pull.scopes(None), ["repository:app:pull"]);
        assert_eq!(pull.scopes(Some("said".into())), ["said"]);
        let login = Repository::new(&registries, endpoint(), "", Access::Pull).unwrap();
        assert!(login.scopes(None).is_empty());
    }

    #[test]
    fn a_token_has_either_name() {
        assert_eq!(token_of(br#"{"token":"a"}"#).as_deref(), Some("a"));
        assert_eq!(token_of(br#"{"access_token":"b"}"#).as_deref(), Some("b"));
        assert_eq!(token_of(br#"{"token":""}"#), None);
        assert_eq!(token_of(b"<html>"), None);
    }
}
