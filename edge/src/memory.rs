//! What an isolate remembers between requests: plain data that may be wrong or gone at any time. Never a
//! promise, which would belong to the request that made it.

use firn_shared::{edge_cache::TagPointer, reference::Tag};
use std::cell::RefCell;
use std::collections::HashMap;
use worker::Date;

/// How long a tag pointer is taken from memory instead of KV, in seconds. Short beside the time that KV
/// itself takes to show a new value elsewhere.
const POINTER_SECONDS: u64 = 10;
/// How long a backend that failed is asked last, in seconds.
const DOWN_SECONDS: u64 = 10;
/// How long a tag that is being asked for in the background is not asked for again, in seconds.
const REVALIDATION_SECONDS: u64 = 10;
/// How many entries each table may have: names come from outside.
const MAX_ENTRIES: usize = 256;

thread_local! {
    static POINTERS: RefCell<HashMap<Tag, (TagPointer, u64)>> = RefCell::default();
    static REVALIDATED: RefCell<HashMap<String, u64>> = RefCell::default();
    static DOWN: RefCell<HashMap<String, u64>> = RefCell::default();
}

/// Milliseconds since 1970. Workers' clocks stand still while code runs and move with I/O.
pub(crate) fn now_millis() -> u64 {
    Date::now().as_millis()
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    now_millis() / 1000
}

/// The pointer for a tag, if it was read or written a moment ago.
pub(crate) fn pointer(tag: &Tag) -> Option<TagPointer> {
    POINTERS.with_borrow(|pointers| {
        let (pointer, read) = pointers.get(tag)?;
        (now().saturating_sub(*read) < POINTER_SECONDS).then(|| pointer.clone())
    })
}

/// Remembers the pointer for a tag.
pub(crate) fn remember_pointer(tag: &Tag, pointer: &TagPointer) {
    POINTERS.with_borrow_mut(|pointers| {
        make_room(pointers);
        pointers.insert(tag.clone(), (pointer.clone(), now()));
    });
}

/// Whether it is this request's turn to ask for `what` in the background.
pub(crate) fn begin_revalidation(what: &str) -> bool {
    REVALIDATED.with_borrow_mut(|times| {
        let now = now();
        if times.get(what).is_some_and(|begun| now.saturating_sub(*begun) < REVALIDATION_SECONDS) {
            return false;
        }
        make_room(times);
        times.insert(what.to_owned(), now);
        true
    })
}

/// Remembers that a backend failed.
pub(crate) fn mark_down(backend: &str) {
    DOWN.with_borrow_mut(|down| {
        make_room(down);
        down.insert(backend.to_owned(), now());
    });
}

/// Remembers that a backend answered.
pub(crate) fn mark_up(backend: &str) {
    DOWN.with_borrow_mut(|down| down.remove(backend));
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
