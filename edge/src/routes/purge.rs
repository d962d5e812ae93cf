//! `POST /purge`: makes Workers Cache forget answers, see [`crate::caching`]. The request must carry the token
//! `FIRN_PURGE_TOKEN`. Without that variable there is no such route.
//!
//! `/purge` forgets everything, `/purge?only=image/shell/git` what has this `Cache-Tag`. What the Worker itself remembers
//! is not affected.

use crate::{Failure, answer::Answer, edge::Edge, limit::Limit};
use firn_shared::oci::{
    digest::Digest,
    endpoint::Method,
    error::{ErrorCode, OciError},
    media_type, respond,
};
use worker::console_error;
use worker::js_sys::JSON;

/// Answers the request if it is one to forget answers.
pub(crate) async fn purge(edge: &Edge) -> Option<Result<Answer, Failure>> {
    let token = edge.config.purge_token.as_ref()?;
    if edge.path() != "/purge" || edge.method() != "POST" {
        return None;
    }
    Some(authorized(edge, token).await)
}

async fn authorized(edge: &Edge, token: &Digest) -> Result<Answer, Failure> {
    let given = edge.header("authorization").unwrap_or_default();
    let given = given.split_once(' ').map_or("", |(_, token)| token.trim());
    // Of digests, the time of a comparison says nothing about the token.
    if Digest::of(given.as_bytes()) != *token {
        Limit::Misses.check(edge).await?;
        return Err(OciError::new(ErrorCode::Denied, "this needs FIRN_PURGE_TOKEN as a bearer token").into());
    }
    let only = edge.query().and_then(|query| query.strip_prefix("only="));
    let what = match only {
        Some(tags) => serde_json::json!({ "tags": tags.split(',').collect::<Vec<_>>() }),
        None => serde_json::json!({ "purgeEverything": true }),
    };
    let refused = |reason: &str| {
        console_error!("{}", serde_json::json!({ "message": "nothing was purged", "error": reason }));
        OciError::new(ErrorCode::Unavailable, format!("Workers Cache did not forget: {reason}"))
            .retry_after(60)
    };
    let Some(outcome) = edge.purge(&what.to_string()).await else {
        return Err(refused("it is not there").into());
    };
    match outcome {
        Ok(outcome) if outcome.success() => {
            let body = b"{\"status\":\"purged\"}".to_vec();
            let response = respond::bytes(Method::Get, media_type::JSON, body);
            Ok(response.with("cache-control", "no-store").into())
        }
        Ok(outcome) => {
            let errors = JSON::stringify(&outcome.errors()).ok().and_then(|text| text.as_string());
            Err(refused(&errors.unwrap_or_default()).into())
        }
        Err(error) => Err(refused(&error.to_string()).into()),
    }
}
