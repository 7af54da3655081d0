//! Fetching blobs, which go on where a connection broke.

use std::io::Write;

use reqwest::header::RANGE;
use reqwest::{Method, StatusCode};

use super::{Call, RegistryError, Repository, Retry};
use crate::StoreError;
use crate::manifest::Descriptor;
use crate::store::BlobWriter;

/// So many new bytes make up for failures before.
const PROGRESS: u64 = 1 << 20;

impl Repository<'_> {
    /// Writes a blob, of the right size and verified.
    pub(crate) async fn download(
        &self,
        blob: &Descriptor,
        writer: &mut BlobWriter,
        so_far: &(dyn Fn(u64) + Sync),
    ) -> Result<(), RegistryError> {
        let mut retry = Retry::default();
        let mut reached = 0;
        while let Err(error) = self.rest(blob, writer, so_far).await {
            if writer.size() >= reached + PROGRESS {
                reached = writer.size();
                retry.succeeded();
            }
            tokio::time::sleep(retry.pause(self, error)?).await;
        }
        if writer.digest() == blob.digest { Ok(()) } else { Err(self.wrong_content(&blob.digest)) }
    }

    async fn rest(
        &self,
        blob: &Descriptor,
        writer: &mut BlobWriter,
        so_far: &(dyn Fn(u64) + Sync),
    ) -> Result<(), RegistryError> {
        let at = writer.size();
        if at == blob.size && at > 0 {
            return Ok(());
        }
        let call = Call::new(Method::GET, format!("/blobs/{}", blob.digest));
        let call = if at == 0 { call } else { call.header(RANGE, format!("bytes={at}-")) };
        let mut response = self.send(&call).await?;
        let failed = |writer: &BlobWriter, source| StoreError::Access { path: writer.path(), source };
        if at > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            writer.restart().map_err(|source| failed(writer, source))?;
        }
        while let Some(chunk) = self.chunk(&mut response).await? {
            if blob.size - writer.size() < chunk.len() as u64 {
                return Err(self.too_large(&format!("blob `{}`", blob.digest), blob.size));
            }
            writer.write_all(&chunk).map_err(|source| failed(writer, source))?;
            so_far(writer.size());
        }
        if writer.size() == blob.size {
            return Ok(());
        }
        let (registry, digest) = (self.name().to_owned(), blob.digest);
        Err(RegistryError::Truncated { registry, digest, sent: writer.size(), size: blob.size })
    }
}
