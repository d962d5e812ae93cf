//! The data that layering goes by, read from the URLs or files that options name.

use crate::{
    config::{ConfigError, ImageArgs},
    error_chain::chain,
};
use firn_shared::{
    layering::{Popularity, PopularityCounts, RevisionProfile, Sharing, Strategy, StrategyName},
    naming::source_url::SourceUrl,
};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// How long the server that has the data may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The layering strategy that the options choose, with its data.
///
/// # Errors
/// When the data cannot be read.
pub(super) async fn strategy(args: &ImageArgs) -> Result<Box<dyn Strategy>, ConfigError> {
    match args.strategy {
        StrategyName::Sharing => {
            let profile: RevisionProfile = load("--profile", args.profile.as_deref()).await?;
            Ok(Box::new(Sharing::new(Arc::new(profile))))
        }
        StrategyName::Popularity => {
            let counts: PopularityCounts = load("--popularity-url", args.popularity_url.as_deref()).await?;
            Ok(Box::new(Popularity::new(counts)))
        }
    }
}

/// JSON from a URL or file; the default where none is given.
async fn load<T: DeserializeOwned + Default>(option: &str, url: Option<&str>) -> Result<T, ConfigError> {
    let Some(url) = url else { return Ok(T::default()) };
    let error = |error: &dyn std::error::Error| {
        let (shown, text) = (SourceUrl::from(url), chain(error));
        ConfigError(format!("{option} {shown}: {}", shown.redact(&text)))
    };
    let bytes = if url.starts_with("http://") || url.starts_with("https://") {
        let client = reqwest::Client::builder().timeout(LIMIT).build().map_err(|e| error(&e))?;
        let response = client.get(url).send().await.and_then(reqwest::Response::error_for_status);
        response.map_err(|e| error(&e))?.bytes().await.map_err(|e| error(&e))?.to_vec()
    } else {
        let path = url.strip_prefix("file://").unwrap_or(url);
        tokio::fs::read(path).await.map_err(|e| error(&e))?
    };
    serde_json::from_slice(&bytes).map_err(|e| error(&e))
}
