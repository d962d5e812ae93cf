//! Files of a cache in a directory.

use super::{Body, TransportError};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use std::io::{ErrorKind, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// How many bytes are read at a time.
const CHUNK: usize = 256 << 10;

fn failed(error: std::io::Error) -> TransportError {
    match error.kind() {
        ErrorKind::NotFound => TransportError::Status { status: 404, retry_after: None },
        _ => TransportError::Connection(error.to_string()),
    }
}

pub(super) async fn body(dir: &Path, name: &str, offset: u64) -> Result<Body, TransportError> {
    let mut file = File::open(dir.join(name)).await.map_err(failed)?;
    let metadata = file.metadata().await.map_err(failed)?;
    if !metadata.is_file() {
        return Err(TransportError::Status { status: 404, retry_after: None });
    }
    file.seek(SeekFrom::Start(offset)).await.map_err(failed)?;
    Ok(Body {
        total: Some(metadata.len()),
        version: Some(format!("{}-{}", metadata.ino(), metadata.mtime_nsec())),
        start: offset,
        chunks: stream::try_unfold(file, next).boxed(),
    })
}

async fn next(mut file: File) -> Result<Option<(Bytes, File)>, TransportError> {
    let mut chunk = BytesMut::with_capacity(CHUNK);
    let read = file.read_buf(&mut chunk).await.map_err(failed)?;
    Ok((read > 0).then(|| (chunk.freeze(), file)))
}
