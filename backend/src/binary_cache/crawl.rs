//! Follows references through a binary cache: from some store paths to their whole closure.
//!
//! Nothing is checked, because layering only counts.

use super::narinfo::{self, Narinfo};
use super::transport::{self, Transport, TransportError};
use super::{CacheUrl, Journal};
use firn_shared::{StorePath, nix::closure::PathInfo};
use futures::{StreamExt, stream::FuturesUnordered};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How many requests run at once: enough to hide the network's latency, few enough for a shared cache.
const AT_ONCE: usize = 32;
/// Timeout of one request.
const LIMIT: Duration = Duration::from_secs(30);
/// How many times a request is tried.
const ATTEMPTS: u32 = 4;

/// Why a crawl ended early. The journal has what it found.
#[derive(Debug, thiserror::Error)]
pub enum CrawlError {
    /// The cache does not answer, or its answer is not a narinfo.
    #[error("cannot read the narinfo of {path}: {reason}")]
    Fetch {
        /// The store path.
        path: StorePath,
        /// What went wrong.
        reason: String,
    },
    /// The journal cannot be written.
    #[error("cannot write the journal")]
    Journal(#[from] std::io::Error),
    /// A client of the cache cannot be made.
    #[error("cannot use the binary cache")]
    Client(#[from] TransportError),
}

/// The path infos of these store paths and of everything that they refer to. Paths that the cache does not have are
/// left out.
///
/// `known` has the path infos that earlier crawls found. `progress` is called with how many paths are done, and how
/// many are known so far.
///
/// # Errors
/// If the cache keeps failing, or the journal cannot be written.
pub async fn crawl(
    cache: &CacheUrl,
    roots: impl IntoIterator<Item = StorePath>,
    known: Vec<PathInfo>,
    journal: &mut Journal,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<PathInfo>, CrawlError> {
    let cache = Transport::new(cache, &transport::client([cache])?, None)?;
    let mut known: HashMap<StorePath, PathInfo> =
        known.into_iter().map(|info| (info.path.clone(), info)).collect();
    let mut waiting: Vec<StorePath> = roots.into_iter().collect();
    let mut seen: HashSet<StorePath> = HashSet::new();
    let mut found = Vec::new();
    let mut under_way = FuturesUnordered::new();
    waiting.retain(|path| seen.insert(path.clone()));
    loop {
        while under_way.len() < AT_ONCE
            && let Some(path) = waiting.pop()
        {
            let (cache, known) = (&cache, known.remove(&path));
            under_way.push(async move {
                match known {
                    Some(info) => Ok((Some(info), false)),
                    None => fetch(cache, &path).await.map(|info| (info, true)),
                }
            });
        }
        let Some(result) = under_way.next().await else { break };
        if let (Some(info), is_new) = result? {
            if is_new {
                journal.add(&info)?;
            }
            waiting.extend(info.references.iter().filter(|path| seen.insert((*path).clone())).cloned());
            found.push(info);
        }
        progress(seen.len() - waiting.len() - under_way.len(), seen.len());
    }
    journal.flush()?;
    Ok(found)
}

async fn fetch(cache: &Transport, path: &StorePath) -> Result<Option<PathInfo>, CrawlError> {
    let failed = |reason: String| CrawlError::Fetch { path: path.clone(), reason };
    let name = format!("{}.narinfo", path.hash_part());
    let mut attempt = 0;
    let text = loop {
        attempt += 1;
        let fetched = tokio::time::timeout(LIMIT, cache.small(&name, narinfo::MAX_SIZE)).await;
        match fetched.unwrap_or(Err(TransportError::Slow)) {
            Ok(Some(text)) => break text,
            Ok(None) => return Ok(None),
            Err(error) if attempt == ATTEMPTS => return Err(failed(error.to_string())),
            Err(_) => tokio::time::sleep(Duration::from_millis(200 << attempt)).await,
        }
    };
    let narinfo = Narinfo::parse(&text).map_err(|error| failed(error.to_string()))?;
    Ok(Some(narinfo.info))
}
