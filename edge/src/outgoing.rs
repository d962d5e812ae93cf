//! Requests that this Worker sends. The `worker` crate's own constructor takes all of Cloudflare's settings with it, which
//! are 4 KB of the Worker.

use worker::{Request, web_sys};

/// A request.
///
/// # Errors
/// If the URL or a header is invalid.
pub(crate) fn request(url: &str, init: &web_sys::RequestInit) -> worker::Result<Request> {
    Ok(web_sys::Request::new_with_str_and_init(url, init)?.into())
}
