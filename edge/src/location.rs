//! What a location remembers for all its isolates: small values in the Cache API, which costs nothing. It keeps nothing
//! on `workers.dev`, and may lose any value at any time.

use crate::{answer::Answer, cache, edge::Edge};
use firn_shared::oci::respond::{Body, Response};
use worker::js_sys::{ArrayBuffer, Uint8Array};
use worker::wasm_bindgen::JsCast;
use worker::wasm_bindgen_futures::JsFuture;

/// The value at a path, if the location remembers it.
pub(crate) async fn get(edge: &Edge, path: &str) -> Option<Vec<u8>> {
    if !edge.config.cache_api {
        return None;
    }
    let found = cache::find(&cache::url(edge, path)).await?;
    let bytes: ArrayBuffer = JsFuture::from(found.array_buffer().ok()?).await.ok()?.dyn_into().ok()?;
    Some(Uint8Array::new(&bytes).to_vec())
}

/// Remembers a value for some seconds. It is written after the answer.
pub(crate) fn keep(edge: &Edge, path: &str, value: Vec<u8>, seconds: u64) {
    if !edge.config.cache_api {
        return;
    }
    let url = cache::url(edge, path);
    // If this fails, the next isolate asks again.
    edge.later(async move { drop(put(&url, value, seconds).await) });
}

/// Forgets a value.
pub(crate) async fn forget(edge: &Edge, path: &str) {
    if edge.config.cache_api {
        cache::remove(&cache::url(edge, path)).await;
    }
}

async fn put(url: &str, value: Vec<u8>, seconds: u64) -> worker::Result<()> {
    let mut response = Response::new(200).with("cache-control", format!("max-age={seconds}"));
    response.body = Body::Bytes(value);
    let response = Answer::from(response).into_response()?;
    cache::put(url, &response).await
}
