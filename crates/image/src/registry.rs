//! One repository of a registry, over HTTP, as the OCI distribution specification has it.
//!
//! ```text
//! Call ──▶ url: scheme, host, /v2/, repository ──▶ send, give up when nothing comes ──▶ answer
//!            ▲                                          ▲             │
//!            │ the other scheme, where one may be tried │             ├── 401: prove who we are, once (token)
//!            └──────────────────────────────────────────┘             ├── redirect: without what is secret
//!                                                                     └── error: in the registry's words, bounded
//! ```
//!
//! Every body has a limit, errors and tokens too. Credentials, tokens and client certificates go to the registry itself
//! and never to a host that it redirects to. Who calls decides what is tried again; see [`Retry`].

mod download;
mod failure;
mod retry;
mod token;
mod upload;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderName, LOCATION};
use reqwest::{Body, Client, Method, Response, StatusCode, Url};

pub use failure::RegistryError;
pub(crate) use retry::Retry;
pub use token::inspect;
pub(crate) use upload::{Delivered, Upload};

use crate::Digest;
use crate::manifest::{DOCKER_LIST, DOCKER_MANIFEST, MAX_DOCUMENT, OCI_INDEX, OCI_MANIFEST};
use crate::registries::{self, Endpoint, Registries, Scheme};
use failure::message_of;
use token::Authorization;

/// Of an error's or a token's body.
const MAX_ANSWER: u64 = 1 << 20;
const MAX_REDIRECTS: usize = 5;

/// What is to be done in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
}

/// A repository at an endpoint.
pub(crate) struct Repository<'a> {
    registries: &'a Registries,
    endpoint: Endpoint,
    /// With the endpoint's prefix.
    path: String,
    access: Access,
    /// Other repositories of the registry that are read from.
    sources: Vec<String>,
    client: Client,
    stranger: Client,
    /// Which of the endpoint's schemes is used.
    scheme: AtomicUsize,
    /// Whether the registry has answered, so that the scheme is the right one.
    answered: Mutex<bool>,
    authorization: Mutex<Option<Authorization>>,
}

/// A request, which may have to be sent more than once.
pub(crate) struct Call<'c> {
    method: Method,
    target: Target,
    headers: Vec<(HeaderName, String)>,
    body: Option<&'c (dyn Fn() -> Body + Send + Sync)>,
}

enum Target {
    /// Below the repository.
    Path(String),
    /// Where the registry said.
    Url(Url),
}

impl<'c> Call<'c> {
    /// A request below the repository, such as `/blobs/sha256:…`.
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, target: Target::Path(path.into()), headers: Vec::new(), body: None }
    }

    fn to(method: Method, url: Url) -> Self {
        Self { method, target: Target::Url(url), headers: Vec::new(), body: None }
    }

    fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn body(self, body: &'c (dyn Fn() -> Body + Send + Sync)) -> Self {
        Self { body: Some(body), ..self }
    }
}

impl<'a> Repository<'a> {
    /// Prepares to talk to the endpoint; nothing is sent yet.
    pub(crate) fn new(
        registries: &'a Registries,
        endpoint: Endpoint,
        path: &str,
        access: Access,
    ) -> Result<Self, RegistryError> {
        let unusable = |source| RegistryError::Unreachable { registry: endpoint.name.clone(), source };
        let client =
            registries::client(&endpoint, registries.certificates(&endpoint.name)?).map_err(unusable)?;
        let stranger = registries::stranger(&endpoint).map_err(unusable)?;
        Ok(Self {
            registries,
            path: format!("{}{path}", endpoint.prefix),
            endpoint,
            access,
            sources: Vec::new(),
            client,
            stranger,
            scheme: AtomicUsize::new(0),
            answered: Mutex::new(false),
            authorization: Mutex::new(None),
        })
    }

    /// The same, with leave to read these other repositories too.
    pub(crate) fn reading(mut self, sources: Vec<String>) -> Self {
        self.sources = sources;
        self
    }

    /// The registry's name.
    pub(crate) fn name(&self) -> &str {
        &self.endpoint.name
    }

    /// Whether the registry knows who asks, if it wants to.
    pub(crate) async fn ping(&self) -> Result<(), RegistryError> {
        let url = format!("{}/v2/", self.base()).parse().map_err(|_| self.bad_address())?;
        self.send(&Call::to(Method::GET, url)).await.map(drop)
    }

    /// The manifest or index of a tag or a digest, of at most `limit` bytes; verified if it is of a digest.
    pub(crate) async fn manifest(
        &self,
        tag: &str,
        digest: Option<&Digest>,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut retry = Retry::default();
        loop {
            match self.try_manifest(tag, digest, limit.min(MAX_DOCUMENT)).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => tokio::time::sleep(retry.pause(self, error)?).await,
            }
        }
    }

    async fn try_manifest(
        &self,
        tag: &str,
        digest: Option<&Digest>,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let kinds = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].join(", ");
        let name = digest.map_or_else(|| tag.to_owned(), Digest::to_string);
        let call =
            Call::new(Method::GET, format!("/manifests/{name}")).header(reqwest::header::ACCEPT, kinds);
        let response = self.send(&call).await?;
        if is_web_page(&response) {
            return Err(RegistryError::WebPage { registry: self.name().to_owned() });
        }
        let bytes = self.read(response, "a manifest", limit).await?;
        match digest {
            Some(expected) if Digest::of(&bytes) != *expected => Err(self.wrong_content(expected)),
            _ => Ok(bytes),
        }
    }

    /// Sends a request, and once more with a login if the registry asks for one.
    pub(crate) async fn send(&self, call: &Call<'_>) -> Result<Response, RegistryError> {
        let response = self.reach(call, None).await?;
        self.answer(call, response, None).await
    }

    /// The same with a body whose sending `upload` can tell the progress of.
    async fn send_watched(&self, call: &Call<'_>, upload: &Upload<'_>) -> Result<Response, RegistryError> {
        let response = self.reach(call, Some(upload)).await?;
        self.answer(call, response, Some(upload)).await
    }

    async fn answer(
        &self,
        call: &Call<'_>,
        response: Response,
        upload: Option<&Upload<'_>>,
    ) -> Result<Response, RegistryError> {
        if response.status() != StatusCode::UNAUTHORIZED {
            let login = self.has_login();
            return self.checked(response, login, None).await;
        }
        let (authorization, problem) = self.log_in(&response).await?;
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = authorization;
        let response = self.reach(call, upload).await?;
        self.checked(response, self.has_login(), problem).await
    }

    fn has_login(&self) -> bool {
        let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        authorization.as_ref().is_some_and(Authorization::has_login)
    }

    /// Sends a request; at the first contact, also in the other way in which the endpoint may be reached.
    async fn reach(&self, call: &Call<'_>, upload: Option<&Upload<'_>>) -> Result<Response, RegistryError> {
        let first = self.follow(call, upload).await;
        if self.has_answered() {
            return first;
        }
        let doubtful = match &first {
            // What speaks TLS answers so to plain HTTP, or hangs up.
            Ok(response) => self.scheme() == Scheme::Http && response.status() == StatusCode::BAD_REQUEST,
            Err(error) => matches!(error, RegistryError::Unreachable { .. }),
        };
        if doubtful && self.endpoint.schemes.len() > 1 {
            self.scheme.store(1, Ordering::Relaxed);
            let second = self.follow(call, upload).await;
            if second.is_ok() {
                self.set_answered();
                return second;
            }
            self.scheme.store(0, Ordering::Relaxed);
        }
        if first.is_ok() {
            self.set_answered();
        }
        first
    }

    /// Whether the registry has ever answered.
    pub(crate) fn has_answered(&self) -> bool {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_answered(&self) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn scheme(&self) -> Scheme {
        self.endpoint.schemes[self.scheme.load(Ordering::Relaxed)]
    }

    fn base(&self) -> String {
        format!("{}://{}", self.scheme().text(), self.endpoint.host)
    }

    fn url(&self, target: &Target) -> Result<Url, RegistryError> {
        match target {
            Target::Url(url) => {
                let mut url = url.clone();
                // The first contact may be made in two ways.
                if !self.has_answered() && url.host_str().is_some() {
                    let _ = url.set_scheme(self.scheme().text());
                }
                Ok(url)
            }
            Target::Path(path) => {
                format!("{}/v2/{}{path}", self.base(), self.path).parse().map_err(|_| self.bad_address())
            }
        }
    }

    /// Sends a request and follows where the answer leads, without our secrets where that is another host.
    async fn follow(&self, call: &Call<'_>, upload: Option<&Upload<'_>>) -> Result<Response, RegistryError> {
        let mut url = self.url(&call.target)?;
        let mut at_home = self.is_own(&url);
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send_to(call, &url, at_home, upload).await?;
            let Some(next) = self.redirection(call, &response)? else { return Ok(response) };
            at_home = at_home && self.is_own(&next);
            url = next;
        }
        Err(RegistryError::Redirects { registry: self.name().to_owned() })
    }

    async fn send_to(
        &self,
        call: &Call<'_>,
        url: &Url,
        at_home: bool,
        upload: Option<&Upload<'_>>,
    ) -> Result<Response, RegistryError> {
        let client = if at_home { &self.client } else { &self.stranger };
        let mut request = client.request(call.method.clone(), url.clone());
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(body) = call.body {
            request = request.body(body());
        }
        if at_home
            && let Some(authorization) = &*self.authorization.lock().unwrap_or_else(PoisonError::into_inner)
        {
            request = authorization.apply(request);
        }
        match upload {
            Some(upload) => upload.watch(self.registries.stall, request.send()).await,
            None => tokio::time::timeout(self.registries.stall, request.send()).await.ok(),
        }
        .ok_or_else(|| self.stalled())?
        .map_err(|error| self.unreachable(error))
    }

    fn redirection(&self, call: &Call<'_>, response: &Response) -> Result<Option<Url>, RegistryError> {
        let leads_on = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
        if !leads_on || !matches!(call.method, Method::GET | Method::HEAD) {
            return Ok(None);
        }
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let next = location.and_then(|location| response.url().join(location).ok());
        next.map(Some).ok_or_else(|| RegistryError::Redirects { registry: self.name().to_owned() })
    }

    /// Whether a URL is of the registry itself.
    fn is_own(&self, url: &Url) -> bool {
        let own: Option<Url> = self.base().parse().ok();
        own.is_some_and(|own| own.origin() == url.origin())
    }

    /// Turns an answer that is no success into an error.
    async fn checked(
        &self,
        response: Response,
        login: bool,
        problem: Option<crate::LoginError>,
    ) -> Result<Response, RegistryError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let registry = self.name().to_owned();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(RegistryError::Unauthorized { registry, login, source: problem });
        }
        let retry_after = retry::after(&response);
        let body = self.read(response, "an error", MAX_ANSWER).await?;
        Err(RegistryError::Answer {
            registry,
            status: status.as_u16(),
            message: message_of(&body),
            retry_after,
        })
    }

    /// A body of at most `limit` bytes.
    async fn read(&self, mut response: Response, what: &str, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut response).await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(self.too_large(what, limit));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The next bytes of a body, which must come soon.
    async fn chunk(&self, response: &mut Response) -> Result<Option<Bytes>, RegistryError> {
        let next = tokio::time::timeout(self.registries.stall, response.chunk()).await;
        next.map_err(|_| self.stalled())?.map_err(|error| self.unreachable(error))
    }

    /// URLs of redirects can carry signatures, which do not belong in messages.
    fn unreachable(&self, error: reqwest::Error) -> RegistryError {
        RegistryError::Unreachable { registry: self.name().to_owned(), source: error.without_url() }
    }

    fn stalled(&self) -> RegistryError {
        RegistryError::Stalled { registry: self.name().to_owned(), after: self.registries.stall }
    }

    fn bad_address(&self) -> RegistryError {
        RegistryError::Address { registry: self.name().to_owned() }
    }

    fn too_large(&self, what: &str, limit: u64) -> RegistryError {
        RegistryError::TooLarge { registry: self.name().to_owned(), what: what.to_owned(), limit }
    }

    /// The registry sent what was not asked for.
    pub(crate) fn wrong_content(&self, expected: &Digest) -> RegistryError {
        RegistryError::WrongContent { registry: self.name().to_owned(), expected: *expected }
    }

    /// A configuration of this size would be refused.
    pub(crate) fn check_document_size(&self, size: u64) -> Result<(), RegistryError> {
        if size > MAX_DOCUMENT { Err(self.too_large("a configuration", MAX_DOCUMENT)) } else { Ok(()) }
    }
}

/// What an address that is no registry's has for browsers.
fn is_web_page(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().starts_with("text/html"))
}

/// Runs what may wait for locks, disks or people outside the threads that serve the network.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("the work does not panic and is not cancelled")
}
