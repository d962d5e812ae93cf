//! `/v2/<name>/tags/list`: only the backend knows which tags have been built.

use crate::{
    Failure,
    answer::{self, Answer},
    backend,
    edge::Edge,
    limit,
};
use firn_shared::{
    discovery::TagsPage,
    endpoint::{Method, RepositoryName},
    oci_error::{ErrorCode, OciError},
};

/// The longest list that is passed on, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// Answers a request for a list of tags.
pub(crate) async fn tags(edge: &Edge, method: Method, name: &RepositoryName) -> Result<Answer, Failure> {
    name.image()?;
    limit::check(edge).await?;
    let path = format!("/v2/{name}/tags/list");
    let question = backend::Question { query: edge.query(), ..backend::Question::about(Method::Get, &path) };
    let mut response = backend::response(&edge.config, question).await?;
    let link = response.headers().get("link")?;
    let garbage = |_| {
        OciError::new(ErrorCode::Unavailable, "the backend's list of tags did not arrive whole")
            .retry_after(5)
    };
    let body = backend::body(&mut response, MAX_BYTES).await.map_err(garbage)?;
    serde_json::from_slice::<serde::de::IgnoredAny>(&body).map_err(|error| garbage(error.to_string()))?;
    Ok(answer::tags(method, TagsPage { body, link }))
}
