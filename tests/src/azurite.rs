//! Azurite, Azure's own emulator of its blob storage, with one empty container. It differs from the service: it has
//! one account, whose key is public, and keeps everything in memory.

use crate::{
    program::{Program, cached, find},
    service::{Service, scratch},
    wait::LONG,
};
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(3);
const INSTALLER: &str = "setup/bucket-servers";
/// The emulator's only account and its key, from Azure's documentation.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// The name of its container.
pub const CONTAINER: &str = "firn";

/// A running Azurite.
pub struct Azurite {
    _service: Service,
    /// Includes the account: `http://HOST:PORT/ACCOUNT`.
    endpoint: String,
}

impl Azurite {
    /// A server with an empty container.
    ///
    /// # Panics
    /// If it is not installed, or does not start.
    pub fn start() -> Self {
        let program = cached("azurite-1/node_modules/azurite/dist/src/blob/main.js", INSTALLER);
        let mut command = vec![find("node").into_os_string(), program.into_os_string()];
        let options =
            ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--disableTelemetry"];
        // The client may use a newer version of the protocol than the emulator supports.
        command.extend(options.into_iter().chain(["--skipApiVersionCheck", "--silent"]).map(Into::into));
        let service = Service::start("azurite", scratch("azurite"), GRACE, &[], command);
        let address = service.until("is listening", LONG, || {
            let log = service.log();
            let (_, rest) = log.split_once("successfully listens on ")?;
            Some(rest.split_once('\n')?.0.trim().to_owned())
        });
        let endpoint = format!("{address}/{ACCOUNT}");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/azurite/container.mjs");
        Program::new("node").args([script, &endpoint, ACCOUNT, KEY, CONTAINER]).run().succeeded();
        Self { _service: service, endpoint }
    }

    /// The variables with which clients find it.
    pub fn environment(&self) -> [(&'static str, &str); 3] {
        [
            ("AZURE_STORAGE_ENDPOINT", &self.endpoint),
            ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT),
            ("AZURE_STORAGE_ACCOUNT_KEY", KEY),
        ]
    }
}
