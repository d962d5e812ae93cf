//! Lets one request of an isolate wait for a flight in the place of all.
//!
//! Requests cannot await each other's promises, so the others look from time to time whether there is an answer. The
//! first one goes on waiting for it even if its client hangs up.

use crate::{backend, clock, edge::Edge, manifest::Fetched};
use firn_shared::{link::client_network::ClientNetwork, oci::error::OciError};
use std::cell::RefCell;
use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;
use worker::wasm_bindgen::JsValue;
use worker::wasm_bindgen_futures::{JsFuture, future_to_promise};

/// How long the first request waits at most, in milliseconds.
const LONGEST_MILLIS: u64 = 30_000;
/// How often the others look: this often at first, and ever less often, in milliseconds.
const STEPS_MILLIS: (u64, u64) = (50, 1_000);
/// How long an answer is kept for them, in milliseconds.
const KEPT_MILLIS: u64 = 3 * STEPS_MILLIS.1;

thread_local! {
    /// By what is asked for; a few at a time.
    static BOARDING: RefCell<Vec<(String, Boarding)>> = const { RefCell::new(Vec::new()) };
}

/// What others have asked for.
#[derive(Clone)]
struct Boarding {
    /// The client of the first request, if known.
    asker: Option<ClientNetwork>,
    /// When it began, or was answered, in milliseconds since 1970.
    since: u64,
    answer: Option<Result<Fetched, OciError>>,
}

impl Boarding {
    /// Whether it is of no use any longer, such as when the first request was cancelled.
    fn is_over(&self, now: u64) -> bool {
        let longest = if self.answer.is_some() { KEPT_MILLIS } else { LONGEST_MILLIS };
        now.saturating_sub(self.since) > longest
    }
}

/// The result of `ask`, which is called unless another request of this isolate waits for the result of its own.
///
/// # Errors
/// Those of `ask`. One that is about the quota of a client is told to that client only.
pub(crate) async fn together<Asked>(
    edge: &Edge,
    key: &str,
    ask: impl FnOnce() -> Asked,
) -> Result<Fetched, OciError>
where
    Asked: Future<Output = Result<Fetched, OciError>> + 'static,
{
    let address = edge.client().and_then(|text| text.parse::<IpAddr>().ok());
    let asker = address.map(ClientNetwork::of);
    let (begun, mut step, mut has_waited) = (clock::now_millis(), STEPS_MILLIS.0, false);
    while let Some(boarding) = get(key) {
        match boarding.answer {
            _ if boarding.is_over(clock::now_millis()) => break,
            None => {}
            // It was given before this request came.
            Some(_) if !has_waited => break,
            Some(Err(error)) if error.is_of_client_quota() && boarding.asker != asker => break,
            Some(answer) => return answer,
        }
        if clock::now_millis().saturating_sub(begun) > LONGEST_MILLIS {
            return Err(backend::taking_long());
        }
        backend::sleep(step).await;
        (step, has_waited) = ((step * 3 / 2).min(STEPS_MILLIS.1), true);
    }
    set(key, Boarding { asker, since: clock::now_millis(), answer: None });
    let (own, asked) = (Rc::new(RefCell::new(None)), ask());
    let (copy, key) = (own.clone(), key.to_owned());
    // A promise, because a `Shared` future wakes its tasks while it is locked, and `settle` polls at once when woken.
    let work = future_to_promise(async move {
        let answer = asked.await;
        set(&key, Boarding { asker, since: clock::now_millis(), answer: Some(answer.clone()) });
        copy.replace(Some(answer));
        Ok(JsValue::UNDEFINED)
    });
    let rest = work.clone();
    edge.later(async move { drop(JsFuture::from(rest).await) });
    let _ = JsFuture::from(work).await;
    own.take().unwrap_or_else(|| Err(backend::taking_long()))
}

fn set(key: &str, boarding: Boarding) {
    BOARDING.with_borrow_mut(|all| {
        let now = clock::now_millis();
        all.retain(|(other, boarding)| other != key && !boarding.is_over(now));
        all.push((key.to_owned(), boarding));
    });
}

fn get(key: &str) -> Option<Boarding> {
    BOARDING
        .with_borrow(|all| all.iter().find(|(other, _)| other == key).map(|(_, boarding)| boarding.clone()))
}
