//! An HTTP server with the files of a binary cache and with faults.

use super::fixture::CacheFiles;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, header};
use bytes::Bytes;
use futures::{StreamExt, stream};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is wrong with a file.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// The response has this status and these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// The connection breaks after so many bytes.
    Cut(usize),
    /// Nothing comes after so many bytes.
    Stall(usize),
    /// A byte comes now and then.
    Drip,
    /// Like `Cut`, and afterwards the file is another one.
    Replace(usize, Vec<u8>),
    /// The body never ends: these bytes again and again.
    Endless(Vec<u8>),
}

/// A server that ends with the test.
pub(super) struct Server {
    pub(super) url: String,
    state: Arc<Mutex<Content>>,
    task: tokio::task::JoinHandle<()>,
}

struct Content {
    files: CacheFiles,
    /// By file: the fault, and how many more requests have it.
    faults: BTreeMap<String, (Fault, usize)>,
    knows_ranges: bool,
    /// The file whose length is not told.
    without_length: Option<String>,
    /// The requests: file, and range.
    requests: Vec<(String, Option<String>)>,
    authorization: Vec<String>,
}

impl Server {
    pub(super) async fn start(files: CacheFiles) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let content = Content {
            files,
            faults: BTreeMap::new(),
            knows_ranges: true,
            without_length: None,
            requests: Vec::new(),
            authorization: Vec::new(),
        };
        let state = Arc::new(Mutex::new(content));
        let app = axum::Router::new().fallback(answer).with_state(Arc::clone(&state));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("serves") });
        Self { url, state, task }
    }

    /// So many requests for a file have this fault.
    pub(super) fn fault(&self, file: &str, fault: Fault, times: usize) -> &Self {
        self.state().faults.insert(file.to_owned(), (fault, times));
        self
    }

    pub(super) fn without_ranges(&self) -> &Self {
        self.state().knows_ranges = false;
        self
    }

    /// Sends a file in chunks, so that its length shows at the end.
    pub(super) fn without_length(&self, file: &str) -> &Self {
        self.state().without_length = Some(file.to_owned());
        self
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut CacheFiles)) {
        change(&mut self.state().files);
    }

    /// The ranges of all requests for a file.
    pub(super) fn requests(&self, file: &str) -> Vec<Option<String>> {
        let state = self.state();
        let of_file = state.requests.iter().filter(|(name, _)| name == file);
        of_file.map(|(_, range)| range.clone()).collect()
    }

    pub(super) fn all_requests(&self) -> usize {
        self.state().requests.len()
    }

    pub(super) fn authorization(&self) -> Vec<String> {
        self.state().authorization.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Content> {
        self.state.lock().expect("not poisoned")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(state): State<Arc<Mutex<Content>>>, request: Request) -> Response<Body> {
    let name = request.uri().path().trim_start_matches('/').to_owned();
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (range, if_range) = (text(header::RANGE), text(header::IF_RANGE));
    let mut content = state.lock().expect("not poisoned");
    content.requests.push((name.clone(), range.clone()));
    content.authorization.extend(text(header::AUTHORIZATION));
    let fault = match content.faults.get_mut(&name) {
        Some((fault, times)) if *times > 0 => {
            *times -= 1;
            Some(fault.clone())
        }
        _ => None,
    };
    let mut response = Response::builder();
    if let Some(Fault::Status(status, headers)) = fault {
        for (name, value) in headers {
            response = response.header(name, value);
        }
        return response.status(status).body(Body::from("no")).expect("a response");
    }
    let Some(bytes) = content.files.0.get(&name).cloned() else {
        return response.status(StatusCode::NOT_FOUND).body(Body::empty()).expect("a response");
    };
    let tag = format!("\"{}\"", super::fixture::nar_hash(&bytes));
    let is_same = if_range.is_none_or(|if_range| if_range == tag);
    response = response.header(header::ETAG, tag);
    let start = range.filter(|_| content.knows_ranges && is_same).map_or(0, |range| {
        range.trim_start_matches("bytes=").trim_end_matches('-').parse().expect("an offset")
    });
    if start > 0 && start == bytes.len() {
        let range = format!("bytes */{start}");
        let response =
            response.status(StatusCode::RANGE_NOT_SATISFIABLE).header(header::CONTENT_RANGE, range);
        return response.body(Body::empty()).expect("a response");
    }
    if start > 0 {
        let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
        response = response.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, range);
    }
    let rest = Bytes::from(bytes).slice(start..);
    let endless = matches!(fault, Some(Fault::Endless(_)));
    if !endless && content.without_length.as_deref() != Some(&*name) {
        response = response.header(header::CONTENT_LENGTH, rest.len());
    }
    let up_to = |length: usize| Ok(rest.slice(..length.min(rest.len())));
    // What was sent before must have left first.
    let broken = || {
        stream::once(async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            Err::<Bytes, _>(io::Error::other("cut"))
        })
    };
    let body = match fault {
        None | Some(Fault::Status(..)) => Body::from(rest),
        Some(Fault::Cut(after)) => Body::from_stream(stream::iter([up_to(after)]).chain(broken())),
        Some(Fault::Stall(after)) => {
            Body::from_stream(stream::iter([up_to(after)]).chain(stream::pending::<io::Result<Bytes>>()))
        }
        Some(Fault::Drip) => Body::from_stream(stream::unfold(0, move |at| {
            let byte = rest.slice(at..at + 1);
            async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Some((Ok::<_, io::Error>(byte), at + 1))
            }
        })),
        Some(Fault::Replace(after, other)) => {
            let body = Body::from_stream(stream::iter([up_to(after)]).chain(broken()));
            content.files.0.insert(name, other);
            body
        }
        Some(Fault::Endless(bytes)) => {
            let bytes = Bytes::from(bytes);
            Body::from_stream(stream::repeat_with(move || Ok::<_, io::Error>(bytes.clone())))
        }
    };
    response.body(body).expect("a response")
}
