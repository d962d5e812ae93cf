//! Reads a storage URL: a directory, memory, or a bucket with the environment's credentials.

use super::StoreError;
use object_store::{
    BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    path::Path,
    prefix::PrefixStore,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Environment variables by name.
pub(crate) type Variables = BTreeMap<String, String>;

/// Where the objects are.
#[derive(Debug)]
pub(super) enum Medium {
    /// `memory://`: in this process, until it ends.
    Memory,
    /// `file:///DIR`: in this directory.
    Files(PathBuf),
    /// `s3://BUCKET[/PREFIX]`, `gs://…` or `az://…`.
    Bucket(Arc<dyn ObjectStore>),
}

/// The kinds of buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Provider {
    S3,
    Gcs,
    Azure,
}

const PROVIDERS: [(&str, Provider); 3] =
    [("s3://", Provider::S3), ("gs://", Provider::Gcs), ("az://", Provider::Azure)];

/// Timeouts of bucket clients. Transferring a blob may take long, because only silence is limited. The total timeout
/// also applies to sending a part.
const PATIENCE: [(ClientConfigKey, &str); 2] =
    [(ClientConfigKey::Timeout, "1 day"), (ClientConfigKey::ReadTimeout, "60 seconds")];

/// A client that pulls gives up after 30 s, so longer retries are useless.
fn retry() -> RetryConfig {
    let backoff = BackoffConfig { max_backoff: Duration::from_secs(3), ..BackoffConfig::default() };
    RetryConfig { backoff, max_retries: 8, retry_timeout: Duration::from_secs(20) }
}

impl Medium {
    /// Parses the URL.
    ///
    /// # Errors
    /// If the URL is invalid, or the variables for that kind of bucket are insufficient or contradict each other.
    pub(super) fn parse(url: &str, variables: &Variables) -> Result<Self, StoreError> {
        let unknown = || StoreError::Url(url.to_owned());
        if url == "memory://" {
            return Ok(Self::Memory);
        }
        if let Some(dir) = url.strip_prefix("file://") {
            return if dir.starts_with('/') { Ok(Self::Files(dir.into())) } else { Err(unknown()) };
        }
        let (rest, provider) = PROVIDERS
            .into_iter()
            .find_map(|(scheme, provider)| Some((url.strip_prefix(scheme)?, provider)))
            .ok_or_else(unknown)?;
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(unknown());
        }
        let prefix = Path::parse(prefix).map_err(|_| unknown())?;
        let bucket = provider.bucket(name, variables);
        let bucket = bucket.map_err(|source| StoreError::Bucket { url: url.to_owned(), source })?;
        Ok(Self::Bucket(match prefix.is_root() {
            true => bucket,
            false => Arc::new(PrefixStore::new(bucket, prefix)),
        }))
    }
}

impl Provider {
    /// A client of the bucket. It is configured by the variables that the provider's own tools read.
    fn bucket(self, name: &str, variables: &Variables) -> object_store::Result<Arc<dyn ObjectStore>> {
        Ok(match self {
            Self::S3 => {
                let builder = AmazonS3Builder::new().with_bucket_name(name).with_retry(retry());
                let settings = self.settings(variables, AmazonS3ConfigKey::Client);
                Arc::new(
                    settings
                        .fold(builder, |builder, (key, value)| builder.with_config(key, value))
                        .build()?,
                )
            }
            Self::Gcs => {
                let builder = GoogleCloudStorageBuilder::new().with_bucket_name(name).with_retry(retry());
                let settings = self.settings(variables, GoogleConfigKey::Client);
                Arc::new(
                    settings
                        .fold(builder, |builder, (key, value)| builder.with_config(key, value))
                        .build()?,
                )
            }
            Self::Azure => {
                let builder = MicrosoftAzureBuilder::new().with_container_name(name).with_retry(retry());
                let settings = self.settings(variables, AzureConfigKey::Client);
                Arc::new(
                    settings
                        .fold(builder, |builder, (key, value)| builder.with_config(key, value))
                        .build()?,
                )
            }
        })
    }

    /// Firn's settings, then those of the environment, which overrule them.
    fn settings<'a, K: FromStr + 'a>(
        self,
        variables: &'a Variables,
        client: fn(ClientConfigKey) -> K,
    ) -> impl Iterator<Item = (K, &'a str)> {
        // An http:// endpoint allows plain HTTP. Other tools need no second variable for that either.
        let is_plain = |(name, value): (&String, &String)| {
            name.starts_with(self.endpoint_variable()) && value.starts_with("http://")
        };
        let plain = variables.iter().any(is_plain).then_some((ClientConfigKey::AllowHttp, "true"));
        let ours = PATIENCE.into_iter().chain(plain).map(move |(key, value)| (client(key), value));
        ours.chain(variables.iter().filter_map(move |(name, value)| Some((self.key(name)?, value.as_str()))))
    }

    /// The name, or its prefix, of the variable with the service's URL.
    const fn endpoint_variable(self) -> &'static str {
        match self {
            Self::S3 => "AWS_ENDPOINT",
            Self::Gcs => "GOOGLE_BASE_URL",
            Self::Azure => "AZURE_STORAGE_ENDPOINT",
        }
    }

    /// The setting of a variable, if the variable is one of this provider's.
    fn key<K: FromStr>(self, variable: &str) -> Option<K> {
        let prefix = match self {
            Self::S3 => "AWS_",
            Self::Gcs => "GOOGLE_",
            Self::Azure => "AZURE_",
        };
        // Azure's managed identities have a variable without a prefix.
        let ours = variable.starts_with(prefix) || (self == Self::Azure && variable == "IDENTITY_ENDPOINT");
        ours.then(|| variable.to_ascii_lowercase().parse().ok()).flatten()
    }
}

/// The bucket of this name at S3 or a service like it.
pub(crate) fn s3_bucket(name: &str, variables: &Variables) -> object_store::Result<Arc<dyn ObjectStore>> {
    Provider::S3.bucket(name, variables)
}

/// Whether this environment variable affects the store at this URL.
pub fn is_variable_of(url: &str, variable: &str) -> bool {
    let provider = PROVIDERS.into_iter().find(|(scheme, _)| url.starts_with(scheme));
    match provider.map(|(_, provider)| provider) {
        Some(provider @ Provider::S3) => provider.key::<AmazonS3ConfigKey>(variable).is_some(),
        Some(provider @ Provider::Gcs) => provider.key::<GoogleConfigKey>(variable).is_some(),
        Some(provider @ Provider::Azure) => provider.key::<AzureConfigKey>(variable).is_some(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Medium, StoreError> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Medium::parse(url, &Variables::new())
    }

    #[test]
    fn names_places() {
        assert!(matches!(parse("memory://"), Ok(Medium::Memory)));
        assert!(matches!(parse("file:///srv/firn"), Ok(Medium::Files(dir)) if dir.ends_with("firn")));
        for url in ["s3://firn", "s3://firn/", "s3://firn/some/where", "gs://firn", "gs://firn.example/x"] {
            assert!(matches!(parse(url), Ok(Medium::Bucket(_))), "{url}");
        }
        assert!(matches!(parse("az://firn"), Err(StoreError::Bucket { .. })), "an account is missing");
        let account = ("AZURE_STORAGE_ACCOUNT_NAME".to_owned(), "snow".to_owned());
        assert!(matches!(Medium::parse("az://firn", &Variables::from([account])), Ok(Medium::Bucket(_))));
    }

    #[test]
    fn refuses_urls_it_does_not_know() {
        for url in ["", "ftp://x", "file://relative", "/plain", "s3://", "s3:///x", "s3://a b", "s3://a/b//c"]
        {
            assert!(matches!(parse(url), Err(StoreError::Url(_))), "{url}");
        }
    }

    #[test]
    fn knows_the_variables_that_count() {
        for (url, variable, expect) in [
            ("s3://firn", "AWS_ENDPOINT_URL", true),
            ("s3://firn", "AWS_SECRET_ACCESS_KEY", true),
            ("s3://firn", "AWS_PAGER", false),
            ("s3://firn", "GOOGLE_SERVICE_ACCOUNT", false),
            ("gs://firn", "GOOGLE_APPLICATION_CREDENTIALS", true),
            ("az://firn", "AZURE_STORAGE_ACCOUNT_NAME", true),
            ("az://firn", "IDENTITY_ENDPOINT", true),
            ("file:///srv", "AWS_ENDPOINT_URL", false),
        ] {
            assert_eq!(is_variable_of(url, variable), expect, "{url} {variable}");
        }
    }
}
