//! Reports to the backend which images are pulled. The backend does not see pulls that the edge answers, so garbage
//! collection would take an image in demand for an unused one.
//!
//! Each isolate records the manifests that it serves, and reports each once per `FIRN_REPORT_SECONDS`: at once if
//! nothing was reported for a while, otherwise together with others. A report is one request to the backend, sent
//! after an answer, and no operation of KV, R2 or a Durable Object. A lost report does no harm: an image in demand is
//! pulled again.
//!
//! The backend answers with the manifests that it does not keep. The edge removes these from its caches, so that the
//! next client has them made again. A backend deletes a blob at least one grace period after it has decided to. If
//! reports are more frequent than that, images that are served from caches are recovered in time, even if the edge
//! never sees their blobs.

use crate::{
    backend::{self, Question},
    cache::Key,
    clock,
    edge::Edge,
    kv_store::KvStore,
    manifest::Manifest,
    tag_pointer,
    wanted::Wanted,
};
use firn_shared::{
    link::protocol::{AnswerSource, MAX_PULLED, pulled_path},
    oci::{digest::Digest, endpoint::Method},
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// The shortest time between two reports, as a part of `FIRN_REPORT_SECONDS`. A full report does not wait.
const PAUSE_PART: u64 = 6;
/// How many reported manifests are remembered.
const MAX_REPORTED: usize = 4096;
/// The longest response to a report, in bytes.
const MAX_BYTES: usize = 16 << 10;

thread_local! {
    static PULLS: RefCell<Pulls> = RefCell::default();
}

#[derive(Default)]
struct Pulls {
    /// When a manifest was last reported, or received from the backend, in seconds since 1970.
    known: HashMap<Digest, u64>,
    /// The manifests to report, each with the request that it answered.
    waiting: HashMap<Digest, Option<Wanted>>,
    /// When the last report was sent, in seconds since 1970.
    sent: u64,
}

impl Pulls {
    /// Records an answer. Returns whether to report it. A manifest is reported at most every `again` seconds.
    fn note(&mut self, digest: &Digest, now: u64, again: u64) -> bool {
        if self.known.get(digest).is_some_and(|since| now.saturating_sub(*since) < again) {
            return false;
        }
        if self.known.len() >= MAX_REPORTED {
            self.known.clear();
        }
        self.known.insert(*digest, now);
        true
    }

    /// Forgets that a manifest was reported. KV may still show it for a while after it was deleted; then it is
    /// reported again.
    fn forget(&mut self, digest: &Digest) {
        self.known.remove(digest);
    }

    /// The manifests to report now, if a report is due.
    fn due(&mut self, now: u64, again: u64) -> Option<HashMap<Digest, Option<Wanted>>> {
        let due = now.saturating_sub(self.sent) >= again / PAUSE_PART || self.waiting.len() >= MAX_PULLED;
        if !due || self.waiting.is_empty() {
            return None;
        }
        self.sent = now;
        Some(std::mem::take(&mut self.waiting))
    }
}

/// Records that a manifest is served.
///
/// `wanted` is the request that it answers. None if the name is not an image name.
pub(crate) fn note(
    edge: &Rc<Edge>,
    manifest: &Manifest,
    source: AnswerSource,
    wanted: impl FnOnce() -> Option<Wanted>,
) {
    let again = edge.config.report_seconds;
    // The backend does not have composed manifests.
    if manifest.metadata.composed || again == 0 {
        return;
    }
    let (digest, now) = (manifest.metadata.digest, clock::now());
    let report = PULLS.with_borrow_mut(|pulls| {
        if pulls.note(&digest, now, again) && source != AnswerSource::Backend {
            pulls.waiting.insert(digest, wanted());
        }
        pulls.due(now, again)
    });
    if let Some(report) = report {
        let edge = edge.clone();
        edge.clone().later(async move { send(&edge, report).await });
    }
}

async fn send(edge: &Edge, report: HashMap<Digest, Option<Wanted>>) {
    let path = pulled_path(report.keys());
    let Ok(mut response) = backend::response(&edge.config, Question::about(Method::Get, &path)).await else {
        // No backend, or an older one. Images in demand are reported again.
        return;
    };
    let Ok(body) = backend::body(&mut response, MAX_BYTES).await else { return };
    let leaving: Vec<Digest> = serde_json::from_slice(&body).unwrap_or_default();
    for digest in leaving {
        if let Some(wanted) = report.get(&digest) {
            forget(edge, &digest, wanted.as_ref()).await;
            PULLS.with_borrow_mut(|pulls| pulls.forget(&digest));
        }
    }
}

/// Removes a manifest from all caches, so that the backend is asked for it.
pub(crate) async fn forget(edge: &Edge, digest: &Digest, wanted: Option<&Wanted>) {
    Key::digest(edge, digest).forget().await;
    let store = KvStore::open(&edge.env, &edge.config);
    let Some(Wanted { image, tag, format }) = wanted else {
        if let Some(store) = store {
            store.forget(digest, []).await;
        }
        return;
    };
    let pointer = tag_pointer::recall(edge, tag).await;
    let sets = pointer.iter().flat_map(|pointer| [Some(&pointer.package_set), pointer.previous.as_ref()]);
    let sets: Vec<_> = sets.flatten().collect();
    for set in &sets {
        Key::image(edge, set, image, *format).forget().await;
    }
    if let Some(store) = store {
        store.forget(digest, sets.into_iter().map(|set| (set, image, *format))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_few() {
        let mut pulls = Pulls::default();
        let manifests: Vec<Digest> = (0..40u8).map(|n| Digest::of(&[n])).collect();
        let mut pull = |n: usize, now: u64| {
            if pulls.note(&manifests[n], now, 1800) {
                pulls.waiting.insert(manifests[n], None);
            }
            pulls.due(now, 1800).map_or(0, |report| report.len())
        };
        assert_eq!(pull(0, 1_000_000), 1, "the first at once");
        assert_eq!(pull(1, 1_000_001), 0);
        assert_eq!(pull(1, 1_000_100), 0);
        assert_eq!(pull(0, 1_000_300), 1, "then together, and only what is new");
        assert_eq!(pull(0, 1_001_800), 1, "again after half an hour");
        assert_eq!((2..34).map(|n| pull(n, 1_001_801)).max(), Some(MAX_PULLED), "a full one does not wait");
    }

    #[test]
    fn what_is_still_there_after_it_was_forgotten_is_reported_again() {
        let (mut pulls, digest) = (Pulls::default(), Digest::of(b"kept elsewhere"));
        assert!(pulls.note(&digest, 1_000_000, 1800));
        assert!(!pulls.note(&digest, 1_000_100, 1800));
        pulls.forget(&digest);
        assert!(pulls.note(&digest, 1_000_100, 1800));
    }
}
