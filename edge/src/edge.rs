//! The context of a request: bindings, configuration, and the parts of the request that matter.

use crate::config::Config;
use firn_shared::{
    link::base_url::host_name,
    oci::{endpoint::Method, error::OciError, request as registry},
};
use futures_util::FutureExt;
use std::borrow::Cow;
use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use worker::js_sys::{JSON, Promise, Reflect};
use worker::wasm_bindgen::{self, JsCast, JsValue, prelude::wasm_bindgen};
use worker::wasm_bindgen_futures::JsFuture;
use worker::{Context, Env, web_sys};

#[wasm_bindgen]
extern "C" {
    /// The cache in front of the Worker.
    type WorkersCache;
    #[wasm_bindgen(method, catch)]
    fn purge(this: &WorkersCache, what: &JsValue) -> Result<Promise, JsValue>;

    /// Whether it has forgotten what it should.
    pub(crate) type PurgeOutcome;
    /// Whether it has.
    #[wasm_bindgen(method, getter)]
    pub(crate) fn success(this: &PurgeOutcome) -> bool;
    /// Why it has not.
    #[wasm_bindgen(method, getter)]
    pub(crate) fn errors(this: &PurgeOutcome) -> JsValue;
}

/// The context of a request.
pub(crate) struct Edge {
    /// The bindings.
    pub(crate) env: Env,
    /// The operator's settings.
    pub(crate) config: Rc<Config>,
    /// Whether the request has been counted as a look-up. It counts once, however much is looked up for it.
    pub(crate) is_counted: Cell<bool>,
    request: web_sys::Request,
    url: Url,
    context: Context,
}

/// A request's URL, split into parts. The runtime has normalised it.
struct Url {
    text: String,
    path: usize,
    query: usize,
}

impl Edge {
    /// Reads a request.
    ///
    /// # Errors
    /// `INTERNAL` if the Worker is not configured.
    pub(crate) fn new(request: web_sys::Request, env: Env, context: Context) -> Result<Self, OciError> {
        let config = Config::of(&env)?;
        let url = Url::new(request.url());
        Ok(Self { env, config, is_counted: Cell::new(false), request, url, context })
    }

    /// Parses the request to the registry.
    ///
    /// # Errors
    /// As [`registry::Request::parse`].
    pub(crate) fn parse(&self, method: Method) -> Result<registry::Request<'_>, OciError> {
        let header = |name| self.header(name).map(Cow::Owned);
        registry::Request::parse(method, self.path(), self.query(), header)
    }

    /// The method of the request.
    pub(crate) fn method(&self) -> String {
        self.request.method()
    }

    /// A header's value. Several lines with the same name are joined by commas.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        // Names are constants that JavaScript accepts, so reading cannot fail.
        self.request.headers().get(name).ok().flatten()
    }

    /// The client's address as Cloudflare saw it. A client cannot choose it.
    pub(crate) fn client(&self) -> Option<String> {
        self.header("cf-connecting-ip")
    }

    /// The `Accept` header (skopeo sends six lines).
    pub(crate) fn accept(&self) -> Option<String> {
        self.header("accept")
    }

    /// Scheme and host of the request, for keys of the Cache API.
    pub(crate) fn origin(&self) -> &str {
        &self.url.text[..self.url.path]
    }

    /// The host of the request without its port.
    pub(crate) fn host(&self) -> &str {
        let origin = self.origin();
        host_name(origin.split_once("://").map_or(origin, |(_, host)| host))
    }

    /// The path of the request's URL.
    pub(crate) fn path(&self) -> &str {
        &self.url.text[self.url.path..self.url.query]
    }

    /// The query of the request's URL, after `?`.
    pub(crate) fn query(&self) -> Option<&str> {
        self.url.text.get(self.url.query + 1..)
    }

    /// Has Workers Cache forget answers: which, is JSON of its own. None if there is no such cache.
    pub(crate) async fn purge(&self, what: &str) -> Option<worker::Result<PurgeOutcome>> {
        let cache = Reflect::get(self.context.as_ref(), &JsValue::from_str("cache")).ok();
        let cache: WorkersCache = cache.filter(JsValue::is_object)?.unchecked_into();
        let purge = async {
            let promise = cache.purge(&JSON::parse(what)?)?;
            Ok(JsFuture::from(promise).await?.unchecked_into())
        };
        Some(purge.await)
    }

    /// Does work after the response. The runtime allows it 30 s. It is boxed, because each kind of future would take 1 kB
    /// of the Worker for being a promise.
    pub(crate) fn later(&self, work: impl Future<Output = ()> + 'static) {
        self.context.wait_until(work.boxed_local());
    }
}

impl Url {
    fn new(text: String) -> Self {
        let host = text.find("://").map_or(0, |at| at + 3);
        let path = text[host..].find('/').map_or(text.len(), |at| host + at);
        let query = text[path..].find('?').map_or(text.len(), |at| path + at);
        Self { text, path, query }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_urls_apart() {
        let check = |text: &str, expect: (&str, &str)| {
            let url = Url::new(text.to_owned());
            assert_eq!((&url.text[..url.path], &url.text[url.path..url.query]), expect, "{text}");
        };
        check("https://firn.example/v2/a?ns=b", ("https://firn.example", "/v2/a"));
        check("https://firn.example:8787/?", ("https://firn.example:8787", "/"));
        check("https://firn.example/", ("https://firn.example", "/"));
        check("https://firn.example", ("https://firn.example", ""));
    }
}
