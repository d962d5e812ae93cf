//! A backend that follows the protocol or breaks it, as a test requires.

use crate::wait::LONG;
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
        protocol::{BUILDS, PACKAGE_SET, PULLED, REVISION, TAGS, read_pulled},
    },
    oci::{
        digest::Digest,
        discovery::{TagsPage, no_referrers_tag, referrers_index},
        document::{Descriptor, Document, ImageIndex, ImageManifest},
        endpoint::Endpoint,
        error::{ErrorCode, OciError},
        media_type::{LayerCompression, ManifestFormat},
        query::Query,
        reference::Reference,
        repository_name::RepositoryName,
    },
};
use futures::StreamExt;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How the backend answers requests for manifests.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// As the protocol requires.
    Good,
    /// After a while.
    Slow(Duration),
    /// With an error.
    Refuse(OciError),
    /// With half of the announced body.
    DieMidAnswer,
    /// With bytes that do not have the stated digest.
    LieAboutDigest,
    /// With a content type that is not the manifest's.
    WrongContentType,
    /// With a page of HTML and this status.
    Garbage(u16),
    /// With a body that never ends.
    Endless,
    /// By the protocol, with an index for each tag.
    Index,
}

/// A request that the backend has seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET`, `HEAD`, …
    pub method: String,
    /// The URI with its query.
    pub uri: String,
    /// All headers.
    pub headers: HeaderMap,
}

/// The backend.
#[derive(Debug)]
pub struct Origin {
    /// Its URL.
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
    /// Whether it answers unsigned requests.
    is_open: bool,
    /// How often an edge checked whether it does.
    probed: usize,
    /// The tags that an edge asked about, without asking for an image.
    checked: Vec<String>,
    /// Reports of pulls.
    reports: Vec<Vec<Digest>>,
    /// The manifests that it reports as not kept.
    leaving: Vec<Digest>,
    /// How many layers its images have.
    layers: usize,
}

impl Origin {
    /// How many manifests are in an index: more than an isolate remembers.
    pub const LISTED: usize = 600;

    /// A backend on a free port that follows the protocol.
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
            checked: Vec::new(),
            reports: Vec::new(),
            leaving: Vec::new(),
            layers: 0,
        };
        let shared = Arc::new(Mutex::new(shared));
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Self { url, shared, task }
    }

    /// Its URL with a name instead of an address, as it must be in production. The planet finds it.
    pub fn named(&self) -> String {
        crate::edge::planet::named(&self.url)
    }

    /// Behaves like this from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.shared.lock().expect("no panic").behaviour = behaviour;
    }

    /// From now on it has this package set, and other images.
    pub fn move_to(&self, package_set: &str) {
        self.shared.lock().expect("no panic").package_set = package_set.to_owned();
    }

    /// From now on its images have this many layers, which are [`Origin::layer`].
    pub fn stack(&self, layers: usize) {
        self.shared.lock().expect("no panic").layers = layers;
    }

    /// Publishes these records by key, for edges that compose images.
    pub fn publish(&self, records: impl IntoIterator<Item = (String, Vec<u8>)>) {
        self.shared.lock().expect("no panic").records.extend(records);
    }

    /// Answers unsigned requests from now on.
    pub fn open(&self) {
        self.shared.lock().expect("no panic").is_open = true;
    }

    /// How often it got an unsigned request that checks whether it answers those.
    pub fn probed(&self) -> usize {
        self.shared.lock().expect("no panic").probed
    }

    /// The tags that an edge asked about so far, without asking for an image.
    pub fn checked(&self) -> Vec<String> {
        self.shared.lock().expect("no panic").checked.clone()
    }

    /// Reports from now on that it does not keep these manifests.
    pub fn drop_manifests(&self, manifests: &[Digest]) {
        self.shared.lock().expect("no panic").leaving = manifests.to_vec();
    }

    /// The reports of pulls so far.
    pub fn reports(&self) -> Vec<Vec<Digest>> {
        self.shared.lock().expect("no panic").reports.clone()
    }

    /// The keys of existing records that were requested so far.
    pub fn asked(&self) -> Vec<String> {
        self.shared.lock().expect("no panic").asked.clone()
    }

    /// The requests so far, without those for records.
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

    /// The content of a layer of its images.
    pub fn layer(number: usize) -> Vec<u8> {
        format!("layer {number}").into_bytes()
    }

    /// The manifest of a name in a package set.
    pub fn manifest(name: &str, package_set: &str, format: ManifestFormat) -> Vec<u8> {
        Self::stacked(name, package_set, format, 0)
    }

    fn stacked(name: &str, package_set: &str, format: ManifestFormat, layers: usize) -> Vec<u8> {
        let layers = (0..layers).map(Self::layer).map(|bytes| {
            let media_type = format.layer(LayerCompression::Gzip).expect("gzip is in both formats");
            serde_json::json!({ "mediaType": media_type, "digest": Digest::of(&bytes), "size": bytes.len() })
        });
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": format.manifest(),
            "config": { "mediaType": format.config(), "digest": Digest::of(b"config"), "size": 6 },
            "layers": layers.collect::<Vec<_>>(),
            "annotations": { "name": name, "set": package_set, "padding": "x".repeat(20_000) },
        });
        serde_json::to_vec(&manifest).expect("JSON")
    }

    /// The config of one of the manifests in an index.
    pub fn listed_config(number: usize) -> Digest {
        Digest::of(format!("config {number}").as_bytes())
    }

    fn listed(number: usize) -> Vec<u8> {
        let config = (Self::listed_config(number), 8);
        let manifest = ImageManifest::new(ManifestFormat::Oci, config, Vec::new(), BTreeMap::new());
        Document::Image(manifest).to_bytes()
    }

    /// The digest of the only manifest that has referrers.
    pub fn referred() -> Digest {
        Digest::of(b"referred")
    }

    /// The index of the referrers of [`Origin::referred`].
    pub fn referrers() -> Vec<u8> {
        let artifact_type = Some("application/spdx+json".to_owned());
        let referrer = Descriptor::new(ManifestFormat::Oci.manifest(), Digest::of(b"referrer"), 8);
        referrers_index(&[Descriptor { artifact_type, ..referrer }], None)
    }

    /// The index that tags of every name mean, if they mean one.
    fn index() -> Vec<u8> {
        let manifests = (0..Self::LISTED).map(|number| {
            let bytes = Self::listed(number);
            Descriptor::new(ManifestFormat::Oci.manifest(), Digest::of(&bytes), bytes.len() as u64)
        });
        Document::Index(ImageIndex::new(ManifestFormat::Oci, manifests.collect())).to_bytes()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(shared): State<Arc<Mutex<Shared>>>, request: Request) -> Response<Body> {
    let (behaviour, package_set, layers) = {
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
        if let Some(tag) = request.uri().path().strip_prefix(TAGS) {
            shared.checked.push(tag.to_owned());
            return named_set(&shared.behaviour, &shared.package_set);
        }
        if let Ok(Endpoint::Referrers(..)) = Endpoint::parse(request.uri().path()) {
            // A look at its health is signed, if there is a secret, and a check whether it refuses clients is not.
            if request.headers().contains_key(HEADER) {
                return Response::new(Body::from("{}"));
            }
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
        (shared.behaviour.clone(), shared.package_set.clone(), shared.layers)
    };
    if let Some(id) = request.uri().path().strip_prefix(BUILDS) {
        let events = shared.lock().expect("no panic").events.clone();
        return build(id, request.headers(), &behaviour, events);
    }
    match Endpoint::parse(request.uri().path()) {
        Ok(Endpoint::Manifest(_, Reference::Tag(tag)))
            if tag.is_of_referrers() && matches!(behaviour, Behaviour::Good) =>
        {
            if tag.subject() == Some(Origin::referred()) {
                index(&Origin::referrers())
            } else {
                error(&no_referrers_tag(&tag))
            }
        }
        Ok(Endpoint::Manifest(name, reference)) => {
            if let Behaviour::Slow(time) = behaviour {
                tokio::time::sleep(time).await;
            }
            let accept = request.headers().get_all("accept").iter().filter_map(|line| line.to_str().ok());
            let format = ManifestFormat::negotiate(accept);
            manifest(&name, &reference, format, &behaviour, (&package_set, layers))
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

/// What a tag names. Errors about an image are none about its tag.
fn named_set(behaviour: &Behaviour, package_set: &str) -> Response<Body> {
    match behaviour {
        Behaviour::Refuse(refusal)
            if refusal.code != ErrorCode::NameUnknown && !refusal.is_of_running_build() =>
        {
            error(refusal)
        }
        Behaviour::Garbage(status) => Response::builder()
            .status(StatusCode::from_u16(*status).expect("a status"))
            .body(Body::from("<html>garbage</html>"))
            .expect("a response"),
        Behaviour::Slow(time) if *time >= LONG => {
            Response::new(Body::from_stream(futures::stream::pending::<std::io::Result<Vec<u8>>>()))
        }
        _ => Response::builder()
            .header(REVISION, format!("revision of {package_set}"))
            .header(PACKAGE_SET, package_set)
            .body(Body::from("{}"))
            .expect("a response"),
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
    (package_set, layers): (&str, usize),
) -> Response<Body> {
    let bytes = match (behaviour, reference) {
        (Behaviour::Index, Reference::Tag(_)) => Origin::index(),
        (Behaviour::Index, Reference::Digest(wanted)) => {
            let listed = (0..Origin::LISTED).map(Origin::listed);
            let known = listed.chain([Origin::index()]).find(|bytes| Digest::of(bytes) == *wanted);
            known.unwrap_or_default()
        }
        _ => Origin::stacked(name.as_str(), package_set, format, layers),
    };
    let digest = Digest::of(&bytes);
    if matches!(reference, Reference::Digest(wanted) if *wanted != digest)
        && matches!(behaviour, Behaviour::Good | Behaviour::Index)
    {
        return error(&OciError::new(ErrorCode::ManifestUnknown, "no such manifest"));
    }
    let builder = Response::builder()
        .header("docker-content-digest", digest.to_string())
        .header(
            "content-type",
            match behaviour {
                Behaviour::Index => Document::parse(&bytes).expect("a document").media_type(),
                _ => format.manifest(),
            },
        )
        .header(REVISION, format!("revision of {package_set}"))
        .header(PACKAGE_SET, package_set);
    let response = match behaviour {
        Behaviour::Good | Behaviour::Index | Behaviour::Slow(_) => builder.body(Body::from(bytes)),
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

fn index(bytes: &[u8]) -> Response<Body> {
    Response::builder()
        .header("docker-content-digest", Digest::of(bytes).to_string())
        .header("content-type", ManifestFormat::Oci.index())
        .body(Body::from(bytes.to_vec()))
        .expect("a response")
}

fn error(error: &OciError) -> Response<Body> {
    let mut builder = Response::builder().status(error.status()).header("content-type", "application/json");
    if let Some(seconds) = error.retry_after_seconds {
        builder = builder.header("retry-after", seconds);
    }
    builder.body(Body::from(error.body())).expect("a response")
}
