//! How files of a binary cache are fetched: by HTTP, from a directory, from a bucket.

mod bucket;
mod directory;
mod http;

use super::{CacheUrl, Netrc, cache_url::Place};
use bytes::Bytes;
use futures::stream::BoxStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(super) use http::client;

/// Why a file could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// No client can be made.
    #[error("no client can be made: {0}")]
    Client(String),
    /// No connection, or a broken one.
    #[error("{0}")]
    Connection(String),
    /// The status of an HTTP response.
    #[error("it answers {status}")]
    Status {
        /// The status.
        status: u16,
        /// How long the cache wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// Too few bytes in too long a time.
    #[error("it is too slow")]
    Slow,
    /// More bytes than there may be.
    #[error("it sends more than {0} bytes")]
    TooLarge(u64),
    /// The file was replaced while it was fetched.
    #[error("it replaced the file while the file was fetched")]
    Replaced,
}

impl TransportError {
    /// Whether the same request may succeed soon.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Connection(_) | Self::Slow => true,
            Self::Status { status, .. } => *status == 429 || *status == 408 || *status >= 500,
            Self::Client(_) | Self::TooLarge(_) | Self::Replaced => false,
        }
    }

    /// Whether it says that there is no such file. A cache in front of a bucket may answer 403 for a missing object.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Status { status: 403 | 404 | 410, .. })
    }

    /// How long the cache wants to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// A way to the files of one cache.
#[derive(Debug, Clone)]
pub(super) enum Transport {
    Http(http::Http),
    Directory(PathBuf),
    Bucket(Arc<dyn object_store::ObjectStore>),
}

/// The bytes of a file, from an offset on.
pub(super) struct Body {
    /// Size of the whole file in bytes, if it is known before the end.
    pub(super) total: Option<u64>,
    /// Changes when the file does.
    pub(super) version: Option<String>,
    /// The offset of the first byte. It may be smaller than asked for.
    pub(super) start: u64,
    pub(super) chunks: BoxStream<'static, Result<Bytes, TransportError>>,
}

impl Transport {
    pub(super) fn new(
        url: &CacheUrl,
        client: &reqwest::Client,
        netrc: Option<&Netrc>,
    ) -> Result<Self, TransportError> {
        Ok(match &url.place {
            Place::Http(base) => Self::Http(http::Http::new(client.clone(), base.clone(), netrc)),
            Place::Directory(dir) => Self::Directory(dir.clone()),
            Place::Bucket { name, settings } => Self::Bucket(bucket::open(name, settings)?),
        })
    }

    /// A small file; `None` if there is none.
    ///
    /// # Errors
    /// If it is larger than `limit` bytes, or cannot be fetched.
    pub(super) async fn small(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, TransportError> {
        use futures::TryStreamExt;
        let body = match self.body(name, 0, None).await {
            Ok(body) => body,
            Err(error) if error.is_absence() => return Ok(None),
            Err(error) => return Err(error),
        };
        let add = |mut all: Vec<u8>, chunk: Bytes| async move {
            if all.len() + chunk.len() > limit {
                return Err(TransportError::TooLarge(limit as u64));
            }
            all.extend_from_slice(&chunk);
            Ok(all)
        };
        body.chunks.try_fold(Vec::new(), add).await.map(Some)
    }

    /// A file from an offset on, if it still has this version.
    pub(super) async fn body(
        &self,
        name: &str,
        offset: u64,
        version: Option<&str>,
    ) -> Result<Body, TransportError> {
        match self {
            Self::Http(http) => http.body(name, offset, version).await,
            Self::Directory(dir) => directory::body(dir, name, offset).await,
            Self::Bucket(bucket) => bucket::body(bucket, name, offset).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;
    use object_store::{ObjectStoreExt, PutPayload, memory::InMemory, path::Path};

    /// The same files in a directory and in a bucket. (Those of an HTTP server are in the tests of the room.)
    #[tokio::test]
    async fn directories_and_buckets_have_files() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(directory.path().join("nar")).expect("mkdir");
        std::fs::write(directory.path().join("nar/x"), b"0123456789").expect("written");
        let bucket = InMemory::new();
        let object = PutPayload::from_static(b"0123456789");
        bucket.put(&Path::from("nar/x"), object).await.expect("put");
        for transport in
            [Transport::Directory(directory.path().to_owned()), Transport::Bucket(Arc::new(bucket))]
        {
            assert_eq!(transport.small("nar/x", 10).await, Ok(Some(b"0123456789".to_vec())));
            assert_eq!(transport.small("nar/x", 9).await, Err(TransportError::TooLarge(9)));
            for missing in ["nar/y", "nar"] {
                assert_eq!(transport.small(missing, 9).await, Ok(None), "{transport:?} {missing}");
            }
            let body = transport.body("nar/x", 4, None).await.expect("a file");
            assert_eq!((body.start, body.total), (4, Some(10)));
            assert_eq!(body.chunks.try_collect::<Vec<_>>().await.expect("bytes").concat(), b"456789");
        }
    }
}
