//! The Durable Object of a tag. It asks the backend what the tag names, for all locations, and alone writes the tag's
//! pointer into KV, only when it changes. So the number of questions to the backend and of writes to KV depends on the
//! number of tags, and not on how many images, clients and locations there are.

use crate::{
    answer::Answer,
    backend, clock,
    config::Config,
    kv_store::KvStore,
    tag::{self, ASKED, Sighting},
};
use firn_shared::{
    link::tag_pointer::{FAILED_SECONDS, Freshness, TagPointer},
    oci::{
        endpoint::Method,
        error::{ErrorCode, OciError},
        media_type::JSON,
        reference, respond,
    },
};
use futures_util::{FutureExt, future::LocalBoxFuture, future::Shared};
use std::cell::RefCell;
use std::rc::Rc;
use worker::wasm_bindgen::JsValue;
use worker::{DurableObject, Env, Request, Response, State, Storage, console_warn, durable_object};

/// The key of the pointer in the object's storage.
const STORED: &str = "pointer";
/// How long a location waits for an answer of a backend, in milliseconds.
const WAIT_MILLIS: u64 = 4_000;

type Checked = Result<TagPointer, OciError>;

/// One tag. Within one Durable Object, and only there, requests may await each other's promises.
#[durable_object(fetch)]
pub struct Tag {
    state: State,
    env: Env,
    memory: Rc<RefCell<Memory>>,
}

/// What the object remembers while it runs.
#[derive(Default)]
struct Memory {
    known: Option<TagPointer>,
    /// The pointer that is in storage and in KV.
    written: Option<TagPointer>,
    /// The question to the backend that is under way.
    running: Option<Shared<LocalBoxFuture<'static, Checked>>>,
    /// Why the tag names nothing, and when a backend said so, in seconds since 1970.
    refused: Option<(OciError, u64)>,
}

impl DurableObject for Tag {
    fn new(state: State, env: Env) -> Self {
        Self { state, env, memory: Rc::default() }
    }

    /// `GET /<tag>` says what is known: 200, or 204 if it is nothing. `POST /<tag>` adds a sighting.
    async fn fetch(&self, request: Request) -> worker::Result<Response> {
        let answer = match self.respond(request).await {
            Ok(Some(known)) => {
                let bytes = serde_json::to_vec(&known).expect("texts and numbers serialise");
                respond::bytes(Method::Get, JSON, bytes)
            }
            Ok(None) => respond::Response::new(204),
            Err(error) => respond::error(Method::Get, &error),
        };
        Ok(Answer::from(answer).into_response()?.into())
    }
}

impl Tag {
    async fn respond(&self, request: Request) -> Result<Option<TagPointer>, OciError> {
        let invalid = || OciError::new(ErrorCode::Internal, "this is no question about a tag");
        let tag: reference::Tag = request.path().trim_start_matches('/').parse().map_err(|_| invalid())?;
        let config = Config::of(&self.env)?;
        self.load(&config, &tag).await;
        if request.method() == worker::Method::Post {
            let asked = request.headers().get(ASKED).ok().flatten().and_then(|text| text.parse().ok());
            let sighting = asked.and_then(|asked| Sighting::of(request.headers(), asked));
            let sighting = sighting.ok_or_else(invalid)?;
            let scribe = self.scribe(config, tag);
            scribe.add(sighting);
            self.state.wait_until(async move { scribe.write().await });
            return Ok(None);
        }
        let Some(known) = self.memory.borrow().known.clone() else { return Ok(None) };
        match known.freshness(&tag, clock::now(), config.tag_ttl_seconds, 0) {
            Freshness::Fresh => Ok(Some(known)),
            Freshness::Aging => {
                drop(self.check(config, tag));
                Ok(Some(known))
            }
            Freshness::Stale => match backend::within(WAIT_MILLIS, self.check(config, tag)).await {
                Some(Err(error)) if !error.is_passing() => Err(error),
                Some(Ok(learned)) => Ok(Some(learned)),
                // The answer of the backend is still awaited, but not by this location.
                Some(Err(_)) | None => Ok(Some(known.failing(clock::now()))),
            },
        }
    }

    /// Reads what was known before the object was last stopped.
    async fn load(&self, config: &Config, tag: &reference::Tag) {
        if self.memory.borrow().known.is_some() {
            return;
        }
        let stored = self.state.storage().get::<String>(STORED).await.ok().flatten();
        let stored: Option<TagPointer> = stored.and_then(|text| serde_json::from_slice(text.as_bytes()).ok());
        let (pointer, is_written) = match (stored, KvStore::open(&self.env, config)) {
            (Some(pointer), _) => (Some(pointer), true),
            // Before there was an object for each tag, others wrote the pointer.
            (None, Some(store)) => (store.pointer(tag).await, false),
            (None, None) => (None, false),
        };
        let memory = &mut *self.memory.borrow_mut();
        // Another request may have been faster.
        if memory.known.is_none() {
            memory.written = pointer.clone().filter(|_| is_written);
            memory.known = pointer;
        }
    }

    fn scribe(&self, config: Rc<Config>, tag: reference::Tag) -> Scribe {
        let (env, storage, memory) = (self.env.clone(), self.state.storage(), self.memory.clone());
        Scribe { env, storage, memory, config, tag }
    }

    /// Asks the backend once for all requests that need the answer. The question goes on if no request waits for it any
    /// longer.
    fn check(&self, config: Rc<Config>, tag: reference::Tag) -> Shared<LocalBoxFuture<'static, Checked>> {
        if let Some(running) = self.memory.borrow().running.clone() {
            return running;
        }
        let scribe = self.scribe(config, tag);
        let check = async move {
            let checked = scribe.check().await;
            scribe.memory.borrow_mut().running = None;
            scribe.write().await;
            checked
        };
        let check = check.boxed_local().shared();
        self.memory.borrow_mut().running = Some(check.clone());
        let work = check.clone();
        self.state.wait_until(async move { drop(work.await) });
        check
    }
}

/// Keeps what is known of a tag up to date.
struct Scribe {
    env: Env,
    storage: Storage,
    memory: Rc<RefCell<Memory>>,
    config: Rc<Config>,
    tag: reference::Tag,
}

impl Scribe {
    async fn check(&self) -> Checked {
        if let Some((error, since)) = &self.memory.borrow().refused
            && clock::now().saturating_sub(*since) < FAILED_SECONDS
        {
            return Err(error.clone());
        }
        match tag::sight(&self.config, &self.tag).await {
            Ok(sighting) => Ok(self.add(sighting)),
            Err(error) => {
                let memory = &mut *self.memory.borrow_mut();
                let known = memory.known.take();
                if error.is_passing() {
                    memory.known = known.map(|known| known.failing(clock::now()));
                } else {
                    // The next location that asks is told. If the tag comes back, so does the pointer.
                    memory.known = known.map(|known| known.lasting());
                    memory.refused = Some((error.clone(), clock::now()));
                }
                Err(error)
            }
        }
    }

    fn add(&self, sighting: Sighting) -> TagPointer {
        let memory = &mut *self.memory.borrow_mut();
        let learned = sighting.add_to(memory.known.take());
        memory.refused = None;
        memory.known = Some(learned.clone());
        learned
    }

    /// Writes the pointer into KV, and then into storage, unless it is there. If KV cannot be written, this is tried
    /// again after the next check.
    async fn write(&self) {
        let pointer = {
            let memory = self.memory.borrow();
            let Some(known) = &memory.known else { return };
            let pointer = known.lasting();
            if memory.written.as_ref() == Some(&pointer) {
                return;
            }
            pointer
        };
        if let Some(store) = KvStore::open(&self.env, &self.config)
            && !store.point(&self.tag, &pointer).await
        {
            return;
        }
        let text = serde_json::to_string(&pointer).expect("texts and numbers serialise");
        match self.storage.put_raw(STORED, JsValue::from_str(&text)).await {
            Ok(()) => self.memory.borrow_mut().written = Some(pointer),
            Err(error) => {
                let line =
                    serde_json::json!({ "message": "a tag could not be stored", "error": error.to_string() });
                console_warn!("{line}");
            }
        }
    }
}
