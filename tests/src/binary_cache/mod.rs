//! Real binary caches: made by `nix copy`, signed, served by nginx, and perhaps with a proxy in front that injects
//! faults.

mod content;
mod proxy;

pub use content::{CacheDir, Compression};
pub use proxy::{Asked, FaultyCache, Reaction};

use crate::{
    service::{Service, scratch},
    wait::LONG,
};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

const GRACE: Duration = Duration::from_secs(3);

/// nginx that serves a binary cache.
pub struct Cache {
    service: Service,
    address: String,
    key: String,
}

/// A request that nginx has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What was asked for, `/nar/….nar.xz`.
    pub path: String,
    /// The status of the answer.
    pub status: u16,
    /// How many bytes of content were sent.
    pub bytes: u64,
    /// The range that was asked for, `bytes=100-`.
    pub range: Option<String>,
}

impl Request {
    /// Whether it asked for the contents of a store path.
    pub fn is_nar(&self) -> bool {
        self.path.starts_with("/nar/")
    }
}

impl Cache {
    /// Serves a cache to everybody.
    ///
    /// # Panics
    /// If nginx is not installed, or does not start.
    pub fn serve(dir: &CacheDir) -> Self {
        Self::start(dir.path(), dir.key(), None)
    }

    /// Serves a cache to those who have this name and password.
    ///
    /// # Panics
    /// If nginx is not installed, or does not start.
    pub fn serve_privately(dir: &CacheDir, name: &str, password: &str) -> Self {
        Self::start(dir.path(), dir.key(), Some((name, password)))
    }

    /// The bundled package set's cache, made by `setup/binary-cache`.
    ///
    /// # Panics
    /// If nginx is not installed, or does not start.
    pub fn bundled(compression: Compression) -> Self {
        Self::serve(&CacheDir::bundled(compression))
    }

    fn start(files: &Path, key: &str, account: Option<(&str, &str)>) -> Self {
        let scratch = scratch("nginx");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../setup/lib/serve-cache");
        // nginx cannot be given port 0.
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address").to_string();
        drop(free);
        let mut command = vec![script.to_owned(), files.display().to_string(), address.clone()];
        command.push(scratch.display().to_string());
        if let Some((name, password)) = account {
            let users = scratch.join("users");
            std::fs::write(&users, format!("{name}:{{PLAIN}}{password}\n")).expect("a file");
            command.push(users.display().to_string());
        }
        let service = Service::start("nginx", scratch, GRACE, &[], command);
        service.until("answers", LONG, || TcpStream::connect(&address).ok());
        Self { service, address, key: key.to_owned() }
    }

    /// Its URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The public key of its signatures, `NAME:BASE64`.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The requests that it has answered so far, in the order in which they ended.
    ///
    /// # Panics
    /// If its log is not as configured.
    pub fn requests(&self) -> Vec<Request> {
        let log = std::fs::read_to_string(self.service.dir().join("requests")).unwrap_or_default();
        let parse = |line: &str| {
            let mut words = line.split(' ');
            Some(Request {
                path: words.next()?.to_owned(),
                status: words.next()?.parse().ok()?,
                bytes: words.next()?.parse().ok()?,
                range: words.next().filter(|range| *range != "-").map(str::to_owned),
            })
        };
        log.lines().map(|line| parse(line).unwrap_or_else(|| panic!("not a line of nginx: {line}"))).collect()
    }

    /// The contents of store paths that it has sent so far, in the order in which they ended.
    pub fn nars(&self) -> Vec<Request> {
        self.requests().into_iter().filter(Request::is_nar).collect()
    }
}
