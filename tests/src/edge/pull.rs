//! A client that pulls whole images, as Docker does.

use crate::edge::planet::Place;
use firn_shared::oci::{
    digest::Digest,
    document::Document,
    media_type::{DOCKER_MANIFEST, OCI_MANIFEST},
};
use reqwest::{Method, Response};

/// What a client has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Puller<'a> {
    /// Name and password.
    pub credentials: Option<(&'a str, &'a str)>,
    /// Whether a rule before the Worker redirects requests for blobs to the bucket.
    pub is_redirected: bool,
}

/// A pull that succeeded.
#[derive(Debug)]
pub struct Pulled {
    /// The manifest's digest.
    pub digest: Digest,
    /// The number of its blobs.
    pub blobs: usize,
    /// How many of them the client was sent elsewhere for.
    pub redirects: usize,
}

impl Puller<'_> {
    /// Pulls an image by its tag: resolves the tag by HEAD, gets the manifest by its digest, then the config and all layers.
    /// Redirects are counted and not followed.
    ///
    /// # Panics
    /// If anything is refused.
    pub async fn pull(self, place: Place<'_>, name: &str) -> Pulled {
        let login = self.send(place, Method::GET, "/v2/").await;
        assert_eq!(login.status(), 200);
        let resolved = self.send(place, Method::HEAD, &format!("/v2/{name}/manifests/latest")).await;
        assert_eq!(resolved.status(), 200, "{name}: {:?}", resolved.headers());
        let digest = resolved.headers()["docker-content-digest"].to_str().expect("text");
        let digest: Digest = digest.parse().expect("a digest");
        let manifest = self.send(place, Method::GET, &format!("/v2/{name}/manifests/{digest}")).await;
        assert_eq!(manifest.status(), 200);
        let manifest = manifest.bytes().await.expect("a body");
        assert_eq!(Digest::of(&manifest), digest);
        let document = Document::parse(&manifest).expect("a manifest");
        let (mut blobs, mut redirects) = (0, 0);
        for child in document.children() {
            blobs += 1;
            if self.is_redirected {
                redirects += 1;
                continue;
            }
            let blob =
                self.send(place, Method::GET, &format!("/v2/{name}/blobs/{}", child.descriptor.digest)).await;
            match blob.status().as_u16() {
                200 => assert_eq!(Digest::of(&blob.bytes().await.expect("a body")), child.descriptor.digest),
                307 => redirects += 1,
                status => panic!("{name}: blob {}: {status}", child.descriptor.digest),
            }
        }
        Pulled { digest, blobs, redirects }
    }

    async fn send(self, place: Place<'_>, method: Method, path: &str) -> Response {
        let request =
            place.request(method, path).header("accept", format!("{OCI_MANIFEST}, {DOCKER_MANIFEST}"));
        let request = match self.credentials {
            Some((name, password)) => request.basic_auth(name, Some(password)),
            None => request,
        };
        request.send().await.expect("the planet answers")
    }
}
