//! What caches in front of the Worker may keep. Cloudflare's Workers Cache answers without running the Worker, if it is
//! switched on: <https://developers.cloudflare.com/workers/cache/>.
//!
//! - Every answer has a `Cache-Control`. Without one, Workers Cache keeps a 200 for two hours and a 404 for three
//!   minutes. Errors, and answers of a private edge, are never kept.
//! - Nothing is kept for longer than says here, also if the Worker fails: by default, Workers Cache repeats an answer
//!   for as long as the Worker answers 5xx.
//! - A manifest is asked for again so often that it is reported as pulled in time (see `pulls`). The backend does not
//!   delete its blobs then.
//! - A `Cache-Tag` says what an answer is about, for the purge route.

use crate::{
    answer::Answer,
    config::{self, Access},
    edge::Edge,
};
use firn_shared::{
    naming::image_name::ImageName,
    oci::{endpoint::Endpoint, reference::Reference, repository_name::RepositoryName},
};

/// How long what does not change may be kept, in seconds.
const FIXED_SECONDS: u64 = 300;
/// How long the answer to a tag may be kept at most, in seconds. This adds to the tag's own TTL.
const TAG_SECONDS: u64 = 30;
/// The lifetime of a manifest, as a part of `FIRN_REPORT_SECONDS`. That is half of the backend's grace period by default.
/// Each of the two tiers may keep it for a lifetime, so it is reported after 1.5 × `FIRN_REPORT_SECONDS` at the latest.
const MANIFEST_PART: u64 = 4;

/// For how long an answer may be kept, in seconds.
struct Lifetime {
    /// As it is.
    fresh: u64,
    /// After that, while a newer one is fetched or if the Worker fails.
    stale: u64,
}

impl Lifetime {
    fn of(edge: &Edge, endpoint: &Endpoint) -> Self {
        let config = &edge.config;
        let fixed = |fresh| Self { fresh, stale: 0 };
        match endpoint {
            Endpoint::Base | Endpoint::Referrers(..) => fixed(FIXED_SECONDS),
            Endpoint::Tags(_) => fixed(TAG_SECONDS.min(config.tag_ttl_seconds)),
            Endpoint::Manifest(_, Reference::Tag(_)) => {
                let seconds = TAG_SECONDS.min(config.tag_ttl_seconds);
                Self { fresh: seconds, stale: seconds }
            }
            Endpoint::Manifest(_, Reference::Digest(_)) | Endpoint::Blob(..) => {
                let report = match config.report_seconds {
                    0 => config::REPORT_SECONDS,
                    seconds => seconds,
                };
                let half = report / MANIFEST_PART / 2;
                Self { fresh: half, stale: half }
            }
        }
    }

    fn cache_control(&self) -> String {
        match self {
            Self { fresh: 0, .. } => "no-store".to_owned(),
            Self { fresh, stale } => {
                format!("public, max-age={fresh}, stale-while-revalidate={stale}, stale-if-error={stale}")
            }
        }
    }
}

/// Says in the answer to a request of the registry what caches may do with it.
pub(crate) fn mark(edge: &Edge, endpoint: &Endpoint, answer: Answer) -> Answer {
    if let Access::Private(_) = edge.config.access {
        return answer.unless_has("cache-control", || "private, no-store".to_owned());
    }
    answer
        .unless_has("cache-control", || Lifetime::of(edge, endpoint).cache_control())
        .with_some("cache-tag", tags(endpoint))
}

/// What an answer is about. The same for all formats of a manifest: Workers Cache forgets all or none of them.
fn tags(endpoint: &Endpoint) -> Option<String> {
    let image = |name: &RepositoryName| match ImageName::of(name) {
        Ok(image) => format!("image/{image}"),
        Err(_) => format!("image/{name}"),
    };
    match endpoint {
        Endpoint::Base | Endpoint::Referrers(..) => None,
        Endpoint::Tags(name) => Some(image(name)),
        Endpoint::Manifest(name, Reference::Tag(tag)) => Some(format!("{},tag/{tag}", image(name))),
        Endpoint::Manifest(name, Reference::Digest(digest)) | Endpoint::Blob(name, digest) => {
            Some(format!("{},{digest}", image(name)))
        }
    }
}
