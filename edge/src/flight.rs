//! Turns many requests into one: all clients in the world that ask for the same uncached image wait for one answer,
//! in one Durable Object.

use crate::{
    answer, backend, boarding, clock, compose,
    config::Config,
    edge::Edge,
    kv_store::KvStore,
    limit::Limit,
    manifest::Fetched,
    object::{self, ObjectError, Question},
    tag::{self, ASKED, Sighting},
    wanted::Wanted,
};
use firn_shared::{
    link::{
        client_network::ClientNetwork,
        edge_cache::request_key,
        protocol::{AnswerSource, CLIENT, PACKAGE_SET},
        tag_pointer::TagPointer,
    },
    naming::image_name::ImageName,
    oci::{
        digest::Digest,
        endpoint::{Endpoint, Method},
        error::{ErrorCode, OciError},
        reference::Reference,
        request as registry, respond,
    },
};
use futures_util::{FutureExt, future::LocalBoxFuture, future::Shared};
use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use worker::js_sys::Math;
use worker::{DurableObject, Env, Request, Response, State, console_warn, durable_object};

/// The Durable Object binding. Without it, every location asks the backend itself.
const BINDING: &str = "FLIGHTS";
/// How long a Durable Object may take, in milliseconds. It answers soon after the backend's timeout.
const JOIN_MILLIS: u64 = backend::PATIENCE_MILLIS + 1_000;
/// How long a Durable Object repeats a manifest to locations that know nothing of the tag, in seconds. KV takes a minute to
/// show the manifest everywhere, and a location that has just had a miss repeats that for another minute.
const LANDED_SECONDS: u64 = 180;

/// The header that tells the Durable Object the [`Purpose`], if that is not [`Purpose::Answer`].
const PURPOSE: &str = "x-firn-purpose";
/// The header that tells the Durable Object when [`PACKAGE_SET`], which is what the location knows of the tag, was known
/// to be right, in seconds since 1970.
const CHECKED: &str = "x-firn-checked";
/// How long a client waits at least that cannot join a flight, in milliseconds, and how much longer at most.
const PAUSE_MILLIS: u64 = 1_000;
/// `Retry-After` in seconds for such a client.
const RETRY_SECONDS: u32 = 5;

/// Why the backend is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A client waits for the answer. If that starts a flight, it counts as the client's miss.
    Answer,
    /// The tag has moved, and the client has the image of the previous package set. This counts against no client.
    Refresh,
    /// This blob of the image is missing. The backend is asked even if it has answered recently. This counts against
    /// no client.
    Repair(Digest),
}

impl Purpose {
    /// The value of [`PURPOSE`].
    fn header(self) -> Option<String> {
        match self {
            Self::Answer => None,
            Self::Refresh => Some("refresh".to_owned()),
            Self::Repair(blob) => Some(blob.to_string()),
        }
    }

    fn of_header(header: Option<&str>) -> Self {
        match header {
            None => Self::Answer,
            Some(text) => text.parse().map_or(Self::Refresh, Self::Repair),
        }
    }

    /// The blob that the backend must look for.
    fn missing(self) -> Option<Digest> {
        match self {
            Self::Answer | Self::Refresh => None,
            Self::Repair(blob) => Some(blob),
        }
    }
}

/// Asks the backend for an image by tag, and caches the answer. `known` is what this location knows of the tag.
///
/// # Errors
/// See [`backend::manifest`]; `TOOMANYREQUESTS` if the client has started too many flights, or the image's Durable Object
/// does not answer. The backend is not asked in its place: if an object gets too many requests, so would the backend.
pub(crate) async fn board(
    edge: &Rc<Edge>,
    wanted: &Wanted,
    purpose: Purpose,
    known: Option<&TagPointer>,
) -> Result<Fetched, OciError> {
    match purpose {
        Purpose::Answer => {
            let key = request_key(&wanted.image, &wanted.tag, wanted.format).to_string();
            let (copy, wanted, known) = (edge.clone(), wanted.clone(), known.cloned());
            let alone = || async move { board_alone(&copy, &wanted, purpose, known.as_ref()).await };
            boarding::together(edge, &key, alone).await
        }
        Purpose::Refresh | Purpose::Repair(_) => board_alone(edge, wanted, purpose, known).await,
    }
}

async fn board_alone(
    edge: &Rc<Edge>,
    wanted: &Wanted,
    purpose: Purpose,
    known: Option<&TagPointer>,
) -> Result<Fetched, OciError> {
    let path = format!("/v2/{}/manifests/{}", wanted.image, wanted.tag);
    match backend::within(JOIN_MILLIS, join(edge, wanted, &path, purpose, known)).await {
        None => return Err(backend::taking_long()),
        Some(Ok(response)) => return read(response).await,
        Some(Err(ObjectError::Unbound)) => {}
        Some(Err(error)) => {
            let line = serde_json::json!({ "message": "a flight failed", "error": error.to_string() });
            console_warn!("{line}");
            // containerd tries again at once.
            backend::sleep(PAUSE_MILLIS + (Math::random() * PAUSE_MILLIS as f64) as u64).await;
            return Err(crowded());
        }
    }
    if purpose == Purpose::Answer {
        Limit::Misses.check(edge).await?;
    }
    let (accept, client) = asked_with(edge, wanted, purpose);
    let missing = purpose.missing();
    let fetched = ask(&edge.config, &path, Some(&accept), client.as_deref(), missing).await?;
    let known = known.map(|known| known.package_set.as_str().to_owned());
    let (wanted, copy, later) = (wanted.clone(), fetched.clone(), edge.clone());
    edge.later(async move { learn(&later.env, &later.config, &wanted, &copy, known.as_deref()).await });
    Ok(fetched)
}

/// Remembers an answer of the backend for all locations. `known` is the package set that the tag is known to name.
async fn learn(env: &Env, config: &Config, wanted: &Wanted, fetched: &Fetched, known: Option<&str>) {
    if let Some(package_set) = fetched.package_set.as_ref().filter(|set| known != Some(set.as_str())) {
        let sighting = Sighting { package_set: package_set.clone(), asked: fetched.asked };
        tag::tell(env, config, &wanted.tag, sighting).await;
    }
    if let Some(store) = KvStore::open(env, config) {
        store.learn(&wanted.image, wanted.format, fetched).await;
        compose::learn(env, config, &wanted.image, fetched).await;
    }
}

/// What a client is told whose image's object gets more requests than it can answer, or was reset.
fn crowded() -> OciError {
    let message = "too many clients wait for this image at once; ask again in a moment";
    OciError::new(ErrorCode::Toomanyrequests, message).retry_after(RETRY_SECONDS).of_crowd()
}

async fn join(
    edge: &Edge,
    wanted: &Wanted,
    path: &str,
    purpose: Purpose,
    known: Option<&TagPointer>,
) -> Result<Response, ObjectError> {
    let name = request_key(&wanted.image, &wanted.tag, wanted.format).to_string();
    let (accept, client) = asked_with(edge, wanted, purpose);
    let headers = [
        ("accept", Some(accept)),
        (CLIENT, client),
        (PURPOSE, purpose.header()),
        (PACKAGE_SET, known.map(|known| known.package_set.as_str().to_owned())),
        (CHECKED, known.map(|known| known.checked.to_string())),
    ];
    let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let question = Question { headers, ..Question::get(path.to_owned()) };
    object::ask(&edge.env, &edge.config, BINDING, &name, &question).await
}

/// Reads the answer of an object.
async fn read(response: Response) -> Result<Fetched, OciError> {
    if response.status_code() != 200 {
        return Err(backend::read_error(response).await.unwrap_or_else(crowded));
    }
    let asked = response.headers().get(ASKED).ok().flatten();
    let asked = asked.and_then(|seconds| seconds.parse().ok()).unwrap_or_default();
    backend::read_manifest(response, None, asked).await.map_err(|_| crowded())
}

/// The `Accept` header and the client's address for the backend. The answer is for all clients that take this format, so
/// the client's own header is of no use. A repair names no client, because the request that caused it may be about
/// something else.
fn asked_with(edge: &Edge, wanted: &Wanted, purpose: Purpose) -> (String, Option<String>) {
    let client = match purpose {
        Purpose::Answer | Purpose::Refresh => edge.client(),
        Purpose::Repair(_) => None,
    };
    (wanted.format.manifest().to_owned(), client)
}

async fn ask(
    config: &Config,
    path: &str,
    accept: Option<&str>,
    client: Option<&str>,
    missing: Option<Digest>,
) -> Result<Fetched, OciError> {
    let question =
        backend::Question { accept, client, missing, ..backend::Question::about(Method::Get, path) };
    backend::manifest(config, question, None).await
}

type FetchResult = Result<Rc<Fetched>, OciError>;

/// A request to the backend that is under way.
#[derive(Clone)]
struct Running {
    /// The client for which the backend is asked, if known.
    asker: Option<ClientNetwork>,
    answer: Shared<LocalBoxFuture<'static, FetchResult>>,
}

/// One image that the backend is asked for. Within one Durable Object, and only there, requests may await each
/// other's promises.
///
/// The backend is asked on behalf of one client, whose quota may be used up. Such a refusal applies to that client
/// only: the next waiting client asks on its own behalf, and the others wait for that. So each client asks at most
/// once, and if none is refused, there is one request.
#[durable_object(fetch)]
pub struct Flight {
    env: Env,
    state: State,
    running: Rc<RefCell<Option<Running>>>,
    /// The last answer of the backend.
    landed: Rc<RefCell<Option<Rc<Fetched>>>>,
}

impl DurableObject for Flight {
    fn new(state: State, env: Env) -> Self {
        Self { env, state, running: Rc::default(), landed: Rc::default() }
    }

    async fn fetch(&self, request: Request) -> worker::Result<Response> {
        let answer = self.respond(&request).await;
        let answer = answer.unwrap_or_else(|error| respond::error(Method::Get, &error).into());
        Ok(answer.into_response()?.into())
    }
}

impl Flight {
    async fn respond(&self, request: &Request) -> Result<answer::Answer, OciError> {
        let path = request.path();
        let header = |name| header(request, name).map(Cow::Owned);
        let wanted = registry::Request::parse(Method::Get, &path, None, header)?;
        let fetched = self.answer(request, &wanted).await?;
        let package_set = fetched.package_set.as_ref().map(|set| set.as_str().to_owned());
        let answer = answer::manifest(&wanted, fetched.manifest.clone(), AnswerSource::Backend);
        Ok(answer.with_some(PACKAGE_SET, package_set).with_some(ASKED, Some(fetched.asked.to_string())))
    }

    async fn answer(&self, request: &Request, wanted: &registry::Request<'_>) -> FetchResult {
        let config = Config::of(&self.env)?;
        let purpose = Purpose::of_header(header(request, PURPOSE).as_deref());
        let asker = header(request, CLIENT).and_then(|text| text.parse().ok()).map(ClientNetwork::of);
        let deadline = clock::now_millis() + backend::PATIENCE_MILLIS;
        if purpose.missing().is_none()
            && let Some(fetched) = self.landed(request)
        {
            return Ok(fetched);
        }
        loop {
            let running = self.running.borrow().clone();
            let running = match running {
                Some(running) => running,
                None => self.start(config.clone(), request, wanted, asker, purpose)?,
            };
            let left = deadline.saturating_sub(clock::now_millis());
            match backend::within(left, running.answer).await {
                None => return Err(backend::taking_long()),
                Some(Err(error)) if error.is_of_client_quota() && running.asker != asker => {}
                Some(answer) => return answer,
            }
        }
    }

    /// The last answer of the backend, if it is right for a location that knows this of the tag.
    fn landed(&self, request: &Request) -> Option<Rc<Fetched>> {
        let fetched = self.landed.borrow().clone()?;
        let is_right = match (header(request, PACKAGE_SET), header(request, CHECKED)) {
            (Some(known), Some(checked)) => {
                let is_same = fetched.package_set.as_ref().is_some_and(|set| set.as_str() == known);
                is_same || checked.parse().is_ok_and(|checked: u64| fetched.asked >= checked)
            }
            _ => clock::now().saturating_sub(fetched.manifest.metadata.created) < LANDED_SECONDS,
        };
        is_right.then_some(fetched)
    }

    /// Asks the backend on behalf of a client, and continues if the client disconnects.
    fn start(
        &self,
        config: Rc<Config>,
        request: &Request,
        wanted: &registry::Request<'_>,
        asker: Option<ClientNetwork>,
        purpose: Purpose,
    ) -> Result<Running, OciError> {
        let Endpoint::Manifest(name, Reference::Tag(tag)) = &wanted.endpoint else {
            return Err(OciError::new(ErrorCode::Internal, "flights are for manifests by tag"));
        };
        let wanted = Wanted { image: ImageName::of(name)?, tag: tag.clone(), format: wanted.format };
        let (path, accept, client) = (request.path(), header(request, "accept"), header(request, CLIENT));
        let (env, copy) = (self.env.clone(), config.clone());
        let (running, landed) = (self.running.clone(), self.landed.clone());
        let question = async move {
            let admitted = match purpose {
                Purpose::Answer => Limit::Misses.check_for(&env, client.as_deref()).await,
                Purpose::Refresh | Purpose::Repair(_) => Ok(()),
            };
            let missing = purpose.missing();
            let answer = match admitted {
                Ok(()) => ask(&copy, &path, accept.as_deref(), client.as_deref(), missing).await.map(Rc::new),
                Err(refused) => Err(refused),
            };
            match &answer {
                Ok(fetched) => *landed.borrow_mut() = Some(fetched.clone()),
                Err(error) if error.is_passing() => {}
                // The image is gone, so it is not repeated any longer.
                Err(_) => *landed.borrow_mut() = None,
            }
            // Do this before any waiting request continues and asks again.
            running.borrow_mut().take();
            answer
        };
        let running = Running { asker, answer: question.boxed_local().shared() };
        *self.running.borrow_mut() = Some(running.clone());
        let (work, env, known) = (running.answer.clone(), self.env.clone(), header(request, PACKAGE_SET));
        self.state.wait_until(async move {
            // No client waits for KV.
            if let Ok(fetched) = work.await {
                learn(&env, &config, &wanted, &fetched, known.as_deref()).await;
            }
        });
        Ok(running)
    }
}

fn header(request: &Request, name: &str) -> Option<String> {
    request.headers().get(name).ok().flatten()
}
