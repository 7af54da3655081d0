//! Giving a registry blobs and manifests.
//!
//! ```text
//! HEAD  blobs/<digest>                  200: it is there
//! POST  blobs/uploads/?mount=&from=     201: it is there now, taken from another repository
//!                                       202: a session, at Location
//! PUT   session?digest=                 a small blob, or the end of a large one
//! PATCH session, Content-Range          a large blob, part by part; after a broken connection GET session tells where to go on
//! HEAD  blobs/<digest>                  it is really there
//! ```
//!
//! A registry that does not like parts gets a large blob in one piece.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION, RANGE};
use reqwest::{Body, Method, Response, StatusCode, Url};

use super::{Call, RegistryError, Repository, Retry};
use crate::manifest::Descriptor;
use crate::{Digest, StoreError};

/// Of a blob that is sent in one request, and of the parts of others.
const PART: u64 = 32 << 20;
/// How much of a file is handed to the network at once.
const PIECE: u64 = 64 << 10;
/// How often it is looked whether an upload moves.
const TICK: Duration = Duration::from_millis(200);
/// How many times as long as others a registry may be silent that has everything, and is busy with it.
const DIGESTION: u32 = 10;
const DOCKER_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// How a blob came to be in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// It was there.
    Present,
    /// The registry took it from this repository of its own.
    Mounted(String),
    /// It was sent.
    Sent,
}

/// How far the sending of a body is.
pub(crate) struct Upload<'a> {
    sent: Arc<AtomicU64>,
    before: u64,
    length: u64,
    so_far: &'a (dyn Fn(u64) + Sync),
}

impl<'a> Upload<'a> {
    fn new(before: u64, length: u64, so_far: &'a (dyn Fn(u64) + Sync)) -> Self {
        Self { sent: Arc::default(), before, length, so_far }
    }

    /// Waits for the answer to a body, as long as the body moves; `None` if nothing happens for `stall`.
    pub(super) async fn watch<T>(&self, stall: Duration, answer: impl Future<Output = T>) -> Option<T> {
        let mut answer = std::pin::pin!(answer);
        let (mut known, mut since) = (0, Instant::now());
        loop {
            let outcome = tokio::time::timeout(TICK.min(stall), &mut answer).await;
            let sent = self.sent.load(Ordering::Relaxed);
            (self.so_far)(self.before + sent);
            if let Ok(outcome) = outcome {
                return Some(outcome);
            }
            if sent != known {
                (known, since) = (sent, Instant::now());
            }
            let patience = if sent == self.length { stall * DIGESTION } else { stall };
            if since.elapsed() >= patience {
                return None;
            }
        }
    }
}

/// A blob's file and what is known of it.
struct Source<'a> {
    path: &'a Path,
    blob: &'a Descriptor,
    so_far: &'a (dyn Fn(u64) + Sync),
}

impl Repository<'_> {
    /// Gives the registry the blob in the file at `path`, which it may take from one of `sources` by itself.
    pub(crate) async fn upload(
        &self,
        blob: &Descriptor,
        path: &Path,
        sources: &[String],
        so_far: &(dyn Fn(u64) + Sync),
    ) -> Result<Delivered, RegistryError> {
        let source = Source { path, blob, so_far };
        let mut retry = Retry::default();
        let mut in_parts = blob.size > PART;
        loop {
            match self.try_upload(&source, sources, in_parts).await {
                Ok(delivered) if self.has_blob(blob).await? => {
                    so_far(blob.size);
                    return Ok(delivered);
                }
                Ok(_) => {
                    return Err(RegistryError::NotKept {
                        registry: self.name().to_owned(),
                        digest: blob.digest,
                    });
                }
                Err(RegistryError::Answer { status: 400..=499, message, .. }) if in_parts => {
                    tracing::debug!(
                        message,
                        "the registry refuses a blob in parts, so it is sent in one piece"
                    );
                    in_parts = false;
                }
                Err(error) => tokio::time::sleep(retry.pause(self, error)?).await,
            }
        }
    }

    /// Whether the registry has a blob.
    pub(crate) async fn has_blob(&self, blob: &Descriptor) -> Result<bool, RegistryError> {
        let mut retry = Retry::default();
        loop {
            match self.send(&Call::new(Method::HEAD, format!("/blobs/{}", blob.digest))).await {
                Ok(response) => {
                    let length = number(&response, &CONTENT_LENGTH);
                    return Ok(length.is_none_or(|length| length == blob.size));
                }
                Err(RegistryError::Answer { status: 404, .. }) => return Ok(false),
                Err(error) => tokio::time::sleep(retry.pause(self, error)?).await,
            }
        }
    }

    async fn try_upload(
        &self,
        source: &Source<'_>,
        sources: &[String],
        in_parts: bool,
    ) -> Result<Delivered, RegistryError> {
        let session = match self.mount(source.blob, sources).await? {
            Mount::Done(from) => return Ok(Delivered::Mounted(from)),
            Mount::Session(session) => session,
            Mount::Refused => self.session().await?,
        };
        if in_parts {
            self.send_parts(source, session).await?;
        } else {
            self.finish(source, session, 0).await?;
        }
        Ok(Delivered::Sent)
    }

    async fn mount(&self, blob: &Descriptor, sources: &[String]) -> Result<Mount, RegistryError> {
        let Some(from) = sources.first() else { return Ok(Mount::Refused) };
        let path = format!("/blobs/uploads/?mount={}&from={from}", blob.digest);
        match self.send(&Call::new(Method::POST, path)).await {
            Ok(response) if response.status() == StatusCode::CREATED => Ok(Mount::Done(from.clone())),
            Ok(response) => self.location(&response).map(Mount::Session),
            // It may not let us read there, or not know of mounting.
            Err(RegistryError::Answer { status: 400..=499, .. } | RegistryError::Unauthorized { .. }) => {
                Ok(Mount::Refused)
            }
            Err(error) => Err(error),
        }
    }

    async fn session(&self) -> Result<Url, RegistryError> {
        let response = self.send(&Call::new(Method::POST, "/blobs/uploads/")).await?;
        self.location(&response)
    }

    /// Sends a large blob part by part, and goes on after what the registry has when a connection breaks.
    async fn send_parts(&self, source: &Source<'_>, mut session: Url) -> Result<(), RegistryError> {
        let size = source.blob.size;
        let mut retry = Retry::default();
        let mut at = 0;
        while at < size {
            let end = size.min(at + PART);
            match self.send_part(source, &session, at, end).await {
                Ok(next) => {
                    (session, at) = (next, end);
                    retry.succeeded();
                }
                Err(error) => {
                    tokio::time::sleep(retry.pause(self, error)?).await;
                    (session, at) = self.progress(session).await?;
                    if at > size {
                        return Err(self.wrong_content(&source.blob.digest));
                    }
                }
            }
        }
        self.finish(source, session, size).await
    }

    async fn send_part(
        &self,
        source: &Source<'_>,
        session: &Url,
        at: u64,
        end: u64,
    ) -> Result<Url, RegistryError> {
        let upload = Upload::new(at, end - at, source.so_far);
        let file = open(source.path, at)?;
        let body = || FileBody::body(&file, at, end - at, &upload);
        let call = Call::to(Method::PATCH, session.clone())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_RANGE, format!("{at}-{}", end - 1))
            .body(&body);
        let response = self.send_watched(&call, &upload).await?;
        self.location(&response)
    }

    /// Where a session is, and how many bytes the registry has of it.
    async fn progress(&self, session: Url) -> Result<(Url, u64), RegistryError> {
        let response = self.send(&Call::to(Method::GET, session.clone())).await?;
        let range = response.headers().get(RANGE).and_then(|range| range.to_str().ok());
        let last = range.and_then(|range| range.trim_start_matches("bytes=").strip_prefix("0-"));
        let has = match last.map(str::parse::<u64>) {
            // Nothing at all and the first byte are told the same way; sending that byte twice is refused.
            Some(Ok(0)) | None => 0,
            Some(Ok(last)) => last.saturating_add(1),
            Some(Err(_)) => return Err(self.lost()),
        };
        Ok((self.location(&response).unwrap_or(session), has))
    }

    /// Sends what is left of the blob, and has the registry verify it.
    async fn finish(&self, source: &Source<'_>, session: Url, at: u64) -> Result<(), RegistryError> {
        let mut session = session;
        session.query_pairs_mut().append_pair("digest", &source.blob.digest.to_string());
        let left = source.blob.size - at;
        let upload = Upload::new(at, left, source.so_far);
        let file = open(source.path, at)?;
        let body = || FileBody::body(&file, at, left, &upload);
        let call =
            Call::to(Method::PUT, session).header(CONTENT_TYPE, "application/octet-stream").body(&body);
        self.send_watched(&call, &upload).await.map(drop)
    }

    /// Gives the registry a manifest, by a tag.
    pub(crate) async fn put_manifest(
        &self,
        tag: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        let digest = Digest::of(bytes);
        let not_kept = || RegistryError::NotKept { registry: self.name().to_owned(), digest };
        let mut retry = Retry::default();
        let response = loop {
            let body = || Body::from(bytes.to_vec());
            let call = Call::new(Method::PUT, format!("/manifests/{tag}"))
                .header(CONTENT_TYPE, media_type)
                .body(&body);
            match self.send(&call).await {
                Ok(response) => break response,
                Err(error) => tokio::time::sleep(retry.pause(self, error)?).await,
            }
        };
        let said = response.headers().get(DOCKER_DIGEST).and_then(|said| said.to_str().ok());
        if said.is_some_and(|said| said != digest.to_string()) {
            return Err(not_kept());
        }
        match self.manifest(tag, Some(&digest), bytes.len() as u64).await {
            Err(RegistryError::Answer { status: 404, .. } | RegistryError::WrongContent { .. }) => {
                Err(not_kept())
            }
            outcome => outcome.map(drop),
        }
    }

    /// Where an upload goes on.
    fn location(&self, response: &Response) -> Result<Url, RegistryError> {
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        location.and_then(|location| response.url().join(location).ok()).ok_or_else(|| self.lost())
    }

    fn lost(&self) -> RegistryError {
        RegistryError::Answer {
            registry: self.name().to_owned(),
            status: 202,
            message: "it does not tell where an upload goes on".to_owned(),
            retry_after: None,
        }
    }
}

enum Mount {
    Done(String),
    Session(Url),
    Refused,
}

fn number(response: &Response, name: &HeaderName) -> Option<u64> {
    response.headers().get(name)?.to_str().ok()?.parse().ok()
}

fn open(path: &Path, at: u64) -> Result<File, StoreError> {
    let opened = File::open(path).and_then(|mut file| file.seek(SeekFrom::Start(at)).map(|_| file));
    opened.map_err(|source| StoreError::Access { path: path.to_owned(), source })
}

/// A part of a file as the body of a request, which is never in memory as a whole.
struct FileBody {
    file: io::Result<File>,
    left: u64,
    sent: Arc<AtomicU64>,
}

impl FileBody {
    fn body(file: &File, at: u64, length: u64, upload: &Upload<'_>) -> Body {
        upload.sent.store(0, Ordering::Relaxed);
        // A request that is sent again begins again; the descriptors share their place, and one is used at a time.
        let file = file.try_clone().and_then(|mut file| file.seek(SeekFrom::Start(at)).map(|_| file));
        Body::wrap(Self { file, left: length, sent: Arc::clone(&upload.sent) })
    }

    fn next(&mut self) -> io::Result<Bytes> {
        let file = self.file.as_mut().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
        let mut piece = vec![0; self.left.min(PIECE) as usize];
        file.read_exact(&mut piece)?;
        Ok(piece.into())
    }
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let body = self.get_mut();
        if body.left == 0 {
            return Poll::Ready(None);
        }
        let piece = body.next();
        let length = piece.as_ref().map_or(0, |piece| piece.len() as u64);
        body.left -= length;
        body.sent.fetch_add(length, Ordering::Relaxed);
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
