//! The closure of store paths, from the narinfos of all caches.
//!
//! Every cache is asked about every path, so that a cache that fails later has a substitute, and caches that disagree are
//! noticed. The answer of the cache of the highest priority counts as soon as it is there. The answers of the others are
//! second opinions, for which nothing waits long.

use super::cache::Cache;
use super::cached_path::{CachedClosure, CachedPath, CachedPathRecord, KnownPaths, Source};
use super::error::{BinaryCacheError, CacheFailure};
use super::{BinaryCaches, TrustedKeys};
use firn_shared::{StorePath, nix::closure::PathInfo};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

type Answer = Result<Option<(PathInfo, Source)>, CacheFailure>;
/// An answer, with the rank of the cache that gave it.
type Asked<'a> = FuturesUnordered<BoxFuture<'a, (usize, Answer)>>;

impl BinaryCaches {
    /// The path infos of these paths and of all that they refer to, as far as a cache has them.
    ///
    /// `known` has what was recorded of paths before; no cache is asked about these. `progress` is called with how many
    /// paths are done, and how many are known so far.
    ///
    /// # Errors
    /// If no cache has a path, and one of them cannot tell.
    pub async fn closure(
        &self,
        roots: &[StorePath],
        known: &dyn KnownPaths,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<CachedClosure, BinaryCacheError> {
        let caches = self.by_priority().await;
        let mut seen: HashSet<StorePath> = HashSet::new();
        let mut waiting: Vec<StorePath> = roots.to_vec();
        waiting.retain(|path| seen.insert(path.clone()));
        let mut under_way = FuturesUnordered::new();
        let mut opinions = FuturesUnordered::new();
        let mut closure = CachedClosure::default();
        let mut position: HashMap<StorePath, usize> = HashMap::new();
        loop {
            // Each cache limits how many requests it gets at once. This bounds the memory.
            while under_way.len() < self.0.limits.paths_at_once
                && let Some(path) = waiting.pop()
            {
                under_way.push(find(path, &caches, &self.0.keys, known));
            }
            let found = tokio::select! {
                found = under_way.next() => match found {
                    Some(found) => found?,
                    None => break,
                },
                Some(opinion) = opinions.next(), if !opinions.is_empty() => {
                    second_opinion(&mut closure, &position, opinion);
                    continue;
                }
            };
            match found {
                Found::Missing(path) => closure.missing.push(path),
                Found::Path(path, rest) => {
                    waiting.extend(
                        path.info.references.iter().filter(|path| seen.insert((*path).clone())).cloned(),
                    );
                    position.insert(path.info.path.clone(), closure.paths.len());
                    opinions.extend(rest.map(|rest| one_by_one(path.info.path.clone(), rest)));
                    closure.paths.push(path);
                }
            }
            progress(seen.len() - waiting.len() - under_way.len(), seen.len());
        }
        let all_opinions = async {
            while let Some(opinion) = opinions.next().await {
                second_opinion(&mut closure, &position, opinion);
            }
        };
        // A cache that is too slow for this is no substitute either.
        let _ = tokio::time::timeout(self.0.limits.second_opinion, all_opinions).await;
        Ok(closure)
    }

    /// Where the NAR of a path is now, whatever is on record.
    pub(super) async fn sources_now(&self, path: &CachedPath) -> SourcesNow {
        let caches = self.by_priority().await;
        let answers = caches.iter().map(|cache| cache.find(&path.info.path, &self.0.keys));
        let answers = futures::future::join_all(answers).await;
        let all_can_tell = answers.iter().all(Result::is_ok);
        let found: Vec<_> = answers
            .into_iter()
            .flatten()
            .flatten()
            .filter(|(info, _)| path.has_content_of(info))
            .filter(|(info, _)| info.nar_size == path.info.nar_size || !path.has_vouched_size())
            .map(|(_, source)| source)
            .collect();
        let is_gone = all_can_tell && found.is_empty();
        let is_known = |source: &Source| {
            path.sources
                .iter()
                .any(|known| (&known.cache, &known.location) == (&source.cache, &source.location))
        };
        SourcesNow { others: found.into_iter().filter(|source| !is_known(source)).collect(), is_gone }
    }

    /// The caches, the one of the highest priority first.
    async fn by_priority(&self) -> Vec<&Cache> {
        let priorities = self.0.caches.iter().map(|cache| cache.priority());
        let priorities = futures::future::join_all(priorities).await;
        let mut caches: Vec<_> = priorities.into_iter().zip(&self.0.caches).collect();
        // Stable: of equal ones, the first in the configuration comes first.
        caches.sort_by_key(|(priority, _)| *priority);
        caches.into_iter().map(|(_, cache)| Arc::as_ref(cache)).collect()
    }
}

/// Where a path's content is, whatever is on record.
pub(super) struct SourcesNow {
    /// Sources that are not among those on record.
    pub(super) others: Vec<Source>,
    /// Whether all caches say that they do not have the path, or have another content of it.
    pub(super) is_gone: bool,
}

enum Found<'a> {
    Missing(StorePath),
    /// With the questions that are not answered yet.
    Path(CachedPath, Option<Asked<'a>>),
}

/// What the record of a path says, else what the caches say.
async fn find<'a>(
    path: StorePath,
    caches: &'a [&'a Cache],
    keys: &'a TrustedKeys,
    known: &'a dyn KnownPaths,
) -> Result<Found<'a>, BinaryCacheError> {
    if let Some(record) = known.find(&path).await
        && let Some(path) = recorded(&path, record, caches, keys)
    {
        return Ok(Found::Path(path, None));
    }
    let mut asked: Asked<'a> = FuturesUnordered::new();
    for (rank, cache) in caches.iter().enumerate() {
        let path = path.clone();
        asked.push(async move { (rank, cache.find(&path, keys).await) }.boxed());
    }
    let mut answers: Vec<Option<Answer>> = caches.iter().map(|_| None).collect();
    while let Some((rank, answer)) = asked.next().await {
        answers[rank] = Some(answer);
        let answered = answers.iter().take_while(|answer| answer.is_some());
        if answered.flatten().any(|answer| matches!(answer, Ok(Some(_)))) {
            break;
        }
    }
    let mut path_found: Option<CachedPath> = None;
    let mut failure = None;
    for (cache, answer) in caches.iter().zip(answers) {
        match answer {
            Some(Ok(Some((info, source)))) => match &mut path_found {
                None => path_found = Some(CachedPath { info, sources: vec![source], is_new: true }),
                Some(path) => path.add(&info, source),
            },
            Some(Err(error)) => {
                tracing::warn!(cache = %cache.url, %path, reason = %error, "a binary cache cannot tell what it has");
                failure.get_or_insert((cache, error));
            }
            Some(Ok(None)) | None => {}
        }
    }
    match (path_found, failure) {
        (Some(found), _) => Ok(Found::Path(found, Some(asked))),
        (None, None) => Ok(Found::Missing(path)),
        (None, Some((cache, source))) => {
            Err(BinaryCacheError::Unknown { path, cache: cache.url.name().to_owned(), source })
        }
    }
}

/// A recorded path, if a cache that is configured still vouches for it.
fn recorded(
    path: &StorePath,
    record: CachedPathRecord,
    caches: &[&Cache],
    keys: &TrustedKeys,
) -> Option<CachedPath> {
    let mut found: Option<CachedPath> = None;
    for cache in caches {
        let of_cache = record.narinfos.iter().find(|(name, _)| name == cache.url.name());
        let Some((_, narinfo)) = of_cache else { continue };
        if let Ok((info, source)) = cache.check(path, narinfo, keys) {
            match &mut found {
                None => found = Some(CachedPath { info, sources: vec![source], is_new: false }),
                Some(found) => found.add(&info, source),
            }
        }
    }
    found
}

async fn one_by_one(path: StorePath, mut rest: Asked<'_>) -> (StorePath, Vec<Answer>) {
    let mut answers = Vec::new();
    while let Some((_, answer)) = rest.next().await {
        answers.push(answer);
    }
    (path, answers)
}

fn second_opinion(
    closure: &mut CachedClosure,
    position: &HashMap<StorePath, usize>,
    (path, answers): (StorePath, Vec<Answer>),
) {
    let Some(path) = position.get(&path).map(|at| &mut closure.paths[*at]) else { return };
    for answer in answers {
        // A failure of a cache that is not needed is in the log already.
        if let Ok(Some((info, source))) = answer {
            path.add(&info, source);
        }
    }
}
