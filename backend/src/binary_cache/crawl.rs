//! Follows references through a binary cache: from some store paths to their whole closure.

use super::{BinaryCache, Journal, narinfo};
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
    /// An HTTP client cannot be made.
    #[error("cannot make HTTP requests")]
    Client(#[source] reqwest::Error),
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
    cache: &BinaryCache,
    roots: impl IntoIterator<Item = StorePath>,
    known: Vec<PathInfo>,
    journal: &mut Journal,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<PathInfo>, CrawlError> {
    let client = reqwest::Client::builder().timeout(LIMIT).build().map_err(CrawlError::Client)?;
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
            let (client, known) = (&client, known.remove(&path));
            under_way.push(async move {
                match known {
                    Some(info) => Ok((Some(info), false)),
                    None => fetch(cache, client, &path).await.map(|info| (info, true)),
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

async fn fetch(
    cache: &BinaryCache,
    client: &reqwest::Client,
    path: &StorePath,
) -> Result<Option<PathInfo>, CrawlError> {
    let failed = |reason: String| CrawlError::Fetch { path: path.clone(), reason };
    let name = format!("{}.narinfo", path.hash_part());
    let text = match cache {
        BinaryCache::Directory(dir) => match tokio::fs::read_to_string(dir.join(name)).await {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        },
        BinaryCache::Http(url) => {
            let mut attempt = 0;
            loop {
                attempt += 1;
                match get(client, &format!("{url}/{name}")).await {
                    Ok(Some(text)) => break text,
                    Ok(None) => return Ok(None),
                    Err(error) if attempt == ATTEMPTS => return Err(failed(error.to_string())),
                    Err(_) => tokio::time::sleep(Duration::from_millis(200 << attempt)).await,
                }
            }
        }
    };
    narinfo::parse(&text).map(Some).map_err(|error| failed(error.to_string()))
}

async fn get(client: &reqwest::Client, url: &str) -> Result<Option<String>, reqwest::Error> {
    let response = client.get(url).send().await?;
    // A cache in front of a bucket may answer 403 for a missing object.
    if matches!(response.status().as_u16(), 403 | 404) {
        return Ok(None);
    }
    response.error_for_status()?.text().await.map(Some)
}
