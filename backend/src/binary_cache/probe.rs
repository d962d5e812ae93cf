//! Checks whether binary caches answer, before anything is wanted of them.

use super::{BinaryCaches, CacheFailure};

impl BinaryCaches {
    /// For each cache its name, and its priority, or why it is no cache that can be used.
    pub async fn probe(&self) -> Vec<(String, Result<u32, CacheFailure>)> {
        let probes = self.0.caches.iter().map(async |cache| {
            let info = cache.info().await.map(|info| cache.url.priority.unwrap_or(info.priority));
            (cache.url.name().to_owned(), info)
        });
        futures::future::join_all(probes).await
    }
}
