//! How registries are reached: what the user has written down about them, and who the user is to them.
//!
//! ```text
//! ~/.config/microagent/             or $XDG_CONFIG_HOME/microagent/
//! ├── registries.yaml
//! │     require_digest: false       pull nothing that is not named by its digest
//! │     stall_timeout: 30           give a connection up after so many seconds of silence
//! │     registries:
//! │       docker.io:
//! │         mirrors: [mirror.lan/hub, "http://10.0.0.7:5000"]      asked first, in this order, by pulls only
//! │       registry.lan:5000:
//! │         insecure: true          TLS without a check of the certificate, else plain HTTP
//! └── certs.d/HOST[:PORT]/          as Docker has it in /etc/docker/certs.d
//!     ├── *.crt                     authorities that are trusted for this registry too
//!     └── client.cert, client.key   what proves to it who we are; any other name, too
//! ```
//!
//! Registries on the loopback interface are spoken to in plain HTTP, or in TLS without a check of the certificate, as
//! Docker does, unless they have a directory in `certs.d`. Proxies are those of the environment: `HTTPS_PROXY`,
//! `HTTP_PROXY`, `NO_PROXY`.

mod certificates;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::Logins;

pub(crate) use certificates::{Certificates, client, stranger};

/// How long nothing may come.
const STALL: Duration = Duration::from_secs(30);

/// What is known about registries.
#[derive(Debug, Clone)]
pub struct Registries {
    /// Who the user is to them.
    pub logins: Logins,
    /// Whether images are pulled by their digest only.
    pub require_digest: bool,
    /// How long a connection may be silent before it is given up.
    pub stall: Duration,
    hosts: BTreeMap<String, Host>,
    certificates: Option<PathBuf>,
}

/// What is written down about one registry.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Host {
    mirrors: Vec<Mirror>,
    insecure: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    require_digest: bool,
    stall_timeout: f64,
    registries: BTreeMap<String, Host>,
}

impl Default for Written {
    fn default() -> Self {
        Self { require_digest: false, stall_timeout: STALL.as_secs_f64(), registries: BTreeMap::new() }
    }
}

/// A registry that has copies of another's images: `host[:port][/prefix]`, maybe with `http://` or `https://` before.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Mirror {
    scheme: Option<Scheme>,
    host: String,
    prefix: String,
}

/// How bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// Where requests go, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// A host, and a port if it is not the usual one.
    pub(crate) host: String,
    /// The name under which logins and certificates are found.
    pub(crate) name: String,
    /// What stands before the repository's name there.
    pub(crate) prefix: String,
    /// What to try, the first first.
    pub(crate) schemes: Vec<Scheme>,
    /// Whether certificates are to be checked.
    pub(crate) checked: bool,
}

/// Why it is not known how to reach a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// A file could not be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `registries.yaml` makes no sense.
    #[error("`{}` is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_yaml_ng::Error,
    },
    /// A time in it is none.
    #[error("`stall_timeout` in `{}` is not a number of seconds above zero", path.display())]
    Stall {
        /// The file.
        path: PathBuf,
    },
    /// A certificate or a key cannot be used.
    #[error("cannot use `{}` as a certificate or key", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: reqwest::Error,
    },
    /// A certificate of our own has no key, or a key no certificate.
    #[error("cannot use `{}` without `{}`", path.display(), missing.display())]
    Half {
        /// What is there.
        path: PathBuf,
        /// What is not.
        missing: PathBuf,
    },
}

impl Registries {
    /// What the user's configuration says.
    pub fn from_environment() -> Result<Self, RegistriesError> {
        let logins = Logins::from_environment();
        match home::configuration_directory() {
            Some(directory) => Self::in_directory(&directory, logins),
            None => Ok(Self::plain(logins)),
        }
    }

    /// What the files in this directory say, if there are any.
    pub fn in_directory(directory: &Path, logins: Logins) -> Result<Self, RegistriesError> {
        let path = directory.join("registries.yaml");
        let written = match std::fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => Written::default(),
            Ok(text) => serde_yaml_ng::from_str(&text)
                .map_err(|source| RegistriesError::Damaged { path: path.clone(), source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Written::default(),
            Err(source) => return Err(RegistriesError::Read { path, source }),
        };
        let stall = Duration::try_from_secs_f64(written.stall_timeout).ok().filter(|stall| !stall.is_zero());
        Ok(Self {
            logins,
            require_digest: written.require_digest,
            stall: stall.ok_or(RegistriesError::Stall { path })?,
            hosts: written.registries,
            certificates: Some(directory.join("certs.d")),
        })
    }

    /// Nothing but these logins.
    pub fn plain(logins: Logins) -> Self {
        Self { logins, require_digest: false, stall: STALL, hosts: BTreeMap::new(), certificates: None }
    }

    /// The certificates for the registry of this name.
    pub(crate) fn certificates(&self, name: &str) -> Result<Certificates, RegistriesError> {
        match &self.certificates {
            // A token server's name may be anything that can stand in a URL.
            Some(directory) if !name.starts_with('.') && !name.contains("..") => {
                Certificates::read(&directory.join(name))
            }
            _ => Ok(Certificates::default()),
        }
    }

    /// Where the registry of this name is.
    pub(crate) fn endpoint(&self, name: &str) -> Endpoint {
        let host = if name == "docker.io" { "registry-1.docker.io" } else { name };
        let insecure = self.hosts.get(name).is_some_and(|host| host.insecure);
        let has_certificates =
            self.certificates.as_ref().is_some_and(|directory| directory.join(name).is_dir());
        let (schemes, checked) = if has_certificates {
            (vec![Scheme::Https], true)
        } else if is_loopback(host) {
            (vec![Scheme::Http, Scheme::Https], false)
        } else if insecure {
            (vec![Scheme::Https, Scheme::Http], false)
        } else {
            (vec![Scheme::Https], true)
        };
        Endpoint { host: host.to_owned(), name: name.to_owned(), prefix: String::new(), schemes, checked }
    }

    /// Where pulls from the registry of this name are to be tried before the registry itself.
    pub(crate) fn mirrors(&self, name: &str) -> Vec<Endpoint> {
        let mirrors = self.hosts.get(name).map(|host| host.mirrors.as_slice()).unwrap_or_default();
        let endpoint = |mirror: &Mirror| {
            let usual = self.endpoint(&mirror.host);
            let schemes = mirror.scheme.map_or(usual.schemes, |scheme| vec![scheme]);
            Endpoint { prefix: mirror.prefix.clone(), schemes, ..usual }
        };
        mirrors.iter().map(endpoint).collect()
    }
}

impl TryFrom<String> for Mirror {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some(_) => return Err(format!("mirror `{text}` is neither http:// nor https://")),
            None => (None, text.as_str()),
        };
        let (host, prefix) =
            rest.trim_end_matches('/').split_once('/').unwrap_or((rest.trim_end_matches('/'), ""));
        // What is a registry in a reference is one here.
        let probe: Result<crate::Reference, _> = format!("{host}/{prefix}{}x", slash(prefix)).parse();
        match probe {
            Ok(reference) if reference.registry() == host => {
                let prefix = format!("{prefix}{}", slash(prefix));
                Ok(Self { scheme, host: host.to_owned(), prefix })
            }
            _ => Err(format!("mirror `{text}` is not a host, maybe with a port and a path")),
        }
    }
}

fn slash(prefix: &str) -> &str {
    if prefix.is_empty() { "" } else { "/" }
}

impl Scheme {
    /// As URLs begin.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Whether a host, maybe with a port, is this one.
pub(crate) fn is_loopback(host_and_port: &str) -> bool {
    let host = match host_and_port.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host_and_port.split_once(':').map_or(host_and_port, |(host, _)| host),
    };
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<Registries, RegistriesError> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("registries.yaml"), text).unwrap();
        Registries::in_directory(directory.path(), Logins::none())
    }

    #[test]
    fn only_loopback_hosts_are_spoken_to_in_plain_http() {
        for local in ["localhost", "localhost:5000", "127.0.0.1", "127.9.9.9:80", "[::1]:5000", "[::1]"] {
            assert!(is_loopback(local), "{local}");
        }
        let plain = Registries::plain(Logins::none());
        for remote in
            ["localhost.example.com", "127.0.0.1.example.com", "10.0.0.1:5000", "[::2]:5000", "docker.io"]
        {
            assert!(!is_loopback(remote), "{remote}");
            let endpoint = plain.endpoint(remote);
            assert!(endpoint.schemes == [Scheme::Https] && endpoint.checked, "{remote}");
        }
    }

    #[test]
    fn what_is_written_down_counts() {
        let text = "require_digest: true
stall_timeout: 1.5
registries:
  docker.io:
    mirrors: [mirror.lan/hub, 'http://10.0.0.7:5000', 'https://c.lan/']
  registry.lan:5000: {insecure: true}";
        let known = written(text).unwrap();
        assert!(known.require_digest);
        assert_eq!(known.stall, Duration::from_millis(1500));
        let insecure = known.endpoint("registry.lan:5000");
        assert!(insecure.schemes == [Scheme::Https, Scheme::Http] && !insecure.checked);
        let [one, two, three] = known.mirrors("docker.io").try_into().unwrap();
        assert_eq!((one.host.as_str(), one.prefix.as_str()), ("mirror.lan", "hub/"));
        assert_eq!((two.host.as_str(), two.schemes), ("10.0.0.7:5000", vec![Scheme::Http]));
        assert_eq!(
            (three.host.as_str(), three.schemes, three.prefix.as_str()),
            ("c.lan", vec![Scheme::Https], "")
        );
        assert!(known.mirrors("other.io").is_empty());
        assert_eq!(known.endpoint("docker.io").host, "registry-1.docker.io");
        assert!(!written("").unwrap().require_digest);
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (text, said) in [
            ("registry: {}", "unknown field `registry`"),
            ("registries: {a.io: {mirrors: ['ftp://b.io']}}", "neither http:// nor https://"),
            ("registries: {a.io: {mirrors: ['not a host']}}", "is not a host"),
            ("stall_timeout: -1", "stall_timeout"),
        ] {
            let error = written(text).unwrap_err();
            let shown = format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
            assert!(shown.contains(said), "{shown}");
        }
    }

    #[test]
    fn a_directory_of_certificates_makes_a_local_registry_a_checked_one() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("certs.d/localhost:5000")).unwrap();
        let known = Registries::in_directory(directory.path(), Logins::none()).unwrap();
        let endpoint = known.endpoint("localhost:5000");
        assert!(endpoint.schemes == [Scheme::Https] && endpoint.checked);
        assert_eq!(known.endpoint("localhost:5001").schemes, [Scheme::Http, Scheme::Https]);
    }
}
