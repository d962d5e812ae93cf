//! One Worker on a planet with one location and one isolate, where time passes by itself.

use crate::{
    edge::planet::{self, Planet},
    wait::eventually,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// For how long a location does not see what has been written to KV, if it has just found nothing there.
const KV_DELAY: Duration = Duration::from_secs(61);

/// How a Worker is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its variables.
    pub variables: BTreeMap<String, String>,
    /// Whether it has a KV namespace.
    pub kv: bool,
    /// Whether it has the Durable Objects that ask the backend.
    pub flights: bool,
    /// Whether it has the Durable Objects that know what tags name.
    pub tags: bool,
    /// Whether it has the Durable Objects that record which digests belong to a name.
    pub repositories: bool,
    /// Whether it has Analytics Engine.
    pub points: bool,
    /// Whether the Cache API stores anything.
    pub cache: bool,
    /// How many look-ups a client may make in a minute.
    pub look_ups: Option<u32>,
    /// How many misses a client may cause in a minute.
    pub misses: Option<u32>,
}

/// The number of reads.
#[derive(Debug, Clone, Copy, Default, serde::Deserialize)]
pub struct Reads {
    /// From KV.
    pub kv: u64,
    /// From R2.
    pub r2: u64,
}

/// A running Worker. Dropping this ends it.
#[derive(Debug)]
pub struct Edge {
    /// Its URL, without a trailing slash.
    pub url: String,
    /// Follows no redirects.
    pub client: reqwest::Client,
    planet: Planet,
}

impl Settings {
    /// Everything is bound, and this is the backend.
    pub fn new(backend_url: &str) -> Self {
        let variables = [("FIRN_BACKEND_URL", backend_url), ("FIRN_LOG", "none")];
        Self {
            variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            kv: true,
            flights: true,
            tags: true,
            repositories: true,
            points: true,
            cache: true,
            look_ups: None,
            misses: None,
        }
    }

    /// The same, without the caches before KV.
    pub fn forgetful(self) -> Self {
        Self { cache: false, ..self.with("FIRN_MEMORY_BYTES", "0") }
    }

    /// The same, with this variable.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl AsRef<Planet> for Edge {
    fn as_ref(&self) -> &Planet {
        &self.planet
    }
}

impl Edge {
    /// Starts a Worker and waits until it answers.
    ///
    /// # Panics
    /// If the Worker has not been built, or does not start.
    pub async fn start(settings: Settings) -> Self {
        let Settings { variables, kv, flights, tags, repositories, points, cache, look_ups, misses } =
            settings;
        let bound = [("FLIGHTS", flights), ("REPOSITORIES", repositories), ("TAGS", tags), ("PULLS", points)];
        let unbound = bound.into_iter().filter(|(_, is_bound)| !is_bound).map(|(name, _)| name.to_owned());
        let limits = [("LOOKUPS", look_ups), ("MISSES", misses)];
        let limits = limits.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), limit?)));
        let planet = Planet::start(planet::Settings {
            variables,
            locations: vec![planet::Location { name: "here".to_owned(), isolates: 1 }],
            kv,
            unbound: unbound.collect::<BTreeSet<_>>(),
            limits: limits.collect(),
            strict: true,
            standing: false,
            addresses: true,
            workers_dev: !cache,
            ..planet::Settings::new("")
        })
        .await;
        Self { url: planet.url.clone(), client: planet.client.clone(), planet }
    }

    /// Lets time pass.
    pub async fn advance(&self, time: Duration) {
        self.planet.advance(time).await;
    }

    /// Lets so much time pass that KV is read anew: until then a location repeats what it has read, also that there is
    /// nothing.
    pub async fn renew_kv(&self) {
        self.advance(KV_DELAY).await;
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.planet.log()
    }

    /// The points that it wrote to Analytics Engine.
    pub async fn points(&self) -> serde_json::Value {
        self.get("/.test/points").await.json().await.expect("a list")
    }

    /// How many requests it sent to the Durable Objects that ask the backend.
    pub async fn boarded(&self) -> usize {
        self.get("/.test/boarded").await.json().await.expect("a number")
    }

    /// How often it has read KV and R2.
    pub async fn reads(&self) -> Reads {
        self.get("/.test/reads").await.json().await.expect("two numbers")
    }

    /// A request for a path.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// Sends a GET request.
    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.request(reqwest::Method::GET, path).send().await.expect("the edge answers")
    }

    /// Sends a HEAD request.
    pub async fn head(&self, path: &str) -> reqwest::Response {
        self.request(reqwest::Method::HEAD, path).send().await.expect("the edge answers")
    }

    /// Puts a value into KV (`kv`) or R2 (`r2`).
    pub async fn put(&self, store: &str, key: &str, bytes: Vec<u8>, metadata: Option<&str>) {
        let mut request = self.request(reqwest::Method::PUT, &format!("/.test/{store}/{key}")).body(bytes);
        if let Some(metadata) = metadata {
            request = request.query(&[("metadata", metadata)]);
        }
        let status = request.send().await.expect("the edge answers").status();
        assert!(status.is_success(), "PUT {store}/{key}: {status}");
    }

    /// The keys in KV with their metadata.
    pub async fn keys(&self) -> Vec<(String, serde_json::Value)> {
        let keys: Vec<serde_json::Value> = self.get("/.test/kv").await.json().await.expect("a list");
        let field = |key: &serde_json::Value| {
            (key["name"].as_str().expect("a name").to_owned(), key["metadata"].clone())
        };
        keys.iter().map(field).collect()
    }

    /// Waits until KV has this many keys, which are written after the answer, and shows them here. A minute passes.
    ///
    /// # Panics
    /// If it does not get them.
    pub async fn await_keys(&self, count: usize) -> Vec<(String, serde_json::Value)> {
        let keys = eventually(&format!("KV has {count} keys"), async || {
            let keys = self.keys().await;
            (keys.len() >= count).then_some(keys)
        })
        .await;
        self.renew_kv().await;
        keys
    }

    /// Waits until KV has this manifest under both its keys, by its digest and as an image of a package set, and shows it
    /// here. A minute passes.
    ///
    /// # Panics
    /// If it does not get it.
    pub async fn await_manifest(&self, digest: &str) {
        eventually("KV has the manifest", async || {
            let keys = self.keys().await;
            (keys.iter().filter(|(_, metadata)| metadata["digest"] == digest).count() == 2).then_some(())
        })
        .await;
        self.renew_kv().await;
    }
}
