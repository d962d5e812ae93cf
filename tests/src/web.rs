//! Web servers for what Firn downloads.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Serves a JSON document to every client, in a thread that ends with the test program. Returns the URL, and the
/// request lines as they arrive.
///
/// # Panics
/// If it cannot listen.
pub fn serve(document: String) -> (String, Receiver<String>) {
    let (url, requests) = answer(move |_| ("200 OK", document.clone().into_bytes()));
    (format!("{url}/data.json"), requests)
}

/// Serves the files of a directory. Fails after `most` of them. Returns the URL, and the request lines of the
/// requests that were answered with a file.
///
/// # Panics
/// If it cannot listen.
pub fn serve_files(dir: PathBuf, most: usize) -> (String, Receiver<String>) {
    let mut served = 0;
    answer(move |path| {
        if served == most {
            return ("500 Internal Server Error", Vec::new());
        }
        // Git asks with parameters first.
        let path = path.split('?').next().unwrap_or_default();
        match std::fs::read(dir.join(path.trim_start_matches('/'))) {
            Ok(bytes) => {
                served += 1;
                ("200 OK", bytes)
            }
            Err(_) => ("404 Not Found", Vec::new()),
        }
    })
}

/// Serves these bytes to every client, the second half after a pause. Returns the URL.
///
/// # Panics
/// If it cannot listen.
pub fn serve_slowly(bytes: Vec<u8>, pause: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let bytes = Arc::new(bytes);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let bytes = Arc::clone(&bytes);
            std::thread::spawn(move || {
                BufReader::new(&stream).lines().map_while(Result::ok).find(String::is_empty);
                let (first, second) = bytes.split_at(bytes.len() / 2);
                let head = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    bytes.len()
                );
                // The client may be gone.
                if stream.write_all(&[head.as_bytes(), first].concat()).is_ok() {
                    std::thread::sleep(pause);
                    let _ = stream.write_all(second);
                }
            });
        }
    });
    url
}

/// A server of nixpkgs' channels: each is redirected to the release that it is at, which has its commit.
pub struct Channels {
    url: String,
    /// The commits, by channel.
    commits: Arc<Mutex<HashMap<String, String>>>,
    /// What every request is answered with instead.
    fault: Arc<Mutex<Option<&'static str>>>,
    requests: Receiver<String>,
}

impl Channels {
    /// One that has no channels.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start() -> Self {
        let (commits, fault) = (Arc::<Mutex<HashMap<String, String>>>::default(), Arc::<Mutex<_>>::default());
        let (known, failing) = (Arc::clone(&commits), Arc::clone(&fault));
        let (url, requests) = answer(move |path| {
            if let Some(status) = *failing.lock().expect("nothing panics while holding the lock") {
                return (status, Vec::new());
            }
            let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
            let commits = known.lock().expect("nothing panics while holding the lock");
            match parts[..] {
                [channel, "git-revision"] => match commits.get(channel) {
                    Some(commit) => {
                        ("302 Found", format!("/releases/{channel}.{commit}/git-revision").into())
                    }
                    None => ("404 Not Found", Vec::new()),
                },
                ["releases", release, "git-revision"] => {
                    ("200 OK", release.rsplit('.').next().unwrap_or_default().into())
                }
                _ => ("404 Not Found", Vec::new()),
            }
        });
        Self { url, commits, fault, requests }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on a channel is at this commit.
    pub fn publish(&self, channel: &str, commit: &str) {
        let mut commits = self.commits.lock().expect("nothing panics while holding the lock");
        commits.insert(channel.to_owned(), commit.to_owned());
    }

    /// From now on every answer is this status, or again what it should be.
    pub fn fail(&self, status: Option<&'static str>) {
        *self.fault.lock().expect("nothing panics while holding the lock") = status;
    }

    /// How many releases it has named since the last call.
    pub fn named(&self) -> usize {
        self.requests.try_iter().count()
    }
}

/// Answers every request with the status and body for its path. The body of a redirect is its location.
fn answer(
    respond: impl FnMut(&str) -> (&'static str, Vec<u8>) + Send + 'static,
) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (sender, requests) = channel();
    let respond = Arc::new(Mutex::new(respond));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (respond, sender) = (Arc::clone(&respond), sender.clone());
            // A client that connects and sends nothing must not delay others.
            std::thread::spawn(move || {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let Some(first) = lines.next() else { return };
                lines.find(String::is_empty);
                let path = first.split(' ').nth(1).unwrap_or_default();
                let (status, body) = (respond.lock().expect("nothing panics while holding the lock"))(path);
                // The client or the test may be gone already. The request is recorded before the client gets the
                // answer.
                if status == "200 OK" {
                    let _ = sender.send(first);
                }
                let (length, place) = (body.len(), String::from_utf8_lossy(&body).into_owned());
                let location =
                    if status == "302 Found" { format!("location: {place}\r\n") } else { String::new() };
                let head = format!(
                    "HTTP/1.1 {status}\r\n{location}connection: close\r\ncontent-length: {length}\r\n\r\n"
                );
                let _ = stream.write_all(&[head.as_bytes(), &body].concat());
            });
        }
    });
    (url, requests)
}
