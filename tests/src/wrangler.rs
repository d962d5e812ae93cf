//! The edge under `wrangler dev`: `wrangler.toml`, real workerd, local KV and Durable Objects.

use crate::{
    backend::Backend,
    registry::Registry,
    service::{Service, scratch},
    wait::LONG,
};
use std::path::Path;
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(10);

/// The secret that edge and backend share.
pub const SECRET: &str = "the snow of yesteryear";

/// A running edge with empty caches.
pub struct Wrangler {
    service: Service,
    address: String,
}

impl Wrangler {
    /// An edge in front of a backend that has [`SECRET`].
    ///
    /// # Panics
    /// If the Worker has not been built, or the edge does not answer.
    pub fn start(backend: &Backend) -> Self {
        Self::with(backend, "")
    }

    /// The same with more variables, one `NAME=value` a line.
    ///
    /// # Panics
    /// See [`Wrangler::start`].
    pub fn with(backend: &Backend, variables: &str) -> Self {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests are in the repository");
        assert!(
            repository.join("edge/build/index.js").exists(),
            "the Worker has not been built; run: make worker"
        );
        let scratch = scratch("edge");
        let variables =
            format!("FIRN_BACKEND_URL=http://{}\nFIRN_SECRET={SECRET}\n{variables}", backend.address());
        std::fs::write(scratch.join("vars"), variables).expect("the variables can be written");
        let path = |name: &str| scratch.join(name).display().to_string();
        let command = [
            // `[build]` in wrangler.toml is relative to the repository.
            "env".into(),
            format!("--chdir={}", repository.display()),
            repository.join("setup/wasm").display().to_string(),
            "wrangler".into(),
            "dev".into(),
            "--local".into(),
            "--config".into(),
            repository.join("wrangler.toml").display().to_string(),
            "--ip=127.0.0.1".into(),
            // The system chooses a free port.
            "--port=0".into(),
            "--inspector-port=0".into(),
            format!("--persist-to={}", path("state")),
            format!("--env-file={}", path("vars")),
            "--show-interactive-dev-session=false".into(),
            "--log-level=log".into(),
        ];
        let environment = [
            ("CI", "1"),
            ("CLOUDFLARE_CF_FETCH_ENABLED", "false"),
            ("NO_COLOR", "1"),
            ("WRANGLER_SEND_ERROR_REPORTS", "false"),
            ("WRANGLER_SEND_METRICS", "false"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
        let service = Service::start("edge", scratch, GRACE, &environment, command);
        let address = service.until("is ready", LONG, || {
            let log = service.log();
            let (_, rest) = log.split_once("Ready on http://")?;
            rest.split_once('\n').map(|(address, _)| address.trim_end().to_owned())
        });
        let edge = Self { service, address };
        edge.service.until("answers", LONG, || {
            edge.registry()
                .try_request("GET", "/v2/", &[])
                // A private edge answers 401.
                .is_ok_and(|answer| [200, 401].contains(&answer.status))
                .then_some(())
        });
        edge
    }

    /// `HOST:PORT`, as it precedes an image's name.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A client of the edge.
    pub fn registry(&self) -> Registry {
        Registry::at(&self.address)
    }
}
