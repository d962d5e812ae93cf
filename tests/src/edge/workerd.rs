//! One Worker in one workerd, with its own state.

use crate::{
    service::{Service, scratch},
    wait::{LONG, eventually},
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long it may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// How a Worker is run.
#[derive(Debug, Clone, Serialize)]
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
    // Also ends everything that the Worker started, even if the test program is killed.
    service: Service,
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

impl Edge {
    /// Starts a Worker and waits until it answers.
    ///
    /// # Panics
    /// If the Worker has not been built, or does not start.
    pub async fn start(settings: Settings) -> Self {
        #[derive(Serialize)]
        struct Arguments<'a> {
            build: PathBuf,
            worker: &'a str,
            state: &'a Path,
            compatibility_date: String,
            #[serde(flatten)]
            settings: Settings,
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
        let build = root.join("edge/build");
        assert!(build.join("index_bg.wasm").exists(), "the Worker has not been built: make worker");
        let scratch = scratch("workerd");
        let arguments = Arguments {
            build,
            worker: include_str!("worker.mjs"),
            state: &scratch.join("state"),
            compatibility_date: compatibility_date(root),
            settings,
        };
        let command = [
            root.join("setup/wasm").into_os_string(),
            "node".into(),
            root.join("tests/src/edge/workerd.mjs").into_os_string(),
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
        Self { url, client: client.build().expect("a client"), service }
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.service.log()
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

    /// Waits until KV has this many keys. They are written after the answer.
    ///
    /// # Panics
    /// If it does not get them.
    pub async fn await_keys(&self, count: usize) -> Vec<(String, serde_json::Value)> {
        eventually(&format!("KV has {count} keys"), async || {
            let keys = self.keys().await;
            (keys.len() >= count).then_some(keys)
        })
        .await
    }

    /// Waits until KV has this manifest under both its keys: by its digest, and as an image of a package set.
    ///
    /// # Panics
    /// If it does not get it.
    pub async fn await_manifest(&self, digest: &str) {
        eventually("KV has the manifest", async || {
            let keys = self.keys().await;
            (keys.iter().filter(|(_, metadata)| metadata["digest"] == digest).count() == 2).then_some(())
        })
        .await;
    }
}

/// The date in wrangler.toml, so that tests run what is deployed.
fn compatibility_date(root: &Path) -> String {
    let text = std::fs::read_to_string(root.join("wrangler.toml")).expect("wrangler.toml");
    let line = text.lines().find_map(|line| line.strip_prefix("compatibility_date = ")).expect("a date");
    line.trim_matches('"').to_owned()
}
