//! Telling the backend which images are pulled: it sees none of the pulls that are answered here, and garbage collection
//! would take what is in demand for what nobody wants.
//!
//! Each isolate notes the manifests that it answers with, and reports each once in `FIRN_REPORT_SECONDS`: at once if
//! nothing was reported for a while, else together with others. A report is one request to the backend after an answer,
//! and no operation of KV, R2 or a Durable Object. A lost report does no harm: what is in demand is pulled again.
//!
//! The backend says which of them it does not keep. They are forgotten, so that the next client that asks has them made
//! again. A backend deletes nothing sooner than its grace period after it has decided so. Where reports are more frequent
//! than that, whatever is answered from caches is looked after in time, also where the edge never sees the blobs.

use crate::{
    backend::{self, Question},
    cache::Key,
    clock,
    edge::Edge,
    manifest::Manifest,
    store::Store,
    wanted::Wanted,
};
use firn_shared::{
    link::protocol::{MAX_PULLED, Source, pulled_path},
    oci::{digest::Digest, endpoint::Method},
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// How far apart reports are at least, as a part of the time after which a manifest is reported again, unless there is
/// enough for one.
const PAUSE_PART: u64 = 6;
/// How many manifests are remembered as reported.
const MAX_REPORTED: usize = 4096;
/// The longest answer to a report, in bytes.
const MAX_BYTES: usize = 16 << 10;

thread_local! {
    static PULLS: RefCell<Pulls> = RefCell::default();
}

#[derive(Default)]
struct Pulls {
    /// When a manifest was last reported, or given to the edge by the backend, in seconds since 1970.
    known: HashMap<Digest, u64>,
    /// What is to be reported, with what it was asked for as.
    waiting: HashMap<Digest, Option<Wanted>>,
    /// When the last report was sent, in seconds since 1970.
    sent: u64,
}

impl Pulls {
    /// Notes an answer; returns whether it has to be reported, when nothing is sooner than after `again` seconds.
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

    /// Forgets that a manifest was reported: where KV shows for a while what was deleted there, it is reported again.
    fn forget(&mut self, digest: &Digest) {
        self.known.remove(digest);
    }

    /// What is to be reported now.
    fn due(&mut self, now: u64, again: u64) -> Option<HashMap<Digest, Option<Wanted>>> {
        let due = now.saturating_sub(self.sent) >= again / PAUSE_PART || self.waiting.len() >= MAX_PULLED;
        if !due || self.waiting.is_empty() {
            return None;
        }
        self.sent = now;
        Some(std::mem::take(&mut self.waiting))
    }
}

/// Notes that a manifest is answered with.
///
/// `wanted` is what it was asked for as; none where the name is no image's.
pub(crate) fn note(
    edge: &Rc<Edge>,
    manifest: &Manifest,
    source: Source,
    wanted: impl FnOnce() -> Option<Wanted>,
) {
    let again = edge.config.report_seconds;
    // What was composed is not the backend's.
    if manifest.metadata.composed || again == 0 {
        return;
    }
    let (digest, now) = (manifest.metadata.digest, clock::now());
    let report = PULLS.with_borrow_mut(|pulls| {
        if pulls.note(&digest, now, again) && source != Source::Backend {
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
        // An older backend, or none: what is in demand is reported again.
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

/// Forgets a manifest everywhere, so that the backend is asked.
pub(crate) async fn forget(edge: &Edge, digest: &Digest, wanted: Option<&Wanted>) {
    Key::digest(edge, digest).forget().await;
    let store = Store::open(&edge.env, &edge.config);
    let Some(Wanted { image, tag, format }) = wanted else {
        if let Some(store) = store {
            store.forget(digest, None).await;
        }
        return;
    };
    if let Some(store) = store {
        let pointer = store.pointer(tag).await;
        store.forget(digest, pointer.as_ref().map(|pointer| (&pointer.package_set, image, *format))).await;
    }
    Key::tag(edge, image, tag, *format).forget().await;
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
