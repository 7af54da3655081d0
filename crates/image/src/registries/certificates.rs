//! Certificates of one registry's directory in `certs.d`, and the HTTP clients that use them.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, Identity, redirect};

use super::{Endpoint, RegistriesError, Scheme, is_loopback};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Of a file, in bytes; bundles of all authorities there are have some 200,000.
const MAX_FILE: u64 = 4 << 20;

/// Whom to trust beside the host's authorities, and what proves who we are.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    authorities: Vec<Certificate>,
    identity: Option<Identity>,
}

impl Certificates {
    /// Reads a directory; there need not be one.
    pub(super) fn read(directory: &Path) -> Result<Self, RegistriesError> {
        let mut found = Self::default();
        for path in files(directory)? {
            let failed = |source| RegistriesError::Certificate { path: path.clone(), source };
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => {
                    let bundle = Certificate::from_pem_bundle(&content(&path)?).map_err(failed)?;
                    found.authorities.extend(bundle);
                }
                Some("cert") => {
                    let key = path.with_extension("key");
                    if !key.exists() {
                        return Err(RegistriesError::Half { missing: key, path });
                    }
                    let pem = [content(&path)?, b"\n".to_vec(), content(&key)?].concat();
                    found.identity = Some(Identity::from_pem(&pem).map_err(failed)?);
                }
                Some("key") if !path.with_extension("cert").exists() => {
                    return Err(RegistriesError::Half { missing: path.with_extension("cert"), path });
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, RegistriesError> {
    let failed = |source| RegistriesError::Read { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect::<Result<_, _>>()?;
    paths.sort();
    Ok(paths)
}

fn content(path: &Path) -> Result<Vec<u8>, RegistriesError> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|source| RegistriesError::Read { path: path.to_owned(), source })
}

/// What speaks to the endpoint itself.
pub(crate) fn client(endpoint: &Endpoint, certificates: Certificates) -> Result<Client, reqwest::Error> {
    let mut builder = plain();
    if is_loopback(&endpoint.host) {
        builder = builder.no_proxy();
    }
    if !endpoint.checked {
        builder = builder.tls_danger_accept_invalid_certs(true);
    } else if !certificates.authorities.is_empty() {
        builder = builder.tls_certs_merge(certificates.authorities);
    }
    if let Some(identity) = certificates.identity {
        builder = builder.identity(identity);
    }
    builder.https_only(endpoint.schemes == [Scheme::Https]).build()
}

/// What speaks to a host that the endpoint refers to: it knows nothing of our certificates.
pub(crate) fn stranger(endpoint: &Endpoint) -> Result<Client, reqwest::Error> {
    let builder = plain();
    // What is local may refer to what is local, which no proxy knows.
    let builder = if is_loopback(&endpoint.host) { builder.no_proxy() } else { builder };
    builder.https_only(endpoint.schemes == [Scheme::Https]).build()
}

/// Redirects are followed by who knows what must not follow them.
fn plain() -> ClientBuilder {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An application that has chosen a provider already keeps it.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    Client::builder()
        .user_agent(concat!("microagent/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(redirect::Policy::none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_without_a_key_and_a_file_that_is_none_are_told() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Certificates::read(&directory.path().join("none")).is_ok());
        std::fs::write(directory.path().join("readme"), "not looked at").unwrap();
        std::fs::write(directory.path().join("client.key"), "x").unwrap();
        assert!(matches!(Certificates::read(directory.path()), Err(RegistriesError::Half { .. })));
        std::fs::write(directory.path().join("client.cert"), "x").unwrap();
        let error = Certificates::read(directory.path()).unwrap_err();
        assert!(
            matches!(&error, RegistriesError::Certificate { path, .. } if path.ends_with("client.cert")),
            "{error}"
        );
    }
}
