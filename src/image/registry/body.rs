//! The bytes of an answer, with a limit to silence.

use super::error::RegistryError;
use reqwest::Response;
use std::time::Duration;
use tokio_util::bytes::Bytes;

/// An answer whose head has come.
#[derive(Debug)]
pub(super) struct Body {
    response: Response,
    host: String,
    silence: Duration,
    /// Bytes to leave out at the front.
    skip: u64,
}

impl Body {
    pub(super) fn new(response: Response, host: &str, silence: Duration) -> Self {
        Self { response, host: host.to_owned(), silence, skip: 0 }
    }

    /// The same without its first `skip` bytes.
    pub(super) fn skipping(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// The next bytes, never empty; `None` at the end.
    ///
    /// # Errors
    /// [`RegistryError::Connection`], [`RegistryError::Silent`].
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let Some(mut chunk) = within(self.silence, &self.host, self.response.chunk()).await?
            else {
                return Ok(None);
            };
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(chunk.len());
            self.skip -= skipped as u64;
            let chunk = chunk.split_off(skipped);
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
    }

    /// The whole of a document, at most `limit` bytes of it; `None`: it is longer.
    ///
    /// # Errors
    /// As [`Body::next`].
    pub(super) async fn whole(mut self, limit: u64) -> Result<Option<Vec<u8>>, RegistryError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.next().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                return Ok(None);
            }
        }
        Ok(Some(bytes))
    }
}

/// Waits for a host, but no longer than `limit`.
///
/// # Errors
/// [`RegistryError::Connection`], [`RegistryError::Silent`].
pub(super) async fn within<T>(
    limit: Duration,
    host: &str,
    work: impl Future<Output = reqwest::Result<T>>,
) -> Result<T, RegistryError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(|error| RegistryError::connection(host, error)),
        Err(_) => Err(RegistryError::Silent { host: host.to_owned(), limit }),
    }
}
