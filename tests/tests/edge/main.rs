//! The Worker in real workerd with real KV, R2, Durable Objects and Cache API: what a client sees, and what
//! the backend sees.

mod access;
mod blob_rules;
mod blobs;
mod broken_upstreams;
mod builds;
mod caching;
mod composition;
mod flights;
mod health;
mod lost;
mod manifests;
mod misses;
mod observation;
mod pulls;
mod quotas;
mod release;
mod renewal;
mod scale;
mod size;
mod tags;
mod wrangler;

use firn_shared::{
    link::{
        edge_cache::{ManifestMetadata, manifest_key},
        protocol::ImageSetId,
        tag_pointer::TagPointer,
    },
    oci::{digest::Digest, error::OciError, media_type::ManifestFormat, reference::Tag},
};
use firn_tests::edge::{Edge, Origin, Settings, planet::Planet};

/// An edge in front of a backend that follows the protocol.
async fn pair(settings: impl FnOnce(Settings) -> Settings) -> (Edge, Origin) {
    let origin = Origin::start().await;
    let edge = Edge::start(settings(Settings::new(&origin.url))).await;
    (edge, origin)
}

/// Sends requests until this limit per minute is reached. Returns the refusal, and how many requests were answered
/// before. The limiter's minutes follow the clock, so a new one may begin meanwhile.
async fn until_limited(
    limit: usize,
    ask: impl AsyncFn(usize) -> reqwest::Response,
) -> (reqwest::Response, usize) {
    for i in 0..=10 * limit {
        let response = ask(i).await;
        if response.status() == 429 {
            assert!(i >= limit, "{i} were answered");
            return (response, i);
        }
    }
    panic!("there is no limit");
}

/// Puts the backend's image of a name into KV, for `latest`.
async fn put_image(edge: &Edge, name: &str) -> Digest {
    let (bytes, format) = (Origin::manifest(name, "set-1", ManifestFormat::Oci), ManifestFormat::Oci);
    let set: ImageSetId = "set-1".parse().expect("a token");
    let digest = Digest::of(&bytes);
    let metadata = ManifestMetadata {
        digest,
        media_type: format.manifest().into(),
        revision: None,
        // An old one would be written again, and KV takes one write a second.
        created: AsRef::<Planet>::as_ref(edge).now().await,
        composed: false,
    };
    let metadata = serde_json::to_string(&metadata).expect("texts and numbers serialise");
    let key = manifest_key(&set, &name.parse().expect("a name"), format);
    edge.put("kv", &key.to_string(), bytes, Some(&metadata)).await;
    let pointer = TagPointer { package_set: set, previous: None, moved: 0, checked: 0, failed: None };
    let pointer = serde_json::to_vec(&pointer).expect("it serialises");
    edge.put("kv", &TagPointer::key(&Tag::default()).to_string(), pointer, None).await;
    digest
}

/// A header's value. Empty if there is no such header.
fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().expect("text"))
}

/// Status and error code of an error response in the registry's envelope.
async fn refusal(response: reqwest::Response) -> (u16, String) {
    let status = response.status().as_u16();
    assert_eq!(header(&response, "content-type"), "application/json");
    assert_eq!(header(&response, "docker-distribution-api-version"), "registry/2.0");
    let length: usize = header(&response, "content-length").parse().expect("a length");
    let body = response.bytes().await.expect("a body");
    assert_eq!(body.len(), length);
    let error = OciError::from_body(&body).unwrap_or_else(|| panic!("an OCI error, not {body:?}"));
    assert!(!error.message.is_empty());
    let code = serde_json::to_value(error.code).expect("a code");
    (status, code.as_str().expect("text").to_owned())
}
