//! `/healthz`: this Worker runs and is configured. `/healthz?deep`: whether what it depends on answers, too.
//!
//! A deep look costs one read of KV and one of R2, and asks every backend. So an isolate takes one in ten seconds, and
//! every client's count against the limit of misses.

use crate::{
    Failure, answer::Answer, backend, blob_location, clock, config::BlobOrigin, edge::Edge, kv::Kv, kv_store,
    limit::Limit,
};
use firn_shared::oci::{endpoint::Method, media_type, respond};
use serde::Serialize;
use std::cell::RefCell;

/// How long an isolate repeats what it saw, in seconds.
const REPEATED_SECONDS: u64 = 10;
/// Timeout for each thing that is asked, in milliseconds.
const MILLIS: u64 = 3_000;
/// What is asked for in KV and R2. It need not be there.
const KEY: &str = "healthz";
/// That something works.
const OK: &str = "ok";

thread_local! {
    /// The last deep look, and when it was taken, in seconds since 1970.
    static SEEN: RefCell<Option<(u16, Vec<u8>, u64)>> = const { RefCell::new(None) };
}

/// What a deep look has found: `ok`, or what is wrong.
#[derive(Serialize)]
struct Report {
    status: &'static str,
    /// In the order of `FIRN_BACKEND_URL`.
    backends: Vec<String>,
    kv: &'static str,
    bucket: &'static str,
    /// What works, but not for every client.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'static str>,
}

/// Answers `/healthz`.
pub(crate) fn health(method: Method) -> Answer {
    answer(method, 200, b"{\"status\":\"ok\"}".to_vec())
}

/// Answers `/healthz?deep`: 200, or 503 if something does not work.
pub(crate) async fn deep_health(edge: &Edge, method: Method) -> Result<Answer, Failure> {
    let seen = SEEN.with_borrow(Clone::clone);
    if let Some((status, body, since)) = seen
        && clock::now().saturating_sub(since) < REPEATED_SECONDS
    {
        return Ok(answer(method, status, body));
    }
    Limit::Misses.check(edge).await?;
    let mut backends = Vec::new();
    for backend in &edge.config.backends {
        backends.push(backend::look(&edge.config, backend, MILLIS).await.err().unwrap_or_else(|| OK.into()));
    }
    let mut report = Report {
        status: OK,
        backends,
        kv: kv(edge).await,
        bucket: bucket(edge).await,
        warning: edge.config.doubt(),
    };
    let works = [report.kv, report.bucket].into_iter().all(|state| state == OK || state == UNUSED)
        && report.backends.iter().all(|state| state == OK);
    if !works {
        report.status = "failing";
    }
    let (status, body) = (if works { 200 } else { 503 }, serde_json::to_vec(&report).unwrap_or_default());
    SEEN.set(Some((status, body.clone(), clock::now())));
    Ok(answer(method, status, body))
}

/// That a binding is missing which this deployment can do without.
const UNUSED: &str = "not bound";

async fn kv(edge: &Edge) -> &'static str {
    let Some(kv) = Kv::bound(&edge.env, kv_store::BINDING) else { return UNUSED };
    match backend::within(MILLIS, kv.text(KEY)).await {
        Some(Ok(_)) => OK,
        _ => "cannot be read",
    }
}

async fn bucket(edge: &Edge) -> &'static str {
    match edge.env.bucket(blob_location::BUCKET) {
        Ok(bucket) => match backend::within(MILLIS, bucket.head(KEY)).await {
            Some(Ok(_)) => OK,
            _ => "cannot be read",
        },
        Err(_) if matches!(edge.config.blobs, BlobOrigin::R2) => "not bound, but FIRN_BLOBS is r2",
        Err(_) => UNUSED,
    }
}

fn answer(method: Method, status: u16, body: Vec<u8>) -> Answer {
    let mut response = respond::bytes(method, media_type::JSON, body).with("cache-control", "no-store");
    response.status = status;
    response.into()
}
