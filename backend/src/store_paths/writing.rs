//! Writing records in the background. No image waits for them: one that is lost is made again.

use super::StorePaths;
use crate::{
    error_chain::chain,
    store::{LOOKUPS, RecordKind, Store},
};
use firn_shared::cache_key::CacheKey;
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

/// Records that are being written.
#[derive(Debug, Clone)]
pub(super) struct Writing {
    turns: Arc<Semaphore>,
    /// How many are not written yet.
    pending: watch::Sender<usize>,
}

impl Default for Writing {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(LOOKUPS)), pending: watch::Sender::new(0) }
    }
}

impl Writing {
    /// Writes a record soon.
    pub(super) fn begin(
        &self,
        store: &Store,
        kind: RecordKind,
        key: CacheKey,
        record: Arc<impl Serialize + Send + Sync + 'static>,
    ) {
        let (this, store) = (self.clone(), store.clone());
        this.pending.send_modify(|pending| *pending += 1);
        tokio::spawn(async move {
            let _turn = this.turns.acquire().await.expect("the semaphore is never closed");
            if let Err(error) = store.put_record(kind, &key, &*record).await {
                tracing::warn!(%key, error = %chain(&error), "a record of a store path is not written");
            }
            this.pending.send_modify(|pending| *pending -= 1);
        });
    }
}

impl StorePaths {
    /// Returns when all that was found out is written.
    pub(crate) async fn written(&self) {
        // An error means that nothing writes any more.
        let _ = self.writing.pending.subscribe().wait_for(|pending| *pending == 0).await;
    }
}
