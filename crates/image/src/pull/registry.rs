//! One repository of a registry, over HTTP: the pulling half of the OCI distribution specification.
//!
//! ```text
//! GET /v2/<repository>/manifests/<tag or digest>       bounded, verified against the digest if there is one
//! GET /v2/<repository>/blobs/<digest>                  bounded by the descriptor; goes on after a broken connection
//! 401 ─▶ login ─▶ the same request once more
//! ```
//!
//! Every body has a limit, errors and tokens too, which is why no ready-made client is used: those at hand read
//! manifests, tokens and errors whole, however long they are. Registries on the loopback interface are spoken to
//! in plain HTTP, as Docker does; with all others, redirects and token servers included, nothing goes over it.

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, RANGE};
use reqwest::{Client, RequestBuilder, Response, StatusCode};

use super::login::{Authorization, LoginError};
use super::{PullError, PullOptions};
use crate::manifest::{DOCKER_LIST, DOCKER_MANIFEST, Descriptor, MAX_DOCUMENT, OCI_INDEX, OCI_MANIFEST};
use crate::store::BlobWriter;
use crate::{Digest, Reference, StoreError};

/// How often a blob whose connection breaks is taken up again.
const RETRIES: u32 = 3;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Of an error's or a token's body.
const MAX_ANSWER: u64 = 1 << 20;

/// The repository of a reference.
pub(super) struct Registry<'a> {
    pub(super) reference: &'a Reference,
    pub(super) client: Client,
    pub(super) docker_config: Option<PathBuf>,
    base: String,
    authorization: Mutex<Option<Authorization>>,
}

impl<'a> Registry<'a> {
    /// Prepares to talk to the registry; nothing is sent yet.
    pub(super) fn new(reference: &'a Reference, options: &PullOptions) -> Result<Self, PullError> {
        let host =
            if reference.registry() == "docker.io" { "registry-1.docker.io" } else { reference.registry() };
        let local = is_loopback(host);
        let client = client(local).map_err(unreachable(reference))?;
        let scheme = if local { "http" } else { "https" };
        Ok(Self {
            reference,
            client,
            docker_config: options.docker_config.clone(),
            base: format!("{scheme}://{host}/v2/{}", reference.repository()),
            authorization: Mutex::new(None),
        })
    }

    /// The manifest or index that a tag points to.
    pub(super) async fn manifest_by_tag(&self, tag: &str) -> Result<Vec<u8>, PullError> {
        self.manifest(tag, MAX_DOCUMENT).await
    }

    /// The manifest or index of a digest, of at most `limit` bytes.
    pub(super) async fn manifest_by_digest(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, PullError> {
        let bytes = self.manifest(&digest.to_string(), limit.min(MAX_DOCUMENT)).await?;
        if Digest::of(&bytes) == *digest { Ok(bytes) } else { Err(self.wrong_content(digest)) }
    }

    async fn manifest(&self, name: &str, limit: u64) -> Result<Vec<u8>, PullError> {
        let kinds = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].join(", ");
        let request = || self.client.get(format!("{}/manifests/{name}", self.base)).header(ACCEPT, &kinds);
        match self.send(request).await {
            Err(PullError::Answer { status: 404, .. }) => {
                Err(PullError::NotFound { reference: Box::new(self.reference.clone()) })
            }
            Err(error) => Err(error),
            Ok(response) => self.body(response, "a manifest", limit).await,
        }
    }

    /// Writes a blob; what is written is of the right size at most, and not yet verified.
    pub(super) async fn blob(
        &self,
        blob: &Descriptor,
        writer: &mut BlobWriter,
        so_far: &(dyn Fn(u64) + Sync),
    ) -> Result<(), PullError> {
        let mut tried = 0;
        loop {
            match self.rest_of_blob(blob, writer, so_far).await {
                Err(PullError::Unreachable { source, .. }) if tried < RETRIES => {
                    tried += 1;
                    tracing::debug!(digest = %blob.digest, at = writer.size(), error = %source, "retrying");
                    tokio::time::sleep(Duration::from_millis(250) * 2_u32.pow(tried)).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn rest_of_blob(
        &self,
        blob: &Descriptor,
        writer: &mut BlobWriter,
        so_far: &(dyn Fn(u64) + Sync),
    ) -> Result<(), PullError> {
        let at = writer.size();
        let request = || {
            let request = self.client.get(format!("{}/blobs/{}", self.base, blob.digest));
            if at == 0 { request } else { request.header(RANGE, format!("bytes={at}-")) }
        };
        let mut response = self.send(request).await?;
        if at > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            writer.restart().map_err(|source| self.writing(writer, source))?;
        }
        while let Some(chunk) = response.chunk().await.map_err(unreachable(self.reference))? {
            if blob.size - writer.size() < chunk.len() as u64 {
                return Err(self.too_large(&format!("blob `{}`", blob.digest), blob.size));
            }
            writer.write_all(&chunk).map_err(|source| self.writing(writer, source))?;
            so_far(writer.size());
        }
        Ok(())
    }

    /// Sends a request, and once more with a login if the registry asks for one.
    async fn send(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, PullError> {
        let response = self.send_authorized(request()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.checked(response, false, None).await;
        }
        let (authorization, problem) = self.log_in(&response).await?;
        let login = authorization.as_ref().is_some_and(Authorization::has_login);
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = authorization;
        let response = self.send_authorized(request()).await?;
        self.checked(response, login, problem).await
    }

    async fn send_authorized(&self, request: RequestBuilder) -> Result<Response, PullError> {
        let request = match &*self.authorization.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(authorization) => authorization.apply(request),
            None => request,
        };
        request.send().await.map_err(unreachable(self.reference))
    }

    /// Turns an answer that is no success into an error.
    pub(super) async fn checked(
        &self,
        response: Response,
        login: bool,
        problem: Option<LoginError>,
    ) -> Result<Response, PullError> {
        let status = response.status();
        match status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(PullError::Unauthorized {
                reference: Box::new(self.reference.clone()),
                login,
                source: problem,
            }),
            _ => {
                let body = self.body(response, "an error", MAX_ANSWER).await?;
                let message = message_of(&body);
                Err(PullError::Answer { registry: self.name(), status: status.as_u16(), message })
            }
        }
    }

    /// A token server's answer.
    pub(super) async fn answer(&self, response: Response) -> Result<Vec<u8>, PullError> {
        self.body(response, "a token", MAX_ANSWER).await
    }

    async fn body(&self, mut response: Response, what: &str, limit: u64) -> Result<Vec<u8>, PullError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable(self.reference))? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(self.too_large(what, limit));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    pub(super) fn too_large(&self, what: &str, limit: u64) -> PullError {
        PullError::TooLarge { registry: self.name(), what: what.to_owned(), limit }
    }

    pub(super) fn wrong_content(&self, expected: &Digest) -> PullError {
        PullError::WrongContent { registry: self.name(), expected: *expected }
    }

    fn writing(&self, writer: &BlobWriter, source: std::io::Error) -> PullError {
        let source = StoreError::Access { path: writer.path(), source };
        PullError::Store { reference: Box::new(self.reference.clone()), source }
    }

    fn name(&self) -> String {
        self.reference.registry().to_owned()
    }
}

/// URLs of redirects can carry signatures, which do not belong in messages.
pub(super) fn unreachable(reference: &Reference) -> impl FnOnce(reqwest::Error) -> PullError + use<> {
    let registry = reference.registry().to_owned();
    move |error| PullError::Unreachable { registry, source: error.without_url() }
}

fn client(local: bool) -> Result<Client, reqwest::Error> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An application that has chosen a provider already keeps it.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let builder = Client::builder()
        .user_agent(concat!("microagent/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT);
    if local { builder.no_proxy().build() } else { builder.https_only(true).build() }
}

fn is_loopback(host_and_port: &str) -> bool {
    let host = match host_and_port.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host_and_port.split_once(':').map_or(host_and_port, |(host, _)| host),
    };
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// The first message of an error in the specification's form; safe to show.
fn message_of(body: &[u8]) -> String {
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
    fn only_loopback_hosts_are_spoken_to_in_plain_http() {
        for local in ["localhost", "localhost:5000", "127.0.0.1", "127.9.9.9:80", "[::1]:5000", "[::1]"] {
            assert!(is_loopback(local), "{local}");
        }
        for remote in
            ["localhost.example.com", "127.0.0.1.example.com", "10.0.0.1:5000", "[::2]:5000", "docker.io"]
        {
            assert!(!is_loopback(remote), "{remote}");
        }
    }

    #[test]
    fn a_registrys_words_cannot_steer_a_terminal() {
        let body = br#"{"errors":[{"code":"X","message":"no \u001b[31mway"}]}"#;
        assert_eq!(message_of(body), "no [31mway");
        assert_eq!(message_of(b"<html>"), "");
    }
}
