//! A proxy in front of a binary cache that does what bad servers and networks do.

use crate::{binary_cache::Cache, registry::Registry};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How often a connection that has stalled looks whether it may go on.
const STEP: Duration = Duration::from_millis(20);

/// What a client asked the proxy for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `/nar/….nar.xz`.
    pub path: String,
    /// The range, `bytes=100-`.
    pub range: Option<String>,
    /// How often this path had been asked for before, since the proxy's behaviour was set.
    pub before: usize,
}

impl Asked {
    /// Whether this is the contents of a store path.
    pub fn is_nar(&self) -> bool {
        self.path.starts_with("/nar/")
    }

    /// Whether this describes a store path.
    pub fn is_narinfo(&self) -> bool {
        self.path.ends_with(".narinfo")
    }
}

/// What the proxy does.
#[derive(Debug, Clone)]
pub enum Reaction {
    /// Answers as the cache does.
    Pass,
    /// Answers with this status and a page of HTML.
    Status(u16),
    /// Sends the client to this URL.
    Redirect(String),
    /// Ends the connection after this number of bytes of the cache's content, as if the network had failed.
    Cut(usize),
    /// Sends this number of bytes of the cache's content, and the rest only when the test [releases](FaultyCache::release) it.
    Stall(usize),
    /// Answers with this content.
    Content(Vec<u8>),
    /// Answers with the first content and then with the second one, again and again, without end.
    Endless(Vec<u8>, Vec<u8>),
}

type Behaviour = dyn FnMut(&Asked) -> Reaction + Send;

struct State {
    behaviour: Box<Behaviour>,
    asked: Vec<Asked>,
    times: HashMap<String, usize>,
    released: bool,
}

/// A binary cache behind a proxy.
pub struct FaultyCache {
    cache: Cache,
    address: String,
    state: Arc<Mutex<State>>,
    sent: Arc<AtomicU64>,
}

impl FaultyCache {
    /// A proxy that does nothing bad yet. It ends with the test program.
    ///
    /// # Panics
    /// If it cannot listen.
    pub fn before(cache: Cache) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let behaviour: Box<Behaviour> = Box::new(|_| Reaction::Pass);
        let state = Arc::new(Mutex::new(State {
            behaviour,
            asked: Vec::new(),
            times: HashMap::new(),
            released: false,
        }));
        let sent = Arc::new(AtomicU64::new(0));
        let (shared, counter, upstream) =
            (Arc::clone(&state), Arc::clone(&sent), Registry::at(cache.address()));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, counter, upstream) =
                    (Arc::clone(&shared), Arc::clone(&counter), upstream.clone());
                // A client that goes away ends its thread only.
                std::thread::spawn(move || answer(&stream, &shared, &counter, &upstream));
            }
        });
        Self { cache, address, state, sent }
    }

    /// From now on, requests are answered so.
    pub fn behave(&self, behaviour: impl FnMut(&Asked) -> Reaction + Send + 'static) {
        let mut state = self.state();
        state.behaviour = Box::new(behaviour);
        state.asked.clear();
        state.times.clear();
        state.released = false;
        self.sent.store(0, Ordering::Relaxed);
    }

    /// Lets everything that has stalled go on.
    pub fn release(&self) {
        self.state().released = true;
    }

    /// What clients have asked for since the behaviour was set.
    pub fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// How many bytes of content it has sent since the behaviour was set.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Its URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The public key of the cache's signatures.
    pub fn key(&self) -> &str {
        self.cache.key()
    }

    /// The cache that it is in front of.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding the lock")
    }
}

/// Answers one request. Fails when the client is gone, which ends a connection like any other.
fn answer(stream: &TcpStream, state: &Mutex<State>, sent: &AtomicU64, upstream: &Registry) -> Option<()> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let headers: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let header = |name: &str| {
        let named = |line: &String| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        headers.iter().find_map(named)
    };
    let reaction = {
        let mut state = state.lock().expect("nothing panics while holding the lock");
        let times = state.times.entry(path.clone()).or_default();
        let asked = Asked { path: path.clone(), range: header("range"), before: *times };
        *times += 1;
        state.asked.push(asked.clone());
        (state.behaviour)(&asked)
    };
    let mut out = stream;
    let mut head =
        |text: String| out.write_all(format!("HTTP/1.1 {text}\r\nconnection: close\r\n\r\n").as_bytes());
    let body = |content: &[u8]| {
        for part in content.chunks(1 << 16) {
            // Counted before the client can have it.
            sent.fetch_add(part.len() as u64, Ordering::Relaxed);
            { stream }.write_all(part).ok()?;
        }
        Some(())
    };
    let fetch = || {
        let kept: Vec<(String, String)> = ["range", "if-range", "authorization"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), header(name)?)))
            .collect();
        let kept: Vec<(&str, &str)> =
            kept.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        upstream.try_request(&method, &path, &kept).ok()
    };
    // The cache's head, with the length of all that was asked for.
    let passed = |answer: &crate::registry::Answer| {
        let named =
            ["content-length", "content-type", "content-range", "accept-ranges", "etag", "last-modified"];
        let lines = named.iter().filter_map(|name| Some(format!("\r\n{name}: {}", answer.header(name)?)));
        format!("{} Passed{}", answer.status, lines.collect::<String>())
    };
    match reaction {
        Reaction::Pass => {
            let answer = fetch()?;
            head(passed(&answer)).ok()?;
            body(&answer.body)
        }
        Reaction::Status(status) => {
            let page = b"<html>no</html>";
            head(format!("{status} Fault\r\ncontent-length: {}\r\ncontent-type: text/html", page.len()))
                .ok()?;
            body(page)
        }
        Reaction::Redirect(url) => head(format!("302 Found\r\ncontent-length: 0\r\nlocation: {url}")).ok(),
        Reaction::Cut(bytes) => {
            let answer = fetch()?;
            head(passed(&answer)).ok()?;
            body(&answer.body[..bytes.min(answer.body.len())])
        }
        Reaction::Stall(bytes) => {
            let answer = fetch()?;
            head(passed(&answer)).ok()?;
            let (start, rest) = answer.body.split_at(bytes.min(answer.body.len()));
            body(start)?;
            stream.set_read_timeout(Some(STEP)).ok()?;
            while !state.lock().expect("nothing panics while holding the lock").released {
                // The client has nothing more to say, but it may have had enough.
                match { stream }.read(&mut [0]) {
                    Ok(0) => return None,
                    Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                        return None;
                    }
                    _ => {}
                }
            }
            body(rest)
        }
        Reaction::Content(content) => {
            head(format!("200 OK\r\ncontent-length: {}", content.len())).ok()?;
            body(&content)
        }
        Reaction::Endless(start, more) => {
            head("200 OK".to_owned()).ok()?;
            body(&start)?;
            loop {
                body(&more)?;
            }
        }
    }
}
