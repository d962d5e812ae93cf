//! The Worker on a planet as strict as Cloudflare's: several locations with several isolates each, on one KV namespace,
//! one bucket and one set of Durable Objects, in one workerd.
//!
//! The rules that production has and Miniflare has not are in `world/`, in one file each:
//!
//! | what | rule |
//! |---|---|
//! | KV | a location keeps what it has read for a minute, also a miss and also against its own writes; others see a write a minute later; one write per key and second (429); limits of keys, metadata, values, lifetimes |
//! | R2 | one write per key and second (10058) |
//! | Durable Objects | a limit of requests per second (`overloaded`); a deployment resets them (`retryable`), and storage stays; an object has the view of KV of the location where it was first asked for, or as hinted |
//! | `fetch` | an IP address gives 403 with "error code: 1003"; names that end in `.example` are servers of the test; without `cache: "no-store"` a cache answers |
//! | subrequests | 50 or 10,000 for each request; six may wait for their answers at once |
//! | Cache API | one for each location; keeps nothing on `workers.dev` |
//! | rate limits | counted for each location |
//! | Workers Cache | off unless the test switches it on; two tiers, `Cache-Control` with its variants, `Vary`, `Cache-Tag`, stale answers, collapsing, HEAD as GET, purging; a deployment empties it |
//! | isolates | end when a test says so, and with a deployment; each has its own memory |
//!
//! Where Cloudflare's documentation leaves something open, the stricter reading holds.
//!
//! Not imitated: CPU time and memory limits; how long objects run; the time that anything takes; errors 52x of origins (a
//! connection that is refused throws, as in Miniflare); purge limits; smart placement; redirect rules.
//!
//! Time stands still until a test moves it ([`Planet::advance`]). A timer ends when the clock has moved that far, or after
//! that time. Each operation that Cloudflare
//! charges for is counted ([`Planet::bill`]), also one that is refused.

mod bill;
mod name;
mod settings;

pub use bill::{Bill, Prices};
pub use name::named;
pub use settings::{Location, Settings};

use crate::{
    service::{Service, scratch},
    wait::{LONG, eventually},
};
use name::{Names, hosts};
use reqwest::{Method, RequestBuilder, Response};
use serde::{Serialize, de::DeserializeOwned};
use settings::{compatibility_date, object_classes};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long it may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// How often each isolate, and the one of the objects, may begin anew.
const LIVES: u32 = 8;

/// A running planet. Dropping this ends it.
#[derive(Debug)]
pub struct Planet {
    /// Where its clients' requests go, without a trailing slash.
    pub url: String,
    /// Follows no redirects. Finds the servers of tests by their names.
    pub client: reqwest::Client,
    // Also ends everything that it started, even if the test program is killed.
    service: Service,
}

/// A location, or one of its isolates, as clients reach it.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    planet: &'a Planet,
    location: &'a str,
    isolate: Option<usize>,
}

impl AsRef<Self> for Planet {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Planet {
    /// Starts a planet and waits until it answers.
    ///
    /// # Panics
    /// If the Worker has not been built, or does not start.
    pub async fn start(settings: Settings) -> Self {
        Self::start_code(None, settings).await
    }

    /// Starts a planet with another Worker, of this JavaScript.
    ///
    /// # Panics
    /// See [`Planet::start`].
    pub async fn start_with(code: &str, settings: Settings) -> Self {
        Self::start_code(Some(code), settings).await
    }

    async fn start_code(code: Option<&str>, settings: Settings) -> Self {
        #[derive(Serialize)]
        struct Arguments<'a> {
            build: PathBuf,
            code: Option<&'a str>,
            state: &'a Path,
            compatibility_date: String,
            lives: u32,
            objects: BTreeMap<String, String>,
            hosts: BTreeMap<String, String>,
            #[serde(flatten)]
            settings: &'a Settings,
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
        let build = root.join("edge/build");
        assert!(build.join("index_bg.wasm").exists(), "the Worker has not been built: make worker");
        let scratch = scratch("workerd");
        let mut objects = object_classes(root);
        objects.retain(|binding, _| !settings.unbound.contains(binding));
        let arguments = Arguments {
            build,
            code,
            state: &scratch.join("state"),
            compatibility_date: compatibility_date(root),
            lives: LIVES,
            objects,
            hosts: hosts(settings.variables.values()),
            settings: &settings,
        };
        let command = [
            root.join("setup/wasm").into_os_string(),
            "node".into(),
            root.join("tests/src/edge/planet/start.mjs").into_os_string(),
            serde_json::to_string(&arguments).expect("settings serialise").into(),
        ];
        let service = Service::start("workerd", scratch, GRACE, &[], command);
        let url = service.until("says where it listens", LONG, || {
            let log = service.log();
            let (_, rest) = log.split_once("http://")?;
            let (address, _) = rest.split_once('\n')?;
            Some(format!("http://{}", address.trim_end().trim_end_matches('/')))
        });
        // reqwest is built with TLS here, and needs to know the provider. An error means that another test has set it
        // already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let client = client.dns_resolver(Arc::new(Names));
        Self { url, client: client.build().expect("a client"), service }
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.service.log()
    }

    /// A location. Its isolates take turns in answering.
    pub fn at<'a>(&'a self, location: &'a str) -> Place<'a> {
        Place { planet: self, location, isolate: None }
    }

    /// Moves the clock.
    pub async fn advance(&self, time: Duration) {
        let _: u64 = self.ask(Method::POST, &format!("advance?ms={}", time.as_millis())).await;
    }

    /// The time on the planet, in seconds since 1970.
    pub async fn now(&self) -> u64 {
        let millis: u64 = self.ask(Method::POST, "advance?ms=0").await;
        millis / 1000
    }

    /// What Cloudflare charges for so far. Waits for work that is done after answers.
    pub async fn bill(&self) -> Bill {
        self.settle().await;
        self.ask(Method::GET, "bill").await
    }

    /// What is charged for this work, including what is done after its answers.
    pub async fn bill_for<T>(&self, work: impl Future<Output = T>) -> (Bill, T) {
        let before = self.bill().await;
        let done = work.await;
        (self.bill().await - before, done)
    }

    /// Everything that was charged for, in order: what, by which isolate, and which key or path.
    pub async fn operations(&self) -> Vec<String> {
        self.settle().await;
        self.ask(Method::GET, "operations").await
    }

    /// Waits until no request and no work after an answer is under way.
    ///
    /// # Panics
    /// If that does not happen.
    pub async fn settle(&self) {
        // Between two pieces of work there may be none.
        const QUIET: usize = 3;
        let mut quiet = 0;
        eventually("all work is done", async || {
            while quiet < QUIET && self.under_way().await == 0 {
                quiet += 1;
            }
            let is_done = quiet == QUIET;
            quiet = 0;
            is_done.then_some(())
        })
        .await;
    }

    /// How many requests, and pieces of work after an answer, are under way in isolates and objects.
    pub async fn under_way(&self) -> u64 {
        self.ask(Method::GET, "pending").await
    }

    /// Ends all isolates and resets all Durable Objects, as a deployment does.
    pub async fn deploy(&self) {
        let _: String = self.text(Method::POST, "deploy").await;
    }

    /// The points that were written to Analytics Engine.
    pub async fn points(&self) -> serde_json::Value {
        self.ask(Method::GET, "points").await
    }

    /// Puts a value into KV (`kv`) or R2 (`r2`), where all locations see it at once, as if it had been there before.
    pub async fn put(&self, store: &str, key: &str, bytes: Vec<u8>, metadata: Option<&str>) {
        let mut request = self.client.put(format!("{}/.test/{store}/{key}", self.url)).body(bytes);
        if let Some(metadata) = metadata {
            request = request.query(&[("metadata", metadata)]);
        }
        let status = request.send().await.expect("the planet answers").status();
        assert!(status.is_success(), "PUT {store}/{key}: {status}");
    }

    /// The newest value of a key in KV (`kv`) or R2 (`r2`), whichever location sees it.
    pub async fn stored(&self, store: &str, key: &str) -> Vec<u8> {
        let response = self.client.get(format!("{}/.test/{store}/{key}", self.url)).send().await;
        response.expect("the planet answers").bytes().await.expect("a body").to_vec()
    }

    /// The keys in KV with their metadata, whichever location sees them.
    pub async fn keys(&self) -> Vec<(String, serde_json::Value)> {
        let keys: Vec<serde_json::Value> = self.ask(Method::GET, "kv").await;
        let field = |key: &serde_json::Value| {
            (key["name"].as_str().expect("a name").to_owned(), key["metadata"].clone())
        };
        keys.iter().map(field).collect()
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> T {
        let text = self.text(method, path).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    async fn text(&self, method: Method, path: &str) -> String {
        let response = self.client.request(method, format!("{}/.test/{path}", self.url)).send().await;
        let response = response.expect("the planet answers");
        let status = response.status();
        let text = response.text().await.expect("a body");
        assert!(status.is_success(), "{path}: {status}: {text}\n{}", self.log());
        text
    }
}

impl<'a> Place<'a> {
    /// One isolate of this location.
    pub fn isolate(self, number: usize) -> Self {
        Self { isolate: Some(number), ..self }
    }

    /// A request for a path.
    pub fn request(self, method: Method, path: &str) -> RequestBuilder {
        let request = self.planet.client.request(method, format!("{}{path}", self.planet.url));
        let request = request.header("x-test-location", self.location);
        match self.isolate {
            Some(number) => request.header("x-test-isolate", number),
            None => request,
        }
    }

    /// Sends a GET request.
    pub async fn get(self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.expect("the planet answers")
    }

    /// Sends a HEAD request.
    pub async fn head(self, path: &str) -> Response {
        self.request(Method::HEAD, path).send().await.expect("the planet answers")
    }

    /// Ends the isolate with all that it remembers. The next request to it finds a new one.
    ///
    /// # Panics
    /// If no isolate was chosen, or it has begun anew too often.
    pub async fn end(self) {
        let number = self.isolate.expect("an isolate");
        let path = format!("end?location={}&isolate={number}", self.location);
        let _: String = self.planet.text(Method::POST, &path).await;
    }
}
