//! Files of a cache in a bucket.

use super::{Body, TransportError};
use futures::{StreamExt, TryStreamExt};
use object_store::{GetOptions, GetRange, ObjectStore, path::Path};
use std::sync::Arc;

/// The bucket of this name. The environment's variables configure the access, and settings of the URL overrule them.
pub(super) fn open(
    name: &str,
    settings: &[(String, String)],
) -> Result<Arc<dyn ObjectStore>, TransportError> {
    let mut variables: std::collections::BTreeMap<String, String> =
        crate::process::own_environment::texts().collect();
    let setting = |wanted: &str| settings.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    if let Some(region) = setting("region") {
        variables.insert("AWS_REGION".into(), region.clone());
    }
    if let Some(endpoint) = setting("endpoint") {
        let scheme = setting("scheme").map_or("https", String::as_str);
        let url = if endpoint.contains("://") { endpoint.clone() } else { format!("{scheme}://{endpoint}") };
        variables.retain(|name, _| !name.starts_with("AWS_ENDPOINT"));
        variables.insert("AWS_ENDPOINT_URL".into(), url);
    }
    crate::store::s3_bucket(name, &variables).map_err(|error| TransportError::Client(error.to_string()))
}

fn failed(error: object_store::Error) -> TransportError {
    match error {
        object_store::Error::NotFound { .. } => TransportError::Status { status: 404, retry_after: None },
        object_store::Error::PermissionDenied { .. } => {
            TransportError::Status { status: 403, retry_after: None }
        }
        object_store::Error::Unauthenticated { .. } => {
            TransportError::Status { status: 401, retry_after: None }
        }
        error => TransportError::Connection(error.to_string()),
    }
}

pub(super) async fn body(
    bucket: &Arc<dyn ObjectStore>,
    name: &str,
    offset: u64,
) -> Result<Body, TransportError> {
    let range = (offset > 0).then_some(GetRange::Offset(offset));
    let location = Path::parse(name).map_err(|error| TransportError::Client(error.to_string()))?;
    let got =
        bucket.get_opts(&location, GetOptions { range, ..GetOptions::default() }).await.map_err(failed)?;
    Ok(Body {
        total: Some(got.meta.size),
        version: got.meta.e_tag.clone(),
        start: got.range.start,
        chunks: got.into_stream().map_err(failed).boxed(),
    })
}
