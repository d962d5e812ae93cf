//! What an isolate remembers between requests: plain data that may be wrong or gone at any time. Never a
//! promise, which would belong to the request that made it.

use crate::{
    belonging::{Belonging, Entry},
    clock::now,
    manifest::Manifest,
};
use firn_shared::{
    link::tag_pointer::TagPointer,
    naming::image_name::ImageName,
    oci::{digest::Digest, reference::Tag},
};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::thread::LocalKey;
use worker::js_sys::Math;

/// How long a backend that failed is asked last, in seconds.
const DOWN_SECONDS: u64 = 10;
/// How long something that is being asked for in the background is not asked for again, in seconds.
const REVALIDATION_SECONDS: u64 = 10;
/// How long an entry of KV that is being renewed is not renewed again, in seconds. KV takes a minute to show the new one.
const RENEWAL_SECONDS: u64 = 120;
/// How long it is remembered that an image is not there any longer, in seconds.
const ENDED_SECONDS: u64 = 60;
/// How many entries each table may have: names come from outside.
const MAX_ENTRIES: usize = 256;
/// How many blobs are remembered to be kept by the edge, or not.
const MAX_KEPT_BLOBS: usize = 4096;
/// How long it is remembered that the edge has said that it needs a blob: a day, in seconds.
const MARKED_SECONDS: u64 = 24 * 3600;
/// How many digests are remembered to belong to one name.
const MAX_BELONGING: usize = 2048;
/// For how many names that is done.
const MAX_NAMES: usize = 64;

thread_local! {
    static POINTERS: RefCell<HashMap<Tag, TagPointer>> = RefCell::default();
    static REVALIDATED: RefCell<HashMap<String, u64>> = RefCell::default();
    static RENEWED: RefCell<HashMap<String, u64>> = RefCell::default();
    static LATENESS: Cell<Option<f64>> = const { Cell::new(None) };
    static ENDED: RefCell<HashMap<String, u64>> = RefCell::default();
    static DOWN: RefCell<HashMap<String, u64>> = RefCell::default();
    static EXPOSURES: RefCell<HashMap<String, (BackendExposure, u64)>> = RefCell::default();
    static MANIFESTS: RefCell<Manifests> = RefCell::default();
    static NOTED_TAGS: RefCell<HashSet<String>> = RefCell::default();
    static MARKED_BLOBS: RefCell<HashMap<Digest, (bool, u64)>> = RefCell::default();
    static KEPT_BLOBS: RefCell<HashMap<Digest, (bool, u64)>> = RefCell::default();
    static BELONGING: RefCell<HashMap<String, HashMap<Digest, Belonging>>> = RefCell::default();
}

/// Whom a backend answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BackendExposure {
    /// It is being asked.
    Asked,
    /// Nobody but the edge.
    Closed,
    /// Everybody.
    Open,
    /// It could not be asked.
    Unknown,
}

/// Manifests with the time until which they count, and their bytes in all.
#[derive(Default)]
struct Manifests {
    entries: HashMap<String, (Manifest, u64)>,
    bytes: u64,
}

/// The pointer of a tag as it was last learned here.
pub(crate) fn pointer(tag: &Tag) -> Option<TagPointer> {
    POINTERS.with_borrow(|pointers| pointers.get(tag).cloned())
}

/// Some tags whose pointers are remembered.
pub(crate) fn tags(limit: usize) -> Vec<Tag> {
    POINTERS.with_borrow(|pointers| pointers.keys().take(limit).cloned().collect())
}

/// Remembers the pointer of a tag.
pub(crate) fn remember_pointer(tag: &Tag, pointer: &TagPointer) {
    POINTERS.with_borrow_mut(|pointers| {
        make_room(pointers);
        pointers.insert(tag.clone(), pointer.clone());
    });
}

/// Forgets the pointer of a tag.
pub(crate) fn forget_pointer(tag: &Tag) {
    POINTERS.with_borrow_mut(|pointers| pointers.remove(tag));
}

/// A manifest that is still remembered.
pub(crate) fn manifest(key: &str) -> Option<Manifest> {
    MANIFESTS.with_borrow(|manifests| {
        let (manifest, until) = manifests.entries.get(key)?;
        (now() < *until).then(|| manifest.clone())
    })
}

/// Remembers a manifest for some seconds, among at most `limit` bytes of them.
pub(crate) fn remember_manifest(key: &str, manifest: &Manifest, seconds: u64, limit: u64) {
    let bytes = u64::from(manifest.bytes.byte_length());
    if bytes > limit {
        return;
    }
    MANIFESTS.with_borrow_mut(|manifests| {
        if let Some((old, _)) = manifests.entries.remove(key) {
            manifests.bytes -= u64::from(old.bytes.byte_length());
        }
        if manifests.bytes + bytes > limit {
            *manifests = Manifests::default();
        }
        manifests.bytes += bytes;
        manifests.entries.insert(key.to_owned(), (manifest.clone(), now() + seconds));
    });
}

/// Forgets a manifest.
pub(crate) fn forget_manifest(key: &str) {
    MANIFESTS.with_borrow_mut(|manifests| {
        if let Some((manifest, _)) = manifests.entries.remove(key) {
            manifests.bytes -= u64::from(manifest.bytes.byte_length());
        }
    });
}

/// Whether the edge keeps a blob, if that is known.
pub(crate) fn kept_blob(digest: &Digest) -> Option<bool> {
    KEPT_BLOBS
        .with_borrow(|blobs| blobs.get(digest).filter(|(_, until)| now() < *until).map(|(kept, _)| *kept))
}

/// Remembers for some seconds whether the edge keeps a blob.
pub(crate) fn remember_kept_blob(digest: &Digest, is_kept: bool, seconds: u64) {
    KEPT_BLOBS.with_borrow_mut(|blobs| {
        if blobs.len() >= MAX_KEPT_BLOBS {
            blobs.clear();
        }
        blobs.insert(*digest, (is_kept, now() + seconds));
    });
}

/// Whether this isolate has said a while ago that the edge needs a blob.
pub(crate) fn is_marked_blob(digest: &Digest) -> bool {
    MARKED_BLOBS.with_borrow(|blobs| blobs.get(digest).is_some_and(|(_, until)| now() < *until))
}

/// Remembers that it has been said that the edge needs a blob.
pub(crate) fn mark_blob(digest: &Digest) {
    MARKED_BLOBS.with_borrow_mut(|blobs| {
        if blobs.len() >= MAX_KEPT_BLOBS {
            blobs.clear();
        }
        blobs.insert(*digest, (true, now() + MARKED_SECONDS));
    });
}

/// How a digest is known to belong to an image of a name; it does so forever.
pub(crate) fn belonging(name: &ImageName, digest: &Digest) -> Option<Belonging> {
    BELONGING.with_borrow(|names| names.get(&name.to_string())?.get(digest).copied())
}

/// Remembers how digests belong to an image of a name.
pub(crate) fn remember_belonging(name: &ImageName, entries: impl Iterator<Item = Entry>) {
    BELONGING.with_borrow_mut(|names| {
        if names.len() >= MAX_NAMES {
            names.clear();
        }
        let known = names.entry(name.to_string()).or_default();
        if known.len() > MAX_BELONGING {
            known.clear();
        }
        for (digest, belonging) in entries {
            let known = known.entry(digest).or_insert(belonging);
            *known = belonging.max(*known);
        }
    });
}

/// The digests that are known to belong to a name.
pub(crate) fn belongings(name: &ImageName) -> Vec<Entry> {
    BELONGING.with_borrow(|names| {
        let known = names.get(&name.to_string());
        known.into_iter().flatten().map(|(digest, belonging)| (*digest, *belonging)).collect()
    })
}

/// Whether a tag of a name has not been noted by this isolate; from now on it has.
pub(crate) fn note_tag(name: &ImageName, tag: &Tag) -> bool {
    NOTED_TAGS.with_borrow_mut(|noted| {
        if noted.len() >= MAX_ENTRIES {
            noted.clear();
        }
        noted.insert(format!("{name}:{tag}"))
    })
}

/// Whether it is this request's turn to ask for `what` in the background.
pub(crate) fn begin_revalidation(what: &str) -> bool {
    begin(&REVALIDATED, what, REVALIDATION_SECONDS)
}

/// Whether it is this request's turn to renew an entry of KV.
pub(crate) fn begin_renewal(key: &str) -> bool {
    begin(&RENEWED, key, RENEWAL_SECONDS)
}

/// Whether `what` has not begun in the last `seconds`. From now on it has.
fn begin(times: &'static LocalKey<RefCell<HashMap<String, u64>>>, what: &str, seconds: u64) -> bool {
    times.with_borrow_mut(|times| {
        let now = now();
        if times.get(what).is_some_and(|begun| now.saturating_sub(*begun) < seconds) {
            return false;
        }
        make_room(times);
        times.insert(what.to_owned(), now);
        true
    })
}

/// How late this isolate does what all isolates do now and then, so that they do not do it at the same time: 0 to 1.
pub(crate) fn lateness() -> f64 {
    LATENESS.get().unwrap_or_else(|| {
        let lateness = Math::random();
        LATENESS.set(Some(lateness));
        lateness
    })
}

/// Remembers that there is no such image in the package set that its tag names now.
pub(crate) fn end(what: &str) {
    ENDED.with_borrow_mut(|times| {
        make_room(times);
        times.insert(what.to_owned(), now());
    });
}

/// Whether it was found a moment ago that there is no such image.
pub(crate) fn is_ended(what: &str) -> bool {
    ENDED.with_borrow(|times| {
        times.get(what).is_some_and(|since| now().saturating_sub(*since) < ENDED_SECONDS)
    })
}

/// Remembers that a backend failed.
pub(crate) fn mark_down(backend: &str) {
    DOWN.with_borrow_mut(|down| {
        make_room(down);
        down.insert(backend.to_owned(), now());
    });
}

/// Remembers that a backend answered. Where it could not be found out whom it answers, it can be now.
pub(crate) fn mark_up(backend: &str) {
    DOWN.with_borrow_mut(|down| down.remove(backend));
    EXPOSURES.with_borrow_mut(|exposures| {
        if exposures.get(backend).is_some_and(|(exposure, _)| *exposure == BackendExposure::Unknown) {
            exposures.remove(backend);
        }
    });
}

/// What was found out about whom a backend answers, and when, in seconds since 1970.
pub(crate) fn exposure(backend: &str) -> Option<(BackendExposure, u64)> {
    EXPOSURES.with_borrow(|exposures| exposures.get(backend).copied())
}

/// Remembers whom a backend answers.
pub(crate) fn remember_exposure(backend: &str, exposure: BackendExposure) {
    // As many as there are backends.
    EXPOSURES.with_borrow_mut(|exposures| exposures.insert(backend.to_owned(), (exposure, now())));
}

/// Whether a backend failed a moment ago.
pub(crate) fn is_down(backend: &str) -> bool {
    DOWN.with_borrow(|down| {
        down.get(backend).is_some_and(|since| now().saturating_sub(*since) < DOWN_SECONDS)
    })
}

/// Forgets everything rather than something: which entries are worth keeping does not matter at this size.
fn make_room<K, V>(table: &mut HashMap<K, V>) {
    if table.len() >= MAX_ENTRIES {
        table.clear();
    }
}
