//! How images are made.

use super::{ConfigError, bounds::mebibytes};
use crate::layers::packing::Encoder;
use clap::Args;
use firn_shared::{
    layering::{
        DEFAULT_BUDGET, Popularity, PopularityCounts, RevisionProfile, Sharing, Strategy, StrategyName,
    },
    naming::source_url::SourceUrl,
};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// Layering and compression.
#[derive(Debug, Clone, Args)]
pub struct ImageArgs {
    /// Maximum number of layers of an image, without the symlink layer; clients stop at 125 to 127
    #[arg(long, env = "FIRN_LAYER_BUDGET", value_name = "N", default_value_t = DEFAULT_BUDGET as u16,
          value_parser = clap::value_parser!(u16).range(1..=120))]
    pub layer_budget: u16,

    /// The largest closure that an image may have, in MiB of NAR
    #[arg(long, env = "FIRN_MAX_CLOSURE", value_name = "MIB", value_parser = mebibytes(), default_value_t = 32_768)]
    pub max_closure: u64,

    /// How store paths are put into layers: sharing or popularity
    #[arg(long, env = "FIRN_STRATEGY", value_name = "NAME", default_value_t)]
    pub strategy: StrategyName,

    /// URL or file with a profile of the package set, written by firn popularity --profile, for --strategy sharing
    #[arg(long, env = "FIRN_PROFILE", value_name = "URL", hide_env_values = true)]
    pub profile: Option<String>,

    /// URL or file with popularity data, a JSON object of counts by package name, for --strategy popularity
    #[arg(long, env = "FIRN_POPULARITY_URL", value_name = "URL", hide_env_values = true)]
    pub popularity_url: Option<String>,

    /// How layers are compressed: gzip or zstd, optionally with :LEVEL
    #[arg(long, env = "FIRN_COMPRESSION", value_name = "METHOD", default_value_t = Encoder::GZIP)]
    pub compression: Encoder,
}

/// Timeout of downloading the data.
const LIMIT: Duration = Duration::from_secs(60);

impl ImageArgs {
    /// The layering strategy, with its data.
    ///
    /// # Errors
    /// If the data cannot be fetched or read.
    pub async fn strategy(&self) -> Result<Box<dyn Strategy>, ConfigError> {
        match self.strategy {
            StrategyName::Sharing => {
                let profile: RevisionProfile = load("--profile", self.profile.as_deref()).await?;
                Ok(Box::new(Sharing::new(Arc::new(profile))))
            }
            StrategyName::Popularity => {
                let counts: PopularityCounts =
                    load("--popularity-url", self.popularity_url.as_deref()).await?;
                Ok(Box::new(Popularity::new(counts)))
            }
        }
    }
}

/// Reads JSON from a URL or file. Returns the default if no URL is given.
async fn load<T: DeserializeOwned + Default>(option: &str, url: Option<&str>) -> Result<T, ConfigError> {
    let Some(url) = url else { return Ok(T::default()) };
    let error = |error: &dyn std::error::Error| {
        let (shown, text) = (SourceUrl::from(url), crate::error_chain::chain(error));
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
