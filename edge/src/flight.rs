//! Turns many requests into one: all clients in the world that ask for the same uncached image wait for one answer,
//! in one Durable Object.

use crate::{
    answer, backend, clock, compose, config::Config, edge::Edge, kv_store::KvStore, limit::Limit,
    manifest::Fetched, memory, wanted::Wanted,
};
use firn_shared::{
    link::{
        client_network::ClientNetwork,
        edge_cache::request_key,
        protocol::{AnswerSource, CLIENT, PACKAGE_SET},
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
use worker::{DurableObject, Env, Headers, Request, RequestInit, Response, State, durable_object};

/// The Durable Object binding. Without it, every location asks the backend itself.
const BINDING: &str = "FLIGHTS";
/// How long a Durable Object may take, in milliseconds. It answers soon after the backend's timeout.
const JOIN_MILLIS: u64 = backend::PATIENCE_MILLIS + 1_000;
/// How long a Durable Object repeats a manifest, in seconds, unless the TTL of tags is shorter. KV takes this long to
/// show the manifest everywhere, and locations that had a miss cache that.
const LANDED_SECONDS: u64 = 60;

/// The header that tells the Durable Object the [`Purpose`], if that is not [`Purpose::Answer`].
const PURPOSE: &str = "x-firn-purpose";

/// Why the backend is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A client waits for the answer. If that starts a flight, it counts as the client's miss.
    Answer,
    /// The tag is looked up again after the client has its answer. This counts against no client.
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

/// Asks the backend for an image by tag, and caches the answer.
///
/// # Errors
/// See [`backend::manifest`]; `TOOMANYREQUESTS` if the client has started too many flights.
pub(crate) async fn board(edge: &Rc<Edge>, wanted: &Wanted, purpose: Purpose) -> Result<Fetched, OciError> {
    let path = format!("/v2/{}/manifests/{}", wanted.image, wanted.tag);
    // A Durable Object that failed to answer recently is skipped, so that it does not withhold its image from all
    // clients.
    let mut joined = None;
    if !memory::is_down(BINDING) {
        let Some(answer) = backend::within(JOIN_MILLIS, join(edge, wanted, &path, purpose)).await else {
            memory::mark_down(BINDING);
            return Err(backend::taking_long());
        };
        joined = answer.ok();
    }
    if let Some(response) = joined {
        if response.status_code() != 200 {
            if let Some(error) = backend::read_error(response).await {
                return Err(error);
            }
        } else if let Ok(fetched) = backend::read_manifest(response, None).await {
            return Ok(fetched);
        }
    }
    // There is no Durable Object, or it does not work.
    if purpose == Purpose::Answer {
        Limit::Misses.check(edge).await?;
    }
    let (accept, client) = asked_with(edge, wanted, purpose);
    let missing = purpose.missing();
    let fetched = ask(&edge.config, &path, Some(&accept), client.as_deref(), missing).await?;
    if let Some(store) = KvStore::open(&edge.env, &edge.config) {
        let (wanted, copy) = (wanted.clone(), fetched.clone());
        let later = edge.clone();
        edge.later(async move {
            store.learn(&wanted.image, &wanted.tag, wanted.format, &copy).await;
            compose::learn(&later.env, &later.config, &wanted.image, &copy).await;
        });
    }
    Ok(fetched)
}

async fn join(edge: &Edge, wanted: &Wanted, path: &str, purpose: Purpose) -> worker::Result<Response> {
    let name = request_key(&wanted.image, &wanted.tag, wanted.format).to_string();
    let stub = edge.env.durable_object(BINDING)?.get_by_name(&name)?;
    let headers = Headers::new();
    let (accept, client) = asked_with(edge, wanted, purpose);
    headers.set("accept", &accept)?;
    if let Some(client) = client {
        headers.set(CLIENT, &client)?;
    }
    if let Some(purpose) = purpose.header() {
        headers.set(PURPOSE, &purpose)?;
    }
    let mut init = RequestInit::new();
    init.with_headers(headers);
    stub.fetch_with_request(Request::new_with_init(&format!("https://flight{path}"), &init)?).await
}

/// The `Accept` header and the client's address for the backend. A repair names no client, because the request that
/// caused it may be about something else.
fn asked_with(edge: &Edge, wanted: &Wanted, purpose: Purpose) -> (String, Option<String>) {
    let format = || wanted.format.manifest().to_owned();
    match purpose {
        Purpose::Answer | Purpose::Refresh => (edge.accept().unwrap_or_else(format), edge.client()),
        Purpose::Repair(_) => (format(), None),
    }
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
/// An answer, and its time in seconds since 1970.
type Landed = (Rc<Fetched>, u64);

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
    landed: Rc<RefCell<Option<Landed>>>,
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
        Ok(answer.with_some(PACKAGE_SET, package_set))
    }

    async fn answer(&self, request: &Request, wanted: &registry::Request<'_>) -> FetchResult {
        let config = Config::of(&self.env)?;
        let purpose = Purpose::of_header(header(request, PURPOSE).as_deref());
        let asker = header(request, CLIENT).and_then(|text| text.parse().ok()).map(ClientNetwork::of);
        let deadline = clock::now_millis() + backend::PATIENCE_MILLIS;
        let landed = self.landed.borrow().clone();
        if let Some((fetched, since)) = landed
            && purpose.missing().is_none()
            && clock::now().saturating_sub(since) < LANDED_SECONDS.min(config.tag_ttl_seconds)
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
        let (image, tag, format) = (ImageName::of(name)?, tag.clone(), wanted.format);
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
                Ok(fetched) => *landed.borrow_mut() = Some((fetched.clone(), clock::now())),
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
        let (work, env) = (running.answer.clone(), self.env.clone());
        self.state.wait_until(async move {
            // No client waits for KV.
            if let Ok(fetched) = work.await
                && let Some(store) = KvStore::open(&env, &config)
            {
                store.learn(&image, &tag, format, &fetched).await;
                compose::learn(&env, &config, &image, &fetched).await;
            }
        });
        Ok(running)
    }
}

fn header(request: &Request, name: &str) -> Option<String> {
    request.headers().get(name).ok().flatten()
}
