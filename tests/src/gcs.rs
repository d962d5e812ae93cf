//! An emulator of Google Cloud Storage (fake-gcs-server, see `tests/gcs`), with one empty bucket. It differs from the
//! service: it checks no credentials, keeps everything in memory, and supports multipart uploads only through
//! `tests/gcs`.

use crate::{
    program::cached,
    service::{Service, scratch},
    wait::LONG,
};
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(3);
const INSTALLER: &str = "setup/bucket-servers";

/// The name of its bucket.
pub const BUCKET: &str = "firn";

/// A running emulator.
pub struct Gcs {
    _service: Service,
    endpoint: String,
    /// The key of a service account that turns authentication off.
    key: String,
}

impl Gcs {
    /// A server with an empty bucket.
    ///
    /// # Panics
    /// If it is not installed, or does not start.
    pub fn start() -> Self {
        let python = cached("fake-gcs-1/bin/python", INSTALLER);
        let server = cached("fake-gcs-1/bin/fake-gcs-server", INSTALLER);
        let front = concat!(env!("CARGO_MANIFEST_DIR"), "/gcs/server.py");
        let command = [python.into_os_string(), front.into(), server.into_os_string(), BUCKET.into()];
        let service = Service::start("gcs", scratch("gcs"), GRACE, &[], command);
        let endpoint = service.until("is listening", LONG, || {
            let log = service.log();
            let (_, rest) = log.split_once("server is running at ")?;
            Some(rest.split_once('\n')?.0.trim().to_owned())
        });
        let key = format!(
            r#"{{"gcs_base_url":"{endpoint}","disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}}"#
        );
        Self { _service: service, endpoint, key }
    }

    /// The variables with which clients find it.
    pub fn environment(&self) -> [(&'static str, &str); 2] {
        [("GOOGLE_BASE_URL", &self.endpoint), ("GOOGLE_SERVICE_ACCOUNT_KEY", &self.key)]
    }
}
