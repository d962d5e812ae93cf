//! What a tag names, how long that is believed, and when each image of a tag that has moved changes.
//!
//! A tag has one *pointer*, which one Durable Object of the edge keeps up to date. When a tag moves, all of its images
//! change. If they changed at the same second everywhere, the backend would be asked for all of them at once. So each
//! image has its own time to change within [`SPREAD_SECONDS`], and the image of the previous package set is served
//! until then, and for a while afterwards if the new one is still being made.
//!
//! This module has no clock and does no I/O.

use crate::{
    cache_key::CacheKey, link::protocol::ImageSetId, naming::package_source::Commit, oci::reference::Tag,
};
use serde::{Deserialize, Serialize};

/// How long it takes at most until all images of a moved tag have changed, in seconds.
pub const SPREAD_SECONDS: u64 = 60;
/// How long after a tag has moved an image of the previous package set may still be served, in seconds. Afterwards
/// clients wait for the new image.
const PREVIOUS_SECONDS: u64 = 600;
/// How long a tag that could not be checked is not checked again, in seconds.
pub const FAILED_SECONDS: u64 = 30;

/// The package set that a tag names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagPointer {
    /// The package set.
    pub package_set: ImageSetId,
    /// The package set that the tag named before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<ImageSetId>,
    /// When a backend first said that the tag names this package set, in seconds since 1970.
    #[serde(default)]
    pub moved: u64,
    /// When a backend last said so, in seconds since 1970. 0 if that is not known.
    // The version before, which may run at the same time, cannot read a pointer without it.
    #[serde(default)]
    pub checked: u64,
    /// When a check failed after that, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<u64>,
}

/// Whether a [`TagPointer`] may be used without checking it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Use the pointer.
    Fresh,
    /// Use the pointer for this response, and check it in the background.
    Aging,
    /// Check the pointer first. Use it only if it cannot be checked.
    Stale,
}

/// The package sets from which an image may be served, the preferred one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice<'a> {
    /// Only from this one.
    Only(&'a ImageSetId),
    /// It is not yet the image's turn to change.
    Previous {
        /// If the image is known there.
        previous: &'a ImageSetId,
        /// Otherwise.
        new: &'a ImageSetId,
    },
    /// It is the image's turn to change.
    New {
        /// If the image is known there.
        new: &'a ImageSetId,
        /// Otherwise, while the new one is being made.
        previous: &'a ImageSetId,
    },
}

impl TagPointer {
    /// The key of the pointer of a tag.
    pub fn key(tag: &Tag) -> CacheKey {
        CacheKey::builder("tag-1").field(tag.as_str()).build()
    }

    /// What lasts of the pointer. It changes only when the tag moves.
    pub fn lasting(&self) -> Self {
        Self { checked: 0, failed: None, ..self.clone() }
    }

    /// What is known after a backend said that the tag names this package set. It was asked at `asked`, in seconds since
    /// 1970. What was known from a later question stays.
    pub fn learn(known: Option<Self>, package_set: ImageSetId, asked: u64) -> Self {
        match known {
            Some(known) if asked < known.checked => known,
            Some(known) if package_set == known.package_set => Self { checked: asked, failed: None, ..known },
            known => {
                let previous = known.map(|known| known.package_set);
                Self { package_set, previous, moved: asked, checked: asked, failed: None }
            }
        }
    }

    /// The same after a check failed.
    pub fn failing(self, now: u64) -> Self {
        Self { failed: Some(now), ..self }
    }

    /// Whether the pointer may be used at `now` (seconds since 1970). It is fresh for `ttl_seconds` and for `late`
    /// seconds more, which differ between isolates so that they do not check it at the same time. It is aging until it
    /// is twice `ttl_seconds` old. A pointer that could not be checked is used as long as it is there. A tag that is a
    /// commit never moves, so its pointer is always fresh.
    pub fn freshness(&self, tag: &Tag, now: u64, ttl_seconds: u64, late: u64) -> Freshness {
        let age = now.saturating_sub(self.checked);
        if never_moves(tag) || age <= ttl_seconds.saturating_add(late) {
            return Freshness::Fresh;
        }
        match self.failed {
            Some(failed) if now.saturating_sub(failed) < FAILED_SECONDS => Freshness::Fresh,
            Some(_) => Freshness::Aging,
            None if age <= ttl_seconds.saturating_mul(2) => Freshness::Aging,
            None => Freshness::Stale,
        }
    }

    /// Where to look for an image at `now` (seconds since 1970). `image` is called only if that matters, and returns its
    /// [`request_key`](crate::link::edge_cache::request_key). If tags are checked more often than the time over which
    /// images change, they change within `ttl_seconds`.
    pub fn choice(&self, image: impl FnOnce() -> CacheKey, now: u64, ttl_seconds: u64) -> Choice<'_> {
        let new = &self.package_set;
        // Clocks of different machines differ. A pointer from the future has age 0.
        let age = now.saturating_sub(self.moved);
        match &self.previous {
            Some(previous)
                if age < SPREAD_SECONDS && age < turn(&image(), SPREAD_SECONDS.min(ttl_seconds)) =>
            {
                Choice::Previous { previous, new }
            }
            Some(previous) if age < PREVIOUS_SECONDS => Choice::New { new, previous },
            _ => Choice::Only(new),
        }
    }
}

/// How many seconds after its tag an image changes: a number below `spread` that is the same everywhere.
fn turn(image: &CacheKey, spread: u64) -> u64 {
    let [a, b, c, d, ..] = *image.as_bytes();
    u64::from(u32::from_le_bytes([a, b, c, d])) % spread.max(1)
}

/// Whether a tag is a commit, which always names the same package set.
pub fn never_moves(tag: &Tag) -> bool {
    tag.as_str().parse::<Commit>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{link::edge_cache::request_key, oci::media_type::ManifestFormat};

    fn tag(text: &str) -> Tag {
        text.parse().expect("a tag")
    }

    fn set(text: &str) -> ImageSetId {
        text.parse().expect("a token")
    }

    fn image(number: usize) -> CacheKey {
        let name = format!("image{number}").parse().expect("a name");
        request_key(&name, &Tag::default(), ManifestFormat::Oci)
    }

    /// What is known of a tag that named each of these package sets at some time.
    fn learned(named: &[(&str, u64)]) -> TagPointer {
        let known =
            named.iter().fold(None, |known, (name, asked)| Some(TagPointer::learn(known, set(name), *asked)));
        known.expect("a package set")
    }

    #[test]
    fn pointers_age() {
        let pointer = learned(&[("a", 1_000)]);
        let check = |name: &str, now, expect| {
            assert_eq!(pointer.freshness(&tag(name), now, 300, 0), expect, "{name} at {now}");
        };
        check("latest", 1_000, Freshness::Fresh);
        check("latest", 0, Freshness::Fresh);
        check("latest", 1_300, Freshness::Fresh);
        check("latest", 1_301, Freshness::Aging);
        check("latest", 1_600, Freshness::Aging);
        check("latest", 1_601, Freshness::Stale);
        check(&"0a".repeat(20), u64::MAX, Freshness::Fresh);
        check(&"0a".repeat(19), u64::MAX, Freshness::Stale);
        assert_eq!(pointer.freshness(&tag("latest"), 1_350, 300, 50), Freshness::Fresh);
        assert_eq!(pointer.freshness(&tag("latest"), 1_351, 300, 50), Freshness::Aging);
        assert_eq!(pointer.lasting().freshness(&tag("latest"), 1_000, 300, 0), Freshness::Stale);
    }

    #[test]
    fn a_pointer_that_cannot_be_checked_is_used_and_checked_now_and_then() {
        let pointer = learned(&[("a", 1_000)]).failing(5_000);
        let check = |now, expect| assert_eq!(pointer.freshness(&tag("latest"), now, 300, 0), expect, "{now}");
        check(5_029, Freshness::Fresh);
        check(5_030, Freshness::Aging);
        check(1_000_000, Freshness::Aging);
        assert_eq!(TagPointer::learn(Some(pointer), set("a"), 6_000).failed, None);
    }

    #[test]
    fn pointers_follow_tags() {
        let check = |named: &[(&str, u64)], pointer: (&str, Option<&str>, u64), checked| {
            let (package_set, previous, moved) = pointer;
            let (package_set, previous) = (set(package_set), previous.map(set));
            let expect = TagPointer { package_set, previous, moved, checked, failed: None };
            assert_eq!(learned(named), expect, "{named:?}");
        };
        check(&[("a", 5)], ("a", None, 5), 5);
        check(&[("a", 5), ("a", 9)], ("a", None, 5), 9);
        check(&[("a", 5), ("b", 9)], ("b", Some("a"), 9), 9);
        check(&[("a", 5), ("b", 9), ("b", 12)], ("b", Some("a"), 9), 12);
        check(&[("a", 5), ("b", 9), ("c", 12)], ("c", Some("b"), 12), 12);
        // An answer that took longer than another one.
        check(&[("a", 5), ("b", 9), ("a", 8)], ("b", Some("a"), 9), 9);
    }

    #[test]
    fn images_change_one_after_the_other() {
        let pointer = learned(&[("old", 1), ("new", 1_000)]);
        let (old, new) = (&set("old"), &set("new"));
        let mut changed = Vec::new();
        for second in 0..=SPREAD_SECONDS {
            let is_new = |number: &usize| {
                let choice = pointer.choice(|| image(*number), 1_000 + second, 300);
                assert!(
                    [Choice::New { new, previous: old }, Choice::Previous { previous: old, new }]
                        .contains(&choice)
                );
                matches!(choice, Choice::New { .. })
            };
            changed.push((0..1_000).filter(is_new).count());
        }
        assert!(changed[0] < 60 && changed[SPREAD_SECONDS as usize - 1] == 1_000, "{changed:?}");
        let most = changed.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(most < Some(60), "too many at once: {changed:?}");
        // What is checked every second changes within a second.
        assert_eq!(pointer.choice(|| image(1), 1_001, 1), Choice::New { new, previous: old });
        assert_eq!(pointer.choice(|| image(1), 1_000, 0), Choice::New { new, previous: old });
        assert_eq!(pointer.choice(|| image(1), 1_599, 300), Choice::New { new, previous: old });
        assert_eq!(pointer.choice(|| image(1), 1_600, 300), Choice::Only(new));
        assert_eq!(learned(&[("new", 1_000)]).choice(|| image(1), 1_000, 300), Choice::Only(new));
    }

    #[test]
    fn is_read_as_it_was_written_before_and_is_checked() {
        let read = |json: &str| serde_json::from_str::<TagPointer>(json);
        let older = read(r#"{"package_set":"a","checked":1700000000}"#).expect("an older pointer");
        let package_set = set("a");
        assert_eq!(
            older,
            TagPointer { package_set, previous: None, moved: 0, checked: 1_700_000_000, failed: None }
        );
        let pointer = learned(&[("a", 1), ("b", 2)]);
        let json = serde_json::to_string(&pointer.lasting()).expect("it serialises");
        assert_eq!(json, r#"{"package_set":"b","previous":"a","moved":2,"checked":0}"#);
        for pointer in [pointer.lasting(), pointer.clone(), pointer.failing(9)] {
            let json = serde_json::to_string(&pointer).expect("it serialises");
            assert_eq!(read(&json).expect("a pointer"), pointer);
        }
        assert!(read(r#"{"package_set":"","moved":1}"#).is_err());
    }
}
