//! How a planet is set up.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How the Worker is run, and where.
#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    /// The Worker's variables.
    pub variables: BTreeMap<String, String>,
    /// The locations with their number of isolates.
    pub locations: Vec<Location>,
    /// Whether the Worker has a KV namespace.
    pub kv: bool,
    /// The Durable Object bindings of `wrangler.toml` that the Worker does not have here, and `PULLS` if it has no
    /// Analytics Engine.
    pub unbound: BTreeSet<String>,
    /// How many uses in a minute each rate limit allows a client, by binding. Others do not exist.
    pub limits: BTreeMap<String, u32>,
    /// Whether KV and R2 have production's rules. Otherwise each write succeeds and shows at once.
    pub strict: bool,
    /// Whether time moves only when the test moves it.
    pub standing: bool,
    /// How many requests a Durable Object takes in a second.
    pub object_rate: u32,
    /// How many subrequests a request may make.
    pub subrequests: u32,
    /// Whether `fetch` to an IP address works.
    pub addresses: bool,
    /// Whether this is `workers.dev`, where the Cache API keeps nothing.
    pub workers_dev: bool,
    /// Whether Workers Cache stands before the Worker.
    pub workers_cache: bool,
}

/// A place where Cloudflare has machines.
#[derive(Debug, Clone, Serialize)]
pub struct Location {
    /// Its name.
    pub name: String,
    /// The number of isolates that run the Worker there.
    pub isolates: usize,
}

impl Settings {
    /// Two locations with two isolates each on the paid plan, with everything bound, and this backend. See
    /// [`Origin::named`](crate::edge::Origin::named).
    pub fn new(backend_url: &str) -> Self {
        let variables = [("FIRN_BACKEND_URL", backend_url), ("FIRN_LOG", "none")];
        Self {
            variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            locations: Vec::new(),
            kv: true,
            // Opt-in, as in wrangler.toml.
            unbound: BTreeSet::from(["PULLS".to_owned()]),
            limits: BTreeMap::new(),
            strict: true,
            standing: true,
            object_rate: 1000,
            subrequests: 10_000,
            addresses: false,
            workers_dev: false,
            workers_cache: false,
        }
        .at("lhr", 2)
        .at("nrt", 2)
    }

    /// The same, with this location.
    pub fn at(mut self, name: &str, isolates: usize) -> Self {
        self.locations.retain(|location| location.name != name);
        self.locations.push(Location { name: name.to_owned(), isolates });
        self
    }

    /// The same, with this variable.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same, with this limit of uses in a minute.
    pub fn limit(mut self, binding: &str, uses: u32) -> Self {
        self.limits.insert(binding.to_owned(), uses);
        self
    }

    /// The same on the free plan.
    pub fn free(self) -> Self {
        Self { subrequests: 50, ..self }
    }
}

/// The date in wrangler.toml, so that tests run what is deployed.
pub(super) fn compatibility_date(root: &Path) -> String {
    let text = std::fs::read_to_string(root.join("wrangler.toml")).expect("wrangler.toml");
    let line = text.lines().find_map(|line| line.strip_prefix("compatibility_date = ")).expect("a date");
    line.trim_matches('"').to_owned()
}

/// The Durable Object classes in wrangler.toml by their bindings.
pub(super) fn object_classes(root: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root.join("wrangler.toml")).expect("wrangler.toml");
    let value = |section: &str, name: &str| {
        let lines = section.lines().take_while(|line| !line.starts_with('['));
        let mut values = lines.filter_map(|line| line.strip_prefix(&format!("{name} = ")));
        values.next().map(|value| value.trim_matches('"').to_owned())
    };
    let sections = text.split("\n[[durable_objects.bindings]]\n").skip(1);
    sections
        .map(|section| value(section, "name").zip(value(section, "class_name")).expect("a binding"))
        .collect()
}

/// The servers of the test that are named in these values: `NAME.example:PORT` is a server on this port of this machine.
pub(super) fn hosts<'a>(values: impl Iterator<Item = &'a String>) -> BTreeMap<String, String> {
    let words = values.flat_map(|value| value.split([' ', ',', '/']));
    let hosts = words.filter_map(|word| {
        let (name, port) = word.split_once(':')?;
        (name.ends_with(".example") && port.parse::<u16>().is_ok())
            .then(|| (word.to_owned(), format!("127.0.0.1:{port}")))
    });
    hosts.collect()
}
