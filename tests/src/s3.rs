//! A real S3 server (s3s-fs, see `tests/s3`) with one empty bucket. It checks signatures with code that is not
//! Firn's.

use crate::{
    program::cached,
    service::{Service, scratch},
    wait::LONG,
};
use std::path::PathBuf;
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(3);

/// The name of its bucket.
pub const BUCKET: &str = "firn";
/// Any region will do: this server ignores regions, but verifies with the one that the client names.
pub const REGION: &str = "eu-north-1";
/// The access key of the bucket.
pub const ACCESS_KEY_ID: &str = "FIRNTEST";
/// Its secret.
pub const SECRET_ACCESS_KEY: &str = "old-snow/keeps+secrets";

/// A running S3 server.
pub struct S3 {
    service: Service,
    endpoint: String,
}

impl S3 {
    /// A server with an empty bucket.
    ///
    /// # Panics
    /// If it is not installed, or does not start.
    pub fn start() -> Self {
        let scratch = scratch("s3");
        let root = scratch.join("root");
        std::fs::create_dir_all(root.join(BUCKET)).expect("the bucket can be made");
        let program = cached("firn-test-s3-1/bin/firn-test-s3", "setup/s3-server").into_os_string();
        let mut command = vec![program, root.into_os_string()];
        // The system chooses a free port, which is in the log.
        let options = ["--host=127.0.0.1", "--port=0"].map(str::to_owned);
        let keys = [format!("--access-key={ACCESS_KEY_ID}"), format!("--secret-key={SECRET_ACCESS_KEY}")];
        command.extend(options.into_iter().chain(keys).map(Into::into));
        // Logs a few lines for each request, so that tests can tell who sent it.
        let environment = [("RUST_LOG".to_owned(), Some("firn_test_s3=info,s3s::ops=debug".to_owned()))];
        let service = Service::start("s3", scratch, GRACE, &environment, command);
        let endpoint = service.until("is listening", LONG, || {
            let log = service.log();
            let (_, rest) = log.split_once("server is running at ")?;
            rest.split_once('\n').map(|(url, _)| url.trim_end().to_owned())
        });
        Self { service, endpoint }
    }

    /// Its URL, `http://HOST:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The variables with which S3 clients find it.
    pub fn environment(&self) -> [(&'static str, &str); 4] {
        [
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
        ]
    }

    /// The variables with which an edge sends clients to this folder of the bucket, a line each.
    pub fn edge_variables(&self, prefix: &str) -> String {
        let variables = [
            ("FIRN_BLOBS", "presigned"),
            ("FIRN_S3_ENDPOINT", &self.endpoint),
            ("FIRN_S3_BUCKET", BUCKET),
            ("FIRN_S3_PREFIX", prefix),
            ("FIRN_S3_REGION", REGION),
            ("FIRN_S3_ACCESS_KEY_ID", ACCESS_KEY_ID),
            ("FIRN_S3_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
        ];
        variables.map(|(name, value)| format!("{name}={value}\n")).concat()
    }

    /// The directory with the bucket's objects. Each is a file with the object's key as name.
    pub fn objects(&self) -> PathBuf {
        self.service.dir().join("root").join(BUCKET)
    }

    /// How many files it has of uploads that were neither completed nor aborted.
    ///
    /// # Panics
    /// If its directory cannot be read.
    pub fn unfinished_uploads(&self) -> usize {
        let entries = std::fs::read_dir(self.service.dir().join("root")).expect("the server's directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names.filter(|name| name.as_encoded_bytes().starts_with(b".upload")).count()
    }

    /// How many requests used presigned URLs.
    pub fn presigned_requests(&self) -> usize {
        self.service.log().matches("checking presigned url").count()
    }
}
