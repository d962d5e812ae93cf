//! One request's surroundings: bindings, configuration, and what the client sent that matters.

use crate::config::Config;
use firn_shared::{media_type::ManifestFormat, oci_error::OciError};
use std::future::Future;
use std::rc::Rc;
use worker::{Context, Env, Request};

/// One request's surroundings.
pub(crate) struct Edge {
    /// The bindings.
    pub(crate) env: Env,
    /// The operator's settings.
    pub(crate) config: Rc<Config>,
    /// Scheme and host of the request, for keys of the Cache API.
    pub(crate) origin: String,
    /// All `Accept` lines, joined.
    pub(crate) accept: Option<String>,
    /// The `If-None-Match` header.
    pub(crate) if_none_match: Option<String>,
    /// The `Range` header.
    pub(crate) range: Option<String>,
    /// The client's address, where Cloudflare tells.
    pub(crate) client: Option<String>,
    query: Option<String>,
    context: Context,
}

impl Edge {
    /// Reads a request.
    ///
    /// # Errors
    /// `INTERNAL` when the Worker is not configured.
    pub(crate) fn new(request: &Request, env: Env, context: Context) -> Result<Self, OciError> {
        let config = Config::of(&env)?;
        // Names are constants that JavaScript accepts, so reading cannot fail.
        let header = |name| request.headers().get(name).ok().flatten();
        let url = request.inner().url();
        let path = url.find("://").and_then(|i| url[i + 3..].find('/').map(|j| i + 3 + j));
        Ok(Self {
            env,
            config,
            origin: url[..path.unwrap_or(url.len())].to_owned(),
            accept: header("accept"),
            if_none_match: header("if-none-match"),
            range: header("range"),
            client: header("cf-connecting-ip"),
            query: url.split_once('?').map(|(_, query)| query.to_owned()),
            context,
        })
    }

    /// The kind of manifest that the client wants. `Headers.get` joins several `Accept` lines (skopeo sends
    /// six) into one.
    pub(crate) fn format(&self) -> ManifestFormat {
        ManifestFormat::negotiate(self.accept.as_deref())
    }

    /// What stands behind `?` in the request's URL.
    pub(crate) fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Does something after the answer; the runtime allows it 30 s.
    pub(crate) fn later(&self, work: impl Future<Output = ()> + 'static) {
        self.context.wait_until(work);
    }
}
