//! Clients at addresses of their own, which a backend tells apart by them.

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
    /// The client of this number.
    pub fn new(backend: &Backend, number: u8) -> Self {
        Self { address: backend.address().to_owned(), number }
    }

    /// Asks once for a manifest. The status and the body.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn ask(&self, name: &str) -> (u16, String) {
        self.ask_for(name, "latest")
    }

    /// The same for another tag.
    ///
    /// # Panics
    /// Likewise.
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

    /// Asks again as long as it is told to come again.
    ///
    /// # Panics
    /// When that goes on for too long.
    pub fn settled(&self, name: &str) -> (u16, String) {
        until(&format!("{name} is built"), LONG, || {
            let answer = self.ask(name);
            (answer.0 != 429).then_some(answer)
        })
    }

    /// The same in a thread.
    pub fn settling(&self, name: &str) -> JoinHandle<(u16, String)> {
        let (caller, name) = (self.clone(), name.to_owned());
        std::thread::spawn(move || caller.settled(&name))
    }

    /// Begins the build of an image that cannot be there yet, or joins it, of a backend that keeps nobody waiting for
    /// long; returns the build's page.
    ///
    /// # Panics
    /// When the answer is another than that it is being built.
    pub fn begin(&self, name: &str) -> String {
        until(&format!("{name} is being built"), LONG, || {
            let (status, body) = self.ask(name);
            let page = page_of(&body);
            // There was no time to begin it.
            let late = body.contains("takes long to answer") || body.contains("many images are asked for");
            assert!(status == 429 && (page.is_some() || late), "{status} {body}");
            page
        })
    }

    /// Sends a request for a path. The client hangs up when what is returned is dropped.
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

/// Many requests at once. All of them hang up when this is dropped.
pub struct Crowd {
    runtime: Option<Runtime>,
    answered: Arc<AtomicUsize>,
}

impl Crowd {
    /// HEADs for these paths, each by a client.
    ///
    /// # Panics
    /// When there can be no threads for it.
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
                // Others still wait.
                std::future::pending::<()>().await;
            });
        }
        Self { runtime: Some(runtime), answered }
    }

    /// How many have been answered.
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
