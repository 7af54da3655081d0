//! Docker's `config.json`, as far as logins are concerned; everything else is passed on as it is.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Kept, KnownLogin, Login, LoginError, keys};

/// The file's content.
pub(super) struct Document {
    path: PathBuf,
    members: Map<String, Value>,
}

impl Document {
    /// Reads the file; `None` if there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, LoginError> {
        let content = match std::fs::read(path) {
            Ok(content) => content,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LoginError::Access { path: path.to_owned(), source }),
        };
        // `touch` and some tools make an empty one.
        if content.trim_ascii().is_empty() {
            return Ok(Some(Self::empty(path)));
        }
        let damaged = |source| LoginError::Damaged { path: path.to_owned(), source };
        let members = serde_json::from_slice(&content).map_err(damaged)?;
        Ok(Some(Self { path: path.to_owned(), members }))
    }

    /// One that says nothing.
    pub(super) fn empty(path: &Path) -> Self {
        Self { path: path.to_owned(), members: Map::new() }
    }

    /// The credential helper that has the login of a registry.
    pub(super) fn helper(&self, registry: &str) -> Option<String> {
        let helpers = self.members.get("credHelpers").and_then(Value::as_object);
        let own = helpers.and_then(|helpers| keys(registry).into_iter().find_map(|key| helpers.get(key)));
        let any = self.members.get("credsStore");
        own.or(any).and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned)
    }

    /// All credential helpers that are named.
    pub(super) fn helpers(&self) -> Vec<String> {
        let own = self.members.get("credHelpers").and_then(Value::as_object);
        let named = own.into_iter().flat_map(Map::values).chain(self.members.get("credsStore"));
        let mut all: Vec<String> = named.filter_map(Value::as_str).map(str::to_owned).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The login in the file for a repository: that of the repository, of what is above it, or of the registry.
    pub(super) fn login(&self, registry: &str, repository: &str) -> Result<Option<Login>, LoginError> {
        let full = format!("{registry}/{repository}");
        let mut places: Vec<&str> = full.match_indices('/').map(|(at, _)| &full[..at]).collect();
        places.push(&full);
        for place in places.into_iter().rev() {
            for (_, entry) in self.entries().filter(|(key, _)| registry_of(key) == place) {
                if let Some(login) = self.read_entry(registry, entry)? {
                    return Ok(Some(login));
                }
            }
        }
        Ok(None)
    }

    fn entries(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.members.get("auths").and_then(Value::as_object).into_iter().flatten()
    }

    fn read_entry(&self, registry: &str, entry: &Value) -> Result<Option<Login>, LoginError> {
        let text = |name| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(token) = text("identitytoken") {
            return Ok(Some(Login::IdentityToken(token.to_owned())));
        }
        if let Some(auth) = text("auth") {
            let damaged = || LoginError::Entry { path: self.path.clone(), registry: registry.to_owned() };
            let (user, password) = decoded(auth).ok_or_else(damaged)?;
            return Ok(Some(Login::Password { user, password }));
        }
        Ok(text("username")
            .zip(text("password"))
            .map(|(user, password)| Login::Password { user: user.to_owned(), password: password.to_owned() }))
    }

    /// Keeps a login, or that there is one elsewhere.
    pub(super) fn keep(&mut self, registry: &str, login: Option<(&str, &str)>) {
        self.forget(registry);
        let entry = match login {
            Some((user, password)) => json!({ "auth": STANDARD.encode(format!("{user}:{password}")) }),
            None => json!({}),
        };
        let auths = self.members.entry("auths").or_insert(Value::Null);
        if !auths.is_object() {
            *auths = json!({});
        }
        auths.as_object_mut().expect("it was made one").insert(keys(registry)[0].to_owned(), entry);
    }

    /// Forgets the login of a registry, and tells whether there was one.
    pub(super) fn forget(&mut self, registry: &str) -> bool {
        let Some(Value::Object(auths)) = self.members.get_mut("auths") else { return false };
        let before = auths.len();
        auths.retain(|key, _| registry_of(key) != registry);
        auths.len() < before
    }

    /// The logins in the file.
    pub(super) fn list(&self) -> Vec<KnownLogin> {
        let known = |(key, entry): (&String, &Value)| {
            let registry = registry_of(key);
            let user = match self.read_entry(registry, entry) {
                Ok(Some(Login::Password { user, .. })) => Some(user),
                Ok(Some(Login::IdentityToken(_))) | Err(_) => None,
                Ok(None) => return None,
            };
            Some(KnownLogin { registry: registry.to_owned(), user, kept: Kept::File(self.path.clone()) })
        };
        self.entries().filter_map(known).collect()
    }

    /// As Docker writes it, with tabs.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        self.members.serialize(&mut serializer).expect("a document is plain data");
        bytes.push(b'\n');
        bytes
    }
}

/// The registry, or the place in it, that a key of `auths` is for: keys may be URLs.
pub(crate) fn registry_of(key: &str) -> &str {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let bare = bare.trim_end_matches('/');
    let place = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    match place {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io",
        place => place,
    }
}

fn decoded(auth: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(auth).ok()?).ok()?;
    // Some writers end it with a zero byte.
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document { path: "config.json".into(), members: serde_json::from_str(text).unwrap() }
    }

    fn user(text: &str, registry: &str, repository: &str) -> Option<String> {
        match document(text).login(registry, repository).unwrap()? {
            Login::Password { user, .. } => Some(user),
            Login::IdentityToken(token) => Some(token),
        }
    }

    #[test]
    fn logins_of_docker_hub_are_found_under_each_of_its_names() {
        for key in ["https://index.docker.io/v1/", "docker.io", "index.docker.io"] {
            // "me:secret"
            let text = format!(r#"{{"auths":{{"{key}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#);
            assert_eq!(user(&text, "docker.io", "library/a").as_deref(), Some("me"), "{key}");
            assert_eq!(user(&text, "other.io", "a"), None);
        }
    }

    #[test]
    fn the_nearest_login_counts() {
        let text = r#"{"auths":{"a.io":{"username":"all","password":"x"},"a.io/team":{"username":"team","password":"x"},
            "https://b.io/":{"identitytoken":"token"},"c.io":{}}}"#;
        assert_eq!(user(text, "a.io", "team/app").as_deref(), Some("team"));
        assert_eq!(user(text, "a.io", "teams/app").as_deref(), Some("all"));
        assert_eq!(user(text, "b.io", "x").as_deref(), Some("token"));
        assert_eq!(user(text, "c.io", "x"), None);
    }

    #[test]
    fn a_login_that_cannot_be_read_is_an_error_and_is_no_other_registrys() {
        let text = r#"{"auths":{"a.io":{"auth":"?"},"b.io":{"auth":"bWU6c2VjcmV0"}}}"#;
        assert!(matches!(document(text).login("a.io", "x"), Err(LoginError::Entry { .. })));
        assert_eq!(user(text, "b.io", "x").as_deref(), Some("me"));
    }

    #[test]
    fn a_helper_of_the_registry_goes_before_the_store_for_all() {
        let all = document(r#"{"credsStore":"all","credHelpers":{"a.io":"own"}}"#);
        assert_eq!(all.helper("a.io").as_deref(), Some("own"));
        assert_eq!(all.helper("b.io").as_deref(), Some("all"));
        assert_eq!(all.helpers(), ["all", "own"]);
        assert_eq!(document("{}").helper("a.io"), None);
    }
}
