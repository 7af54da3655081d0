//! Who somebody is to registries: the logins in Docker's `config.json`, or in the file that `REGISTRY_AUTH_FILE` names.
//!
//! ```text
//! {"auths":       {"registry.example.com": {"auth": "<base64 of user:password>"}},      or "identitytoken"
//!  "credHelpers": {"gcr.io": "gcloud"},            the program docker-credential-gcloud has that registry's
//!  "credsStore":  "secretservice"}                 the program docker-credential-secretservice has all others
//! ```
//!
//! What other programs wrote into the file stays in it. A login goes to the helper that is configured for its
//! registry, and into the file only where there is none. Secrets are never logged, and never arguments of a process.

mod document;
mod helper;

use std::path::{Path, PathBuf};

use home::Exclusive;

use document::Document;
pub(crate) use document::registry_of;
pub use helper::HelperError;

/// Docker Hub goes by its first URL in logins.
const HUB: &str = "https://index.docker.io/v1/";

/// Where logins are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logins {
    file: Option<PathBuf>,
    only: Option<Login>,
}

/// What proves to a registry who somebody is.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// A user's name and password, or a token that stands for it.
    Password {
        /// The name.
        user: String,
        /// The secret.
        password: String,
    },
    /// A token that only buys others.
    IdentityToken(String),
}

/// Secrets are never logged.
impl std::fmt::Debug for Login {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Login")
    }
}

/// A login in a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownLogin {
    /// The registry, as references name it.
    pub registry: String,
    /// The user, where that is known without asking for the secret.
    pub user: Option<String>,
    /// Where it is.
    pub kept: Kept,
}

/// Where a login is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// In this file, legible to whoever may read it.
    File(PathBuf),
    /// By the credential helper of this name.
    Helper(String),
}

/// Why logins could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// There is no file for them.
    #[error("cannot tell where to keep logins: neither `DOCKER_CONFIG` nor `HOME` is set")]
    Unlocated,
    /// The file could not be read or written.
    #[error("failed to access `{}`", path.display())]
    Access {
        /// Docker's configuration.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file could not be locked.
    #[error(transparent)]
    Lock(#[from] home::LockError),
    /// The file is not what Docker writes.
    #[error("`{}` is damaged", path.display())]
    Damaged {
        /// Docker's configuration.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A login in the file cannot be read.
    #[error("the login for `{registry}` in `{}` is damaged", path.display())]
    Entry {
        /// Docker's configuration.
        path: PathBuf,
        /// Whose login.
        registry: String,
    },
    /// A credential helper failed.
    #[error("failed to ask credential helper `docker-credential-{name}`")]
    Helper {
        /// The helper.
        name: String,
        /// What failed.
        source: HelperError,
    },
}

impl Logins {
    /// Those in the file `REGISTRY_AUTH_FILE`, else in `config.json` of `DOCKER_CONFIG`, else of `~/.docker`.
    pub fn from_environment() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let docker = || set("DOCKER_CONFIG").or_else(|| set("HOME").map(|home| home.join(".docker")));
        let file =
            set("REGISTRY_AUTH_FILE").or_else(|| docker().map(|directory| directory.join("config.json")));
        Self { file, only: None }
    }

    /// Those in this file.
    pub fn in_file(file: PathBuf) -> Self {
        Self { file: Some(file), only: None }
    }

    /// This one, for every registry, wherever others are kept.
    pub(crate) fn only(login: Login) -> Self {
        Self { file: None, only: Some(login) }
    }

    /// None at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// The login for a repository of a registry, which may run a credential helper.
    pub fn find(&self, registry: &str, repository: &str) -> Result<Option<Login>, LoginError> {
        if let Some(login) = &self.only {
            return Ok(Some(login.clone()));
        }
        let Some(path) = &self.file else { return Ok(None) };
        let Some(document) = Document::read(path)? else { return Ok(None) };
        if let Some(name) = document.helper(registry) {
            let failed = |source| LoginError::Helper { name: name.clone(), source };
            for key in keys(registry) {
                if let Some(login) = helper::get(&name, key).map_err(failed)? {
                    return Ok(Some(login));
                }
            }
        }
        document.login(registry, repository)
    }

    /// Keeps a login for a registry, in place of the one before.
    pub fn keep(&self, registry: &str, user: &str, password: &str) -> Result<Kept, LoginError> {
        let path = self.file.clone().ok_or(LoginError::Unlocated)?;
        changing(&path, |document| {
            if let Some(name) = document.helper(registry) {
                let kept = helper::store(&name, keys(registry)[0], user, password);
                kept.map_err(|source| LoginError::Helper { name: name.clone(), source })?;
                // By an entry without a secret, Docker knows whom to ask the helper about.
                document.keep(registry, None);
                return Ok(Kept::Helper(name));
            }
            document.keep(registry, Some((user, password)));
            Ok(Kept::File(path.clone()))
        })
    }

    /// Forgets the login for a registry, and tells whether there was one.
    pub fn forget(&self, registry: &str) -> Result<bool, LoginError> {
        let path = self.file.clone().ok_or(LoginError::Unlocated)?;
        if Document::read(&path)?.is_none() {
            return Ok(false);
        }
        changing(&path, |document| {
            let mut known = document.forget(registry);
            if let Some(name) = document.helper(registry) {
                let failed = |source| LoginError::Helper { name: name.clone(), source };
                for key in keys(registry) {
                    if helper::get(&name, key).map_err(failed)?.is_some() {
                        helper::erase(&name, key).map_err(failed)?;
                        known = true;
                    }
                }
            }
            Ok(known)
        })
    }

    /// All logins that are known, by registry; those of helpers that cannot be asked are left out with a warning.
    pub fn list(&self) -> Result<Vec<KnownLogin>, LoginError> {
        let Some(path) = &self.file else { return Ok(Vec::new()) };
        let Some(document) = Document::read(path)? else { return Ok(Vec::new()) };
        let mut known = document.list();
        for name in document.helpers() {
            match helper::list(&name) {
                Ok(listed) => known.extend(listed.into_iter().map(|(key, user)| KnownLogin {
                    registry: registry_of(&key).to_owned(),
                    user: Some(user).filter(|user| !user.is_empty()),
                    kept: Kept::Helper(name.clone()),
                })),
                Err(error) => tracing::warn!(%error, helper = name, "left out the logins of a helper"),
            }
        }
        known.sort();
        known.dedup_by(|one, other| one.registry == other.registry && one.kept == other.kept);
        Ok(known)
    }
}

/// What a registry's login may be called, the usual name first; what wrote it may have shortened it.
fn keys(registry: &str) -> Vec<&str> {
    if registry == "docker.io" { vec![HUB, registry] } else { vec![registry] }
}

/// Changes the file, if `change` succeeds; it is the user's alone.
fn changing<T>(
    path: &Path,
    change: impl FnOnce(&mut Document) -> Result<T, LoginError>,
) -> Result<T, LoginError> {
    let failed = |source| LoginError::Access { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    }
    // The file may be a link to where somebody keeps all such files.
    let real = if path.exists() { path.canonicalize().map_err(failed)? } else { path.to_owned() };
    let lock = Exclusive::wait(&real.with_extension("microagent-lock"))?;
    let mut document = Document::read(path)?.unwrap_or_else(|| Document::empty(path));
    let outcome = change(&mut document)?;
    home::replace_file(&real, &document.to_bytes()).map_err(failed)?;
    lock.delete().map_err(failed)?;
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// User and password.
    fn found(logins: &Logins, registry: &str) -> Option<(String, String)> {
        match logins.find(registry, "a/b").unwrap()? {
            Login::Password { user, password } => Some((user, password)),
            Login::IdentityToken(_) => None,
        }
    }

    fn password(user: &str, password: &str) -> (String, String) {
        (user.to_owned(), password.to_owned())
    }

    #[test]
    fn a_login_is_kept_found_listed_and_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/config.json");
        let logins = Logins::in_file(path.clone());
        assert!(found(&logins, "docker.io").is_none());
        assert!(!logins.forget("docker.io").unwrap());
        for registry in ["docker.io", "localhost:5000"] {
            assert_eq!(logins.keep(registry, "me", "old").unwrap(), Kept::File(path.clone()));
            logins.keep(registry, "me", "a:secret").unwrap();
            assert_eq!(found(&logins, registry), Some(password("me", "a:secret")), "{registry}");
        }
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#""https://index.docker.io/v1/": {"#), "{text}");
        let registries: Vec<_> =
            logins.list().unwrap().into_iter().map(|known| (known.registry, known.user)).collect();
        let me = Some("me".to_owned());
        assert_eq!(registries, [("docker.io".to_owned(), me.clone()), ("localhost:5000".to_owned(), me)]);
        assert!(logins.forget("docker.io").unwrap());
        assert!(found(&logins, "docker.io").is_none() && found(&logins, "localhost:5000").is_some());
        assert_eq!(std::fs::read_dir(directory.path().join("new")).unwrap().count(), 1);
    }

    #[test]
    fn what_others_wrote_stays_and_a_link_stays_one() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("config.json"));
        std::fs::write(&real, r#"{"proxies":{"default":{}},"auths":{"b":{"auth":"bWU6c2VjcmV0"}}}"#).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let logins = Logins::in_file(link.clone());
        logins.keep("a", "you", "x").unwrap();
        assert!(link.is_symlink());
        let text = std::fs::read_to_string(&real).unwrap();
        assert!(text.contains("proxies") && text.contains("bWU6c2VjcmV0"), "{text}");
        assert_eq!(found(&logins, "b"), Some(password("me", "secret")));
    }

    #[test]
    fn no_file_is_no_login_and_a_damaged_one_an_error() {
        assert!(found(&Logins::none(), "a.io").is_none());
        assert!(matches!(Logins::none().keep("a.io", "me", "x"), Err(LoginError::Unlocated)));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, "{").unwrap();
        let logins = Logins::in_file(path);
        assert!(matches!(logins.find("a.io", "a"), Err(LoginError::Damaged { .. })));
        assert!(matches!(logins.keep("a.io", "me", "x"), Err(LoginError::Damaged { .. })));
    }

    #[test]
    fn a_credential_helper_that_is_not_there_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        for config in
            [r#"{"credsStore":"that-is-not-installed"}"#, r#"{"credHelpers":{"a.io":"../../bin/sh"}}"#]
        {
            std::fs::write(&path, config).unwrap();
            let logins = Logins::in_file(path.clone());
            assert!(matches!(logins.find("a.io", "a"), Err(LoginError::Helper { .. })), "{config}");
        }
    }
}
