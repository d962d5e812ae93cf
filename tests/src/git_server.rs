//! A git host that requires credentials: `git http-backend` behind Basic authentication.

use firn_shared::link::credentials::Credentials;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// A running host; its threads end with the test program.
pub struct GitServer {
    host: String,
    users: Arc<Mutex<Credentials>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl GitServer {
    /// A host of the repositories in a directory, for the user `name:password`.
    ///
    /// # Panics
    /// If it cannot listen.
    pub fn start(root: &Path, user: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let host = listener.local_addr().expect("an address").to_string();
        let users = Arc::new(Mutex::new(user.parse().expect("a name and a password")));
        let server = Self { host, users, seen: Arc::default() };
        let (users, seen, root) = (Arc::clone(&server.users), Arc::clone(&server.seen), root.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (users, seen, root) = (Arc::clone(&users), Arc::clone(&seen), root.clone());
                // It does not matter if a client disconnects.
                std::thread::spawn(move || drop(serve(&stream, &root, &users, &seen)));
            }
        });
        server
    }

    /// The URL of a repository, without credentials.
    pub fn url(&self, repository: &str) -> String {
        format!("http://{}/{repository}", self.host)
    }

    /// The same, with `name:password`.
    pub fn url_for(&self, user: &str, repository: &str) -> String {
        format!("http://{user}@{}/{repository}", self.host)
    }

    /// The host and port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Admits another user from now on, and no one else.
    ///
    /// # Panics
    /// If this is not `name:password`.
    pub fn admit(&self, user: &str) {
        *self.users.lock().expect("nothing panics while holding the lock") =
            user.parse().expect("a name and a password");
    }

    /// The request lines of the requests that it has answered so far.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("nothing panics while holding the lock").clone()
    }
}

fn serve(
    mut stream: &TcpStream,
    root: &PathBuf,
    users: &Mutex<Credentials>,
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let Some(first) = lines.first() else { return Ok(()) };
    let header = |name: &str| {
        let pairs = lines.iter().filter_map(|line| line.split_once(": "));
        pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
    };
    let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let admitted = users
        .lock()
        .expect("nothing panics while holding the lock")
        .admit(header("authorization").as_deref());
    if !admitted {
        let head = "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"git\"\r\nconnection: close\r\n\
                    content-length: 0\r\n\r\n";
        return stream.write_all(head.as_bytes());
    }
    seen.lock().expect("nothing panics while holding the lock").push(first.clone());
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", length.to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding").unwrap_or_default())
        .env("GIT_PROTOCOL", header("git-protocol").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().expect("stdin is piped").write_all(&body)?;
    let output = child.wait_with_output()?.stdout;
    let end = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(0);
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK");
    let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{head}\r\n\r\n");
    stream.write_all(&[answer.as_bytes(), &output[end + 4..]].concat())
}
