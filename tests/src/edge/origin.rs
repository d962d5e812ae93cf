//! A backend that answers by the protocol or breaks it, as a test tells it to.

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Response, StatusCode},
};
use firn_shared::{
    composition::PATH,
    link::{
        authentication::HEADER,
        protocol::{BUILDS, PACKAGE_SET, PULLED, REVISION, read_pulled},
    },
    oci::{
        digest::Digest,
        discovery::TagsPage,
        endpoint::Endpoint,
        error::{ErrorCode, OciError},
        media_type::ManifestFormat,
        query::Query,
        reference::Reference,
        repository_name::RepositoryName,
    },
};
use futures::StreamExt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How the backend answers requests for manifests.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// By the protocol.
    Good,
    /// After a while.
    Slow(Duration),
    /// With an error.
    Refuse(OciError),
    /// With half of the body it announced.
    DieMidAnswer,
    /// With bytes that do not have the digest it says.
    LieAboutDigest,
    /// With a content type that is not the manifest's.
    WrongContentType,
    /// With a page of HTML and this status.
    Garbage(u16),
    /// With a body that never ends.
    Endless,
}

/// A request that the backend has seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET`, `HEAD`, …
    pub method: String,
    /// With the query.
    pub uri: String,
    /// All of them.
    pub headers: HeaderMap,
}

/// The backend.
#[derive(Debug)]
pub struct Origin {
    /// Where it listens.
    pub url: String,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    behaviour: Behaviour,
    package_set: String,
    seen: Vec<Seen>,
    events: Arc<Notify>,
    records: HashMap<String, Vec<u8>>,
    asked: Vec<String>,
    /// Whether it answers what is not signed.
    is_open: bool,
    /// How often it was asked whether it does.
    probed: usize,
    /// Reports of pulls.
    reports: Vec<Vec<Digest>>,
    /// What it says that it does not keep.
    leaving: Vec<Digest>,
}

impl Origin {
    /// A good backend on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Shared {
            behaviour: Behaviour::Good,
            package_set: "set-1".into(),
            seen: Vec::new(),
            events: Arc::default(),
            records: HashMap::new(),
            asked: Vec::new(),
            is_open: false,
            probed: 0,
            reports: Vec::new(),
            leaving: Vec::new(),
        };
        let shared = Arc::new(Mutex::new(shared));
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Self { url, shared, task }
    }

    /// From now on, behaves like this.
    pub fn behave(&self, behaviour: Behaviour) {
        self.shared.lock().expect("no panic").behaviour = behaviour;
    }

    /// From now on, the package set is this one, and images differ.
    pub fn move_to(&self, package_set: &str) {
        self.shared.lock().expect("no panic").package_set = package_set.to_owned();
    }

    /// From now on, has these records, by key, for who composes images.
    pub fn publish(&self, records: impl IntoIterator<Item = (String, Vec<u8>)>) {
        self.shared.lock().expect("no panic").records.extend(records);
    }

    /// From now on, answers everybody.
    pub fn open(&self) {
        self.shared.lock().expect("no panic").is_open = true;
    }

    /// How often it was asked something that is not signed to see whether it answers.
    pub fn probed(&self) -> usize {
        self.shared.lock().expect("no panic").probed
    }

    /// From now on, says of these manifests that it does not keep them.
    pub fn drop_manifests(&self, manifests: &[Digest]) {
        self.shared.lock().expect("no panic").leaving = manifests.to_vec();
    }

    /// The reports of pulls so far.
    pub fn reports(&self) -> Vec<Vec<Digest>> {
        self.shared.lock().expect("no panic").reports.clone()
    }

    /// The keys of the records that it has been asked for so far and has.
    pub fn asked(&self) -> Vec<String> {
        self.shared.lock().expect("no panic").asked.clone()
    }

    /// The requests so far, but for those for records.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.lock().expect("no panic").seen.clone()
    }

    /// Lets a build's page send its second and last event.
    pub fn continue_events(&self) {
        self.shared.lock().expect("no panic").events.notify_one();
    }

    /// Stops listening: connections are refused from now on.
    pub fn stop(&self) {
        self.task.abort();
    }

    /// The manifest of a name in a package set.
    pub fn manifest(name: &str, package_set: &str, format: ManifestFormat) -> Vec<u8> {
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": format.manifest(),
            "config": { "mediaType": format.config(), "digest": Digest::of(b"config"), "size": 6 },
            "layers": [],
            "annotations": { "name": name, "set": package_set, "padding": "x".repeat(20_000) },
        });
        serde_json::to_vec(&manifest).expect("JSON")
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(shared): State<Arc<Mutex<Shared>>>, request: Request) -> Response<Body> {
    let (behaviour, package_set) = {
        let mut shared = shared.lock().expect("no panic");
        if let Some(key) = request.uri().path().strip_prefix(PATH) {
            let Some(record) = shared.records.get(key).cloned() else {
                return error(&OciError::new(ErrorCode::NameUnknown, "no such record"));
            };
            shared.asked.push(key.to_owned());
            return Response::new(Body::from(record));
        }
        if let Some(list) = request.uri().path().strip_prefix(PULLED) {
            let digests = read_pulled(list).expect("a report");
            let leaving: Vec<_> = shared.leaving.iter().filter(|gone| digests.contains(gone)).collect();
            let body = serde_json::to_vec(&leaving).expect("digests serialise");
            shared.reports.push(digests);
            return Response::new(Body::from(body));
        }
        if let Ok(Endpoint::Referrers(..)) = Endpoint::parse(request.uri().path()) {
            assert!(!request.headers().contains_key(HEADER), "nobody asks for referrers but to see this");
            shared.probed += 1;
            return match shared.is_open {
                true => Response::new(Body::from("{}")),
                false => error(&OciError::new(ErrorCode::Denied, "not signed")),
            };
        }
        shared.seen.push(Seen {
            method: request.method().to_string(),
            uri: request.uri().to_string(),
            headers: request.headers().clone(),
        });
        (shared.behaviour.clone(), shared.package_set.clone())
    };
    if let Some(id) = request.uri().path().strip_prefix(BUILDS) {
        let events = shared.lock().expect("no panic").events.clone();
        return build(id, request.headers(), &behaviour, events);
    }
    match Endpoint::parse(request.uri().path()) {
        Ok(Endpoint::Manifest(name, reference)) => {
            if let Behaviour::Slow(time) = behaviour {
                tokio::time::sleep(time).await;
            }
            let accept = request.headers().get_all("accept").iter().filter_map(|line| line.to_str().ok());
            manifest(&name, &reference, ManifestFormat::negotiate(accept), &behaviour, &package_set)
        }
        Ok(Endpoint::Tags(name)) => {
            let tags = ["latest", "v1"].map(|tag| tag.parse().expect("a tag"));
            match TagsPage::new(&name, &tags, Query::new(request.uri().query())) {
                Ok(page) => {
                    let response = Response::builder().header("content-type", "application/json");
                    let response =
                        page.link.into_iter().fold(response, |response, link| response.header("link", link));
                    response.body(Body::from(page.body)).expect("a response")
                }
                Err(refusal) => error(&refusal),
            }
        }
        Ok(Endpoint::Blob(_, digest)) if digest == Digest::of(b"blob") => Response::builder()
            .header("content-length", "4")
            .body(if request.method() == "HEAD" { Body::empty() } else { Body::from("blob") })
            .expect("a response"),
        Ok(Endpoint::Blob(..)) => error(&OciError::new(ErrorCode::BlobUnknown, "no such blob")),
        Ok(_) => Response::new(Body::from("{}")),
        Err(refusal) => error(&refusal),
    }
}

fn build(id: &str, headers: &HeaderMap, behaviour: &Behaviour, events: Arc<Notify>) -> Response<Body> {
    match behaviour {
        Behaviour::Refuse(refusal) => return error(refusal),
        _ if id == "none" => return error(&OciError::new(ErrorCode::ManifestUnknown, "no such build")),
        _ => {}
    }
    let accept = headers.get("accept").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (content_type, body) = if accept.contains("text/event-stream") {
        let second = async move {
            events.notified().await;
            Ok("data: 2\n\n")
        };
        let first = futures::stream::iter([Ok::<_, std::io::Error>("data: 1\n\n")]);
        ("text/event-stream", Body::from_stream(first.chain(futures::stream::once(second))))
    } else if accept.contains("application/json") {
        ("application/json", Body::from(r#"{"summary":"building"}"#))
    } else {
        ("text/plain", Body::from("building"))
    };
    Response::builder().header("content-type", content_type).body(body).expect("a response")
}

fn manifest(
    name: &RepositoryName,
    reference: &Reference,
    format: ManifestFormat,
    behaviour: &Behaviour,
    package_set: &str,
) -> Response<Body> {
    let bytes = Origin::manifest(name.as_str(), package_set, format);
    let digest = Digest::of(&bytes);
    if matches!(reference, Reference::Digest(wanted) if *wanted != digest)
        && matches!(behaviour, Behaviour::Good)
    {
        return error(&OciError::new(ErrorCode::ManifestUnknown, "no such manifest"));
    }
    let builder = Response::builder()
        .header("docker-content-digest", digest.to_string())
        .header("content-type", format.manifest())
        .header(REVISION, format!("revision of {package_set}"))
        .header(PACKAGE_SET, package_set);
    let response = match behaviour {
        Behaviour::Good | Behaviour::Slow(_) => builder.body(Body::from(bytes)),
        Behaviour::Refuse(refusal) => return error(refusal),
        Behaviour::DieMidAnswer => {
            let length = bytes.len();
            let parts: [Result<Vec<u8>, std::io::Error>; 2] =
                [Ok(bytes[..length / 2].to_vec()), Err(std::io::ErrorKind::ConnectionReset.into())];
            builder.header("content-length", length).body(Body::from_stream(futures::stream::iter(parts)))
        }
        Behaviour::LieAboutDigest => builder.body(Body::from([&bytes[..], b" "].concat())),
        Behaviour::WrongContentType => {
            let mut response = builder.body(Body::from(bytes)).expect("a response");
            let other = "application/vnd.oci.image.index.v1+json";
            response.headers_mut().insert("content-type", other.parse().expect("a value"));
            Ok(response)
        }
        Behaviour::Garbage(status) => Response::builder()
            .status(StatusCode::from_u16(*status).expect("a status"))
            .header("content-type", "text/html")
            .body(Body::from("<html>garbage</html>")),
        Behaviour::Endless => {
            let chunk = || Ok::<_, std::io::Error>(vec![b' '; 64 << 10]);
            builder.body(Body::from_stream(futures::stream::repeat_with(chunk)))
        }
    };
    response.expect("a response")
}

fn error(error: &OciError) -> Response<Body> {
    let mut builder = Response::builder().status(error.status()).header("content-type", "application/json");
    if let Some(seconds) = error.retry_after_seconds {
        builder = builder.header("retry-after", seconds);
    }
    builder.body(Body::from(error.body())).expect("a response")
}
