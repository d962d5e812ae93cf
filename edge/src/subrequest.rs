//! Requests that the Worker sends.
//!
//! The `worker` crate's own requests also carry Cloudflare's settings for images, caches and the like, whose conversion
//! to JavaScript is 5 kB of the Worker.

use worker::wasm_bindgen::JsValue;
use worker::web_sys::{self, RequestCache, RequestInit, RequestRedirect};
use worker::{Headers, Request};

/// A request to a place where blobs are stored, which may redirect it. With a body if there is one.
///
/// # Errors
/// If the URL is none.
pub(crate) fn to_storage(method: &str, url: &str, body: Option<&JsValue>) -> worker::Result<Request> {
    request(method, url, &Headers::new(), body, RequestRedirect::Follow)
}

/// A request to a backend or an object. Redirects are not followed: it is for whom it is sent to.
///
/// # Errors
/// If the URL is none.
pub(crate) fn to_server(
    method: &str,
    url: &str,
    headers: &Headers,
    body: Option<&JsValue>,
) -> worker::Result<Request> {
    request(method, url, headers, body, RequestRedirect::Manual)
}

fn request(
    method: &str,
    url: &str,
    headers: &Headers,
    body: Option<&JsValue>,
    redirect: RequestRedirect,
) -> worker::Result<Request> {
    let init = RequestInit::new();
    init.set_method(method);
    init.set_headers(&headers.0);
    init.set_redirect(redirect);
    // Cloudflare's cache in front of a server may have an old answer. What is kept is decided here.
    init.set_cache(RequestCache::NoStore);
    if let Some(body) = body {
        init.set_body(body);
    }
    Ok(web_sys::Request::new_with_str_and_init(url, &init)?.into())
}
