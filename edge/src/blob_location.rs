//! The URL of a blob.

use crate::{
    clock,
    config::{BlobOrigin, Config},
};
use firn_shared::{
    link::{authentication, object_key::blob_key},
    oci::{digest::Digest, endpoint::Method, repository_name::RepositoryName, respond::CacheScope},
};

/// The R2 binding.
pub(crate) const BUCKET: &str = "BLOBS";

/// A URL for a blob.
pub(crate) struct Location {
    /// The URL. If it is signed, it works for one method only.
    pub(crate) url: String,
    /// How long it may be cached, in seconds: half of its lifetime.
    pub(crate) seconds: u64,
    /// Who else may use it: a signed one is for one client.
    pub(crate) scope: CacheScope,
}

/// How long a URL that does not expire may be cached: a day, in seconds.
const UNSIGNED_SECONDS: u64 = 24 * 3600;

impl Location {
    fn unsigned(url: String) -> Self {
        Self { url, seconds: UNSIGNED_SECONDS, scope: CacheScope::Public }
    }

    /// A URL that holds for some seconds.
    fn signed(url: String, seconds: u64) -> Self {
        Self { url, seconds: seconds / 2, scope: CacheScope::Private }
    }
}

/// The URL of a blob for a method. None if only the Worker can read it.
pub(crate) fn locate(
    config: &Config,
    method: Method,
    name: &RepositoryName,
    digest: &Digest,
) -> Option<Location> {
    match &config.blobs {
        BlobOrigin::Backend(base) => {
            let path = format!("/v2/{name}/blobs/{digest}");
            Some(match &config.secret {
                None => Location::unsigned(format!("{base}{path}")),
                Some(secret) => {
                    let proof = secret.sign(method.as_str(), &path, clock::now());
                    let url = format!("{base}{path}?{}={proof}", authentication::HEADER);
                    Location::signed(url, authentication::WINDOW_SECONDS)
                }
            })
        }
        BlobOrigin::Public(base) => Some(Location::unsigned(format!("{base}/{}", blob_key(digest)))),
        BlobOrigin::Presigned { bucket, seconds } => {
            let now = i64::try_from(clock::now()).expect("clocks stay within i64");
            let url = bucket.presign(method, &blob_key(digest), now, *seconds);
            Some(Location::signed(url, *seconds))
        }
        BlobOrigin::R2 => None,
    }
}
