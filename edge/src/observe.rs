//! What operators see of a request: a line in the log, a point in Analytics Engine. Never secrets, and no
//! client addresses.

use crate::{config::Log, edge::Edge, memory};
use firn_shared::protocol::SOURCE;
use worker::{AnalyticsEngineDataPointBuilder, Request, Response, console_log};

/// The Analytics Engine binding; without it nothing is counted.
const BINDING: &str = "PULLS";

/// Reports a request that began at `start` (milliseconds since 1970).
pub(crate) fn request(edge: &Edge, request: &Request, response: &Response, start: u64) {
    let status = response.status_code();
    let source = response.headers().get(SOURCE).ok().flatten();
    let outcome = match (status, source.as_deref()) {
        (400.., _) => "error",
        (_, Some("cache" | "kv")) => "hit",
        (_, Some("composed")) => "composed",
        (_, Some(_)) => "miss",
        (_, None) => "other",
    };
    let logged = match edge.config.log {
        Log::All => true,
        Log::Misses => matches!(outcome, "miss" | "composed" | "error"),
        Log::None => false,
    };
    let path = request.path();
    let duration_ms = memory::now_millis().saturating_sub(start);
    if logged {
        let line = serde_json::json!({
            "message": "request",
            "method": request.method().as_ref(),
            "path": path.chars().take(400).collect::<String>(),
            "status": status,
            "outcome": outcome,
            "source": source,
            "duration_ms": duration_ms,
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
                source.as_deref().unwrap_or_default(),
            ])
            .doubles([duration_ms as f64, f64::from(status)]);
        // Counting must not cost anybody an answer.
        let _ = point.write_to(&dataset);
    }
}
