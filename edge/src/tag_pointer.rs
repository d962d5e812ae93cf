//! What a location knows of what tags name: in the isolate's memory and in the Cache API. It is learned from the tag's
//! Durable Object about once per TTL. KV has the pointer for when the object does not answer.

use crate::{clock, edge::Edge, kv_store::KvStore, limit::Limit, location, memory, tag, tag::Sighting};
use firn_shared::{
    link::tag_pointer::{Freshness, TagPointer, never_moves},
    oci::{error::OciError, reference::Tag},
};
use std::rc::Rc;

/// How long the Cache API keeps a pointer, in seconds. It is used for as long as it is there if it cannot be checked.
const CACHE_SECONDS: u64 = 24 * 3600;

/// The pointer of a tag, as it may be used now. None if nobody has pulled by this tag, as far as is known.
///
/// # Errors
/// The backend's if the tag does not exist.
pub(crate) async fn current(edge: &Rc<Edge>, tag: &Tag) -> Result<Option<TagPointer>, OciError> {
    let mut known = memory::pointer(tag);
    if known.as_ref().is_none_or(|known| freshness(edge, tag, known) == Freshness::Stale) {
        known = cached(edge, tag).await.or(known);
    }
    match known.as_ref().map(|known| freshness(edge, tag, known)) {
        Some(Freshness::Fresh) => {}
        Some(Freshness::Aging) => {
            if memory::begin_revalidation(tag.as_str()) {
                let (edge, tag, known) = (edge.clone(), tag.clone(), known.clone());
                edge.clone().later(async move { check_again(&edge, &tag, known).await });
            }
        }
        Some(Freshness::Stale) | None => known = check(edge, tag, known).await?,
    }
    Ok(known)
}

/// The pointer of a tag as it is known here or in KV, however old it is.
pub(crate) async fn recall(edge: &Edge, tag: &Tag) -> Option<TagPointer> {
    match memory::pointer(tag) {
        Some(known) => Some(known),
        None => stored(edge, tag).await,
    }
}

/// Adds what a response of the backend has shown.
pub(crate) fn learn(edge: &Edge, tag: &Tag, sighting: Sighting) {
    let known = memory::pointer(tag);
    let learned = sighting.add_to(known.clone());
    if known.as_ref() != Some(&learned) {
        keep(edge, tag, &learned);
    }
}

/// Asks the tag's object.
async fn check(edge: &Edge, tag: &Tag, known: Option<TagPointer>) -> Result<Option<TagPointer>, OciError> {
    if never_moves(tag) {
        // Whatever is known of it is right.
        return Ok(stored(edge, tag).await);
    }
    let asked = match Limit::LookUps.check(edge).await {
        Ok(()) => tag::ask(&edge.env, &edge.config, tag, known.as_ref()).await,
        Err(refused) => Err(refused),
    };
    match asked {
        Ok(learned) => {
            if let Some(learned) = &learned {
                keep(edge, tag, learned);
            }
            Ok(learned.or(known))
        }
        Err(error) if !error.is_passing() => {
            forget(edge, tag).await;
            Err(error)
        }
        // An image that was right a while ago is better than none.
        Err(error) => {
            let known = match known {
                Some(known) => Some(known),
                None => stored(edge, tag).await,
            };
            // That this client asks for too much says nothing about the tag.
            let known = if error.is_of_client_quota() {
                known
            } else {
                let failing = known.map(|known| known.failing(clock::now()));
                if let Some(failing) = &failing {
                    keep(edge, tag, failing);
                }
                failing
            };
            Ok(known)
        }
    }
}

/// Checks a pointer after an answer for which it was used, unless another isolate of this location has done so.
async fn check_again(edge: &Edge, tag: &Tag, known: Option<TagPointer>) {
    if let Some(other) = cached(edge, tag).await
        && freshness(edge, tag, &other) == Freshness::Fresh
    {
        return;
    }
    match tag::ask(&edge.env, &edge.config, tag, known.as_ref()).await {
        Ok(Some(learned)) => keep(edge, tag, &learned),
        Ok(None) => {}
        // The next client is told.
        Err(error) if !error.is_passing() => forget(edge, tag).await,
        Err(_) => {
            if let Some(known) = known {
                keep(edge, tag, &known.failing(clock::now()));
            }
        }
    }
}

fn freshness(edge: &Edge, tag: &Tag, known: &TagPointer) -> Freshness {
    let ttl = edge.config.tag_ttl_seconds;
    known.freshness(tag, clock::now(), ttl, (memory::lateness() * (ttl / 4) as f64) as u64)
}

/// The pointer in the Cache API.
async fn cached(edge: &Edge, tag: &Tag) -> Option<TagPointer> {
    let value = location::get(edge, &path(tag)).await?;
    let known = serde_json::from_slice(&value).ok()?;
    memory::remember_pointer(tag, &known);
    Some(known)
}

/// The pointer in the Cache API, or else in KV.
async fn stored(edge: &Edge, tag: &Tag) -> Option<TagPointer> {
    if let Some(known) = cached(edge, tag).await {
        return Some(known);
    }
    let known = KvStore::open(&edge.env, &edge.config)?.pointer(tag).await?;
    memory::remember_pointer(tag, &known);
    Some(known)
}

fn keep(edge: &Edge, tag: &Tag, known: &TagPointer) {
    memory::remember_pointer(tag, known);
    let value = serde_json::to_vec(known).expect("texts and numbers serialise");
    location::keep(edge, &path(tag), value, CACHE_SECONDS);
}

async fn forget(edge: &Edge, tag: &Tag) {
    memory::forget_pointer(tag);
    location::forget(edge, &path(tag)).await;
}

/// Where the Cache API has the pointer.
fn path(tag: &Tag) -> String {
    format!("pointer/{tag}")
}
