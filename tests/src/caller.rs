//! Clients with addresses of their own, by which a backend tells them apart.

use crate::{
    backend::Backend,
    program::Program,
    registry::page_of,
    wait::{LONG, until},
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;

/// A client at `127.0.0.NUMBER`.
#[derive(Clone)]
pub struct Caller {
    address: String,
    number: u8,
}

impl Caller {
    /// The client with this number.
    pub fn new(backend: &Backend, number: u8) -> Self {
        Self { address: backend.address().to_owned(), number }
    }

    /// Requests a manifest once. Returns the status and the body.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn ask(&self, name: &str) -> (u16, String) {
        self.ask_for(name, "latest")
    }

    /// The same for another tag.
    ///
    /// # Panics
    /// See [`Self::ask`].
    pub fn ask_for(&self, name: &str, tag: &str) -> (u16, String) {
        let url = format!("http://{}/v2/{name}/manifests/{tag}", self.address);
        let interface = format!("127.0.0.{}", self.number);
        let said = Program::new("curl")
            .args(["-sS", "--interface", &interface, "-w", "\n%{http_code}", &url])
            .run()
            .succeeded();
        let (body, status) = said.rsplit_once('\n').expect("a status");
        (status.parse().expect("a number"), body.to_owned())
    }

    /// Requests a manifest again until the answer is not 429.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn settled(&self, name: &str) -> (u16, String) {
        until(&format!("{name} is built"), LONG, || {
            let answer = self.ask(name);
            (answer.0 != 429).then_some(answer)
        })
    }

    /// Like [`Self::settled`], in a thread.
    pub fn settling(&self, name: &str) -> JoinHandle<(u16, String)> {
        let (caller, name) = (self.clone(), name.to_owned());
        std::thread::spawn(move || caller.settled(&name))
    }

    /// Starts or joins the build of an image that does not exist yet, on a backend with a short wait. Returns the
    /// build's page.
    ///
    /// # Panics
    /// If the answer is not that the image is being built.
    pub fn begin(&self, name: &str) -> String {
        until(&format!("{name} is being built"), LONG, || {
            let (status, body) = self.ask(name);
            let page = page_of(&body);
            // The backend had no time to start it.
            let late = body.contains("takes long to answer") || body.contains("many images are asked for");
            assert!(status == 429 && (page.is_some() || late), "{status} {body}");
            page
        })
    }

    /// Sends a request for a path. Dropping the result disconnects the client.
    async fn call(&self, path: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, self.number], 0))).expect("an address of its own");
        let backend = self.address.parse().expect("an address");
        let mut stream = socket.connect(backend).await.expect("the backend listens");
        let request = format!("HEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        stream
    }
}

/// Many requests at once. Dropping this disconnects all of them.
pub struct Crowd {
    runtime: Option<Runtime>,
    answered: Arc<AtomicUsize>,
}

impl Crowd {
    /// Sends a HEAD request for each path, each from a client.
    ///
    /// # Panics
    /// If threads cannot be started.
    pub fn ask(requests: impl IntoIterator<Item = (Caller, String)>) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let answered = Arc::new(AtomicUsize::new(0));
        for (caller, path) in requests {
            let answered = Arc::clone(&answered);
            runtime.spawn(async move {
                let mut connection = caller.call(&path).await;
                if connection.read(&mut [0]).await.is_ok() {
                    answered.fetch_add(1, Ordering::SeqCst);
                }
                // Keep the connection open: others still wait.
                std::future::pending::<()>().await;
            });
        }
        Self { runtime: Some(runtime), answered }
    }

    /// How many requests were answered.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(LONG);
        }
    }
}
