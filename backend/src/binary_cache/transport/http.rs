//! Files of a cache by HTTP.

use super::{Body, TransportError};
use crate::binary_cache::{CacheUrl, Netrc, cache_url::Place};
use crate::error_chain::chain;
use futures::{StreamExt, stream};
use reqwest::{
    Client, ClientBuilder, RequestBuilder, Response, Url,
    header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_RANGE, LAST_MODIFIED, RANGE, RETRY_AFTER},
    redirect::Policy,
};
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(5);
/// Caches redirect to a bucket, once.
const REDIRECTS: usize = 5;

/// A client for these caches. The limits of time are those of its users.
///
/// A machine without certificates of authorities can use caches without encryption.
pub(in crate::binary_cache) fn client<'a>(
    caches: impl IntoIterator<Item = &'a CacheUrl>,
) -> Result<Client, TransportError> {
    let is_private = |cache: &CacheUrl| matches!(&cache.place, Place::Http(url) if url.scheme() == "https");
    let is_needed = caches.into_iter().any(is_private);
    let client = match builder().build() {
        // This one believes nobody.
        Err(_) if !is_needed => builder().tls_certs_only([]).build(),
        client => client,
    };
    client.map_err(|error| TransportError::Client(chain(&error)))
}

fn builder() -> ClientBuilder {
    // What is fetched is checked, but what is asked for, and by whom, must not be shown on the way.
    let policy = Policy::custom(|attempt| {
        let was_private = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        if attempt.previous().len() > REDIRECTS {
            attempt.error("too many redirects")
        } else if was_private && attempt.url().scheme() != "https" {
            attempt.error("a redirect from https to another scheme")
        } else {
            attempt.follow()
        }
    });
    Client::builder()
        .user_agent(concat!("firn/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .redirect(policy)
}

/// One cache.
#[derive(Clone)]
pub(in crate::binary_cache) struct Http {
    client: Client,
    base: Url,
    login: Option<(String, String)>,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Http({})", self.base.host_str().unwrap_or_default())
    }
}

impl Http {
    pub(super) fn new(client: Client, base: Url, netrc: Option<&Netrc>) -> Self {
        let of_url = !base.username().is_empty() || base.password().is_some();
        let login = base
            .host_str()
            .filter(|_| !of_url)
            .and_then(|host| netrc?.of_host(host))
            .map(|(user, password)| (user.to_owned(), password.to_owned()));
        Self { client, base, login }
    }

    fn get(&self, name: &str) -> Result<RequestBuilder, TransportError> {
        let url = self.base.join(name).map_err(|error| TransportError::Client(error.to_string()))?;
        let request = self.client.get(url);
        Ok(match &self.login {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        })
    }

    pub(super) async fn body(
        &self,
        name: &str,
        offset: u64,
        version: Option<&str>,
    ) -> Result<Body, TransportError> {
        let mut request = self.get(name)?;
        if offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-"));
            // Another version comes whole.
            if let Some(version) = version {
                request = request.header(IF_RANGE, version);
            }
        }
        let response = request.send().await.map_err(broken)?;
        let headers = response.headers();
        let (start, total) = match response.status().as_u16() {
            200 => (0, response.content_length()),
            206 => content_range(headers)
                .ok_or_else(|| TransportError::Connection("its Content-Range is malformed".into()))?,
            status => {
                let wait = text(headers, RETRY_AFTER).and_then(|text| text.parse().ok());
                return Err(TransportError::Status { status, retry_after: wait.map(Duration::from_secs) });
            }
        };
        // A weak tag says nothing of bytes.
        let tag = text(headers, ETAG).filter(|tag| !tag.starts_with("W/"));
        let version = tag.or_else(|| text(headers, LAST_MODIFIED)).map(str::to_owned);
        Ok(Body { total, version, start, chunks: stream::try_unfold(response, next).boxed() })
    }
}

async fn next(mut response: Response) -> Result<Option<(bytes::Bytes, Response)>, TransportError> {
    Ok(response.chunk().await.map_err(broken)?.map(|chunk| (chunk, response)))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// First byte, and size of the whole.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, total) = text(headers, CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-')?.0.parse().ok()?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((start, total))
}

/// The message has no URL: that may have a secret.
fn broken(error: reqwest::Error) -> TransportError {
    TransportError::Connection(chain(&error.without_url()))
}
