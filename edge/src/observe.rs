//! Reports requests to the operator: a line in the log and a point in Analytics Engine. Neither contains secrets or
//! client addresses.

use crate::{answer::Answer, clock, config::Log, edge::Edge};
use firn_shared::{link::protocol::AnswerSource, oci::endpoint::Method};
use worker::{AnalyticsEngineDataPointBuilder, console_log};

/// The Analytics Engine binding. Without it nothing is counted.
const BINDING: &str = "PULLS";

/// Reports a request that began at `start` (milliseconds since 1970).
pub(crate) fn request(edge: &Edge, method: Method, answer: &Answer, start: u64) {
    let (status, source) = (answer.status, answer.source);
    let outcome = match (status, source) {
        (400.., _) => "error",
        (_, Some(AnswerSource::Cache | AnswerSource::Kv)) => "hit",
        (_, Some(AnswerSource::Composed)) => "composed",
        (_, Some(AnswerSource::Backend)) => "miss",
        (_, None) => "other",
    };
    let logged = match edge.config.log {
        Log::All => true,
        Log::Misses => matches!(outcome, "miss" | "composed" | "error"),
        Log::None => false,
    };
    let path = edge.path();
    let duration_ms = || clock::now_millis().saturating_sub(start);
    if logged {
        let line = serde_json::json!({
            "message": "request",
            "method": method.as_str(),
            "path": path.chars().take(400).collect::<String>(),
            "status": status,
            "outcome": outcome,
            "source": source.map(AnswerSource::as_str),
            "duration_ms": duration_ms(),
        });
        console_log!("{line}");
    }
    if let Ok(dataset) = edge.env.analytics_engine(BINDING) {
        let kind =
            ["/manifests/", "/blobs/", "/tags/", "/referrers/"].into_iter().find(|kind| path.contains(kind));
        let point = AnalyticsEngineDataPointBuilder::new()
            .indexes([outcome])
            .blobs([
                outcome,
                kind.unwrap_or("other").trim_matches('/'),
                source.map_or("", AnswerSource::as_str),
            ])
            .doubles([duration_ms() as f64, f64::from(status)]);
        // A failure to count must not fail the request.
        let _ = point.write_to(&dataset);
    }
}
