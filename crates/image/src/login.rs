//! Logging in to a registry: a login is kept only once the registry has taken it.

use std::fmt;
use std::str::FromStr;

use crate::logins::registry_of;
use crate::registries::Registries;
use crate::registry::{Access, RegistryError, Repository, blocking};
use crate::{Kept, Login, LoginError, Logins, Reference};

/// The name of a registry, as references have it: a host, and maybe a port. URLs that Docker takes are taken too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegistryName(String);

/// A text that names no registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid registry `{0}`: a registry is a host name or address, and maybe a port")]
pub struct InvalidRegistry(String);

/// Why somebody could not be logged in.
#[derive(Debug, thiserror::Error)]
pub enum LogInError {
    /// The registry does not take the login, or could not be asked.
    #[error("failed to log in to `{registry}`")]
    Registry {
        /// The registry.
        registry: RegistryName,
        /// What it did.
        source: RegistryError,
    },
    /// The login could not be kept.
    #[error("failed to keep the login for `{registry}`")]
    Keep {
        /// The registry.
        registry: RegistryName,
        /// What failed.
        source: LoginError,
    },
}

impl LogInError {
    /// What the user can do about it, if anything is known to help.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry { source: RegistryError::Unauthorized { .. }, .. } => Some(
                "check the user's name and the password; some registries want a token in its place"
                    .to_owned(),
            ),
            Self::Registry { source, .. } => source.hint(),
            Self::Keep { .. } => None,
        }
    }
}

/// Asks `registry` whether `user` may come in with `password`, and keeps the login if so.
pub async fn log_in(
    registries: &Registries,
    registry: &RegistryName,
    user: &str,
    password: &str,
) -> Result<Kept, LogInError> {
    let login = Login::Password { user: user.to_owned(), password: password.to_owned() };
    let mut trying = registries.clone();
    trying.logins = Logins::only(login);
    let refused = |source| LogInError::Registry { registry: registry.clone(), source };
    let endpoint = trying.endpoint(&registry.0);
    let repository = Repository::new(&trying, endpoint, "", Access::Pull).map_err(refused)?;
    repository.ping().await.map_err(refused)?;
    let logins = registries.logins.clone();
    let (name, user, password) = (registry.0.clone(), user.to_owned(), password.to_owned());
    let kept = blocking(move || logins.keep(&name, &user, &password)).await;
    kept.map_err(|source| LogInError::Keep { registry: registry.clone(), source })
}

impl RegistryName {
    /// As references have it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for RegistryName {
    /// Docker Hub.
    fn default() -> Self {
        Self("docker.io".to_owned())
    }
}

impl FromStr for RegistryName {
    type Err = InvalidRegistry;

    fn from_str(text: &str) -> Result<Self, InvalidRegistry> {
        let name = registry_of(text);
        let probe: Result<Reference, _> = format!("{name}/x").parse();
        match probe {
            Ok(reference) if reference.registry() == name => Ok(Self(name.to_owned())),
            _ => Err(InvalidRegistry(text.chars().take(200).collect())),
        }
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_a_host_or_what_docker_calls_it() {
        for (text, name) in [
            ("localhost:5000", "localhost:5000"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("docker.io", "docker.io"),
            ("https://quay.io", "quay.io"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(text.parse::<RegistryName>().unwrap().as_str(), name);
        }
        for bad in ["", "busybox", "quay.io/team", "a b.io", "quay.io:x", "http://"] {
            assert!(bad.parse::<RegistryName>().is_err(), "{bad}");
        }
    }
}
