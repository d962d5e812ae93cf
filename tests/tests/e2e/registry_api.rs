//! The pull and discovery API, as in the distribution spec and as real clients use it.

use crate::backend;
use firn_shared::link::protocol::{PACKAGE_SET, REVISION};
use firn_tests::{image::Image, layer::sha256, registry::ACCEPT};
use serde_json::json;

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

#[test]
fn says_that_it_is_a_registry() {
    let registry = backend().registry();
    for path in ["/v2/", "/v2"] {
        let answer = registry.get(path);
        assert_eq!((answer.status, answer.json()), (200, json!({})), "{path}");
        assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
        assert_eq!(registry.head(path).status, 200);
    }
    assert_eq!(registry.get("/healthz").status, 200);
}

/// `HEAD` returns the same as `GET` without the body, for manifests, blobs and lists.
#[test]
fn head_equals_get() {
    let registry = backend().registry();
    let image = Image::pull(&registry, "hello");
    let layer = image.layer_digests().remove(0);
    for path in [
        "/v2/hello/manifests/latest".to_owned(),
        format!("/v2/hello/manifests/{}", image.digest),
        format!("/v2/hello/blobs/{layer}"),
        format!("/v2/hello/blobs/{}", image.manifest.config().digest()),
        "/v2/hello/tags/list".to_owned(),
        format!("/v2/hello/referrers/{}", image.digest),
    ] {
        let (get, head) = (registry.get(&path), registry.head(&path));
        let mut headers = [get.headers.clone(), head.headers.clone()];
        headers.iter_mut().for_each(|headers| drop(headers.remove("date")));
        assert_eq!(headers[0], headers[1], "{path}");
        assert_eq!((get.status, head.status, head.body.len()), (200, 200, 0), "{path}");
        assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()), "{path}");
    }
    registry.settled("no-such-package", "latest");
    for path in
        ["/v2/no-such-package/manifests/latest", "/v2/NOT/manifests/latest", "/v2/hello/blobs/sha256:x"]
    {
        let (get, head) = (registry.get(path), registry.head(path));
        assert_eq!((get.status, head.body.len()), (head.status, 0), "{path}");
        assert!(get.status >= 400, "{path}");
    }
}

/// An edge asks what a tag names, without asking for an image.
#[test]
fn says_what_a_tag_names() {
    let registry = backend().registry();
    registry.built("hello", "latest");
    let (image, named) = (registry.manifest("hello"), registry.get("/tags/latest"));
    assert_eq!(named.status, 200);
    for header in [PACKAGE_SET, REVISION] {
        assert!(named.header(header).is_some(), "{header}");
        assert_eq!(named.header(header), image.header(header), "{header}");
    }
    assert_eq!(Some(named.json()["revision"].as_str().expect("a text")), named.header(REVISION));
    assert_eq!(registry.head("/tags/latest").status, 200);
    for tag in ["nixos-24.05", "-x", "a%2Fb"] {
        let answer = registry.get(&format!("/tags/{tag}"));
        assert_eq!((answer.status, answer.error().0.as_str()), (404, "MANIFEST_UNKNOWN"), "{tag}");
    }
}

#[test]
fn negotiates_the_manifest_format() {
    let registry = backend().registry();
    let ask = |accept: &[&str]| {
        let headers: Vec<_> = accept.iter().map(|value| ("accept", *value)).collect();
        registry.built("hello", "latest");
        let answer = registry.request("GET", "/v2/hello/manifests/latest", &headers);
        assert_eq!(answer.status, 200, "{accept:?}");
        assert_eq!(answer.json()["mediaType"].as_str(), answer.header("content-type"), "{accept:?}");
        let digest = sha256(answer.body.as_slice()).expect("memory can be read");
        assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()), "{accept:?}");
        answer
    };
    for accept in [&[OCI][..], &["*/*"], &[DOCKER, OCI], &[&format!("{DOCKER}, {OCI};q=0.9")], &["text/html"]]
    {
        assert_eq!(ask(accept).header("content-type"), Some(OCI), "{accept:?}");
    }
    // Clients older than OCI.
    let docker = ask(&[DOCKER, "application/vnd.docker.distribution.manifest.v1+prettyjws"]);
    assert_eq!(docker.header("content-type"), Some(DOCKER));
    // Or those that refuse it, though they accept all else.
    for accept in [&[&*format!("{OCI};q=0"), "*/*"][..], &["*/*", &format!("{OCI}; q=0.0")]] {
        assert_eq!(ask(accept).header("content-type"), Some(DOCKER), "{accept:?}");
    }
    let (docker, oci) = (docker.json(), ask(&[OCI]).json());
    let blobs = |manifest: &serde_json::Value| {
        let layers = manifest["layers"].as_array().expect("layers").iter();
        layers
            .map(|layer| layer["digest"].clone())
            .chain([manifest["config"]["digest"].clone()])
            .collect::<Vec<_>>()
    };
    assert_eq!(blobs(&docker), blobs(&oci), "the same image in other words");
    let types: Vec<_> =
        docker["layers"].as_array().expect("layers").iter().map(|layer| &layer["mediaType"]).collect();
    assert!(types.iter().all(|t| *t == "application/vnd.docker.image.rootfs.diff.tar.gzip"), "{types:?}");
    assert_eq!(docker["config"]["mediaType"], "application/vnd.docker.container.image.v1+json");
}

#[test]
fn answers_by_digest_and_under_any_query() {
    let registry = backend().registry();
    let by_tag = registry.built("hello", "latest");
    let digest = by_tag.header("docker-content-digest").expect("a digest");
    for path in [
        format!("/v2/hello/manifests/{digest}"),
        format!("/v2/hello/manifests/{}", digest.replace(':', "%3A")),
        "/v2/hello/manifests/latest?ns=registry.example".to_owned(),
        format!("/v2/hello/manifests/{digest}?ns=registry.example"),
    ] {
        let answer = registry.request("GET", &path, &ACCEPT);
        assert_eq!((answer.status, &answer.body), (200, &by_tag.body), "{path}");
        assert_eq!(answer.header("content-type"), Some(OCI), "{path}");
        assert_eq!(answer.header("docker-content-digest"), Some(digest), "{path}");
    }
    // A blob that is not a manifest is not served as one.
    let image = Image::pull(&registry, "hello");
    let config = image.manifest.config().digest();
    assert_eq!(registry.get(&format!("/v2/hello/manifests/{config}")).status, 404);
}

#[test]
fn knows_what_has_not_changed() {
    let registry = backend().registry();
    let image = Image::pull(&registry, "hello");
    for path in [
        "/v2/hello/manifests/latest".to_owned(),
        format!("/v2/hello/manifests/{}", image.digest),
        format!("/v2/hello/blobs/{}", image.manifest.config().digest()),
    ] {
        let etag = registry.get(&path).header("etag").expect("an entity tag").to_owned();
        for known in [etag.clone(), format!("\"other\", {etag}"), format!("W/{etag}"), "*".to_owned()] {
            let answer = registry.request("GET", &path, &[("if-none-match", &known)]);
            assert_eq!((answer.status, answer.body.len()), (304, 0), "{path}: {known}");
            assert_eq!(answer.header("etag"), Some(etag.as_str()), "{path}");
        }
        // Several lines are one list.
        let lines = [("if-none-match", "\"other\""), ("if-none-match", &etag)];
        assert_eq!(registry.request("GET", &path, &lines).status, 304, "{path}");
        let answer = registry.request("GET", &path, &[("if-none-match", "\"other\"")]);
        assert!(answer.status == 200 && !answer.body.is_empty(), "{path}");
    }
}

#[test]
fn serves_parts_of_blobs() {
    let registry = backend().registry();
    let image = Image::pull(&registry, "hello");
    let digest = image.layer_digests().remove(0);
    let path = format!("/v2/hello/blobs/{digest}");
    let whole = registry.get(&path);
    let size = whole.body.len();
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert!(whole.header("cache-control").is_some_and(|value| value.contains("no-transform")));
    assert_eq!(whole.header("content-encoding"), None);
    assert_eq!(sha256(whole.body.as_slice()).expect("memory can be read"), digest);

    let part = |range: &str, start: usize, end: usize| {
        let answer = registry.request("GET", &path, &[("range", range)]);
        assert_eq!(answer.status, 206, "{range}");
        assert_eq!(answer.body, whole.body[start..end], "{range}");
        assert_eq!(
            answer.header("content-range"),
            Some(format!("bytes {start}-{}/{size}", end - 1).as_str()),
            "{range}"
        );
        assert_eq!(answer.header("content-length"), Some((end - start).to_string().as_str()), "{range}");
        let head = registry.request("HEAD", &path, &[("range", range)]);
        // Only GET supports ranges (RFC 9110, section 14.2).
        assert_eq!((head.status, head.header("content-range")), (200, None), "{range}");
        assert_eq!(head.header("content-length"), Some(size.to_string().as_str()), "{range}");
    };
    part("bytes=0-", 0, size);
    part("bytes=0-0", 0, 1);
    part("bytes=10-19", 10, 20);
    part(&format!("bytes={}-", size - 1), size - 1, size);
    part(&format!("bytes=5-{}", size + 100), 5, size);
    part("bytes=-7", size - 7, size);
    for range in [format!("bytes={size}-"), "bytes=99999999999-".to_owned(), "bytes=-0".to_owned()] {
        let answer = registry.request("GET", &path, &[("range", &range)]);
        assert_eq!(answer.status, 416, "{range}");
        assert_eq!(answer.header("content-range"), Some(format!("bytes */{size}").as_str()), "{range}");
    }
    for range in ["bytes=5-3", "bytes=x", "lines=1-2"] {
        let answer = registry.request("GET", &path, &[("range", range)]);
        assert_eq!((answer.status, answer.body.len()), (200, size), "{range}");
    }
    // A range of another version is useless.
    let etag = whole.header("etag").expect("an entity tag");
    for (known, status) in [(etag, 206), ("\"other\"", 200)] {
        let answer = registry.request("GET", &path, &[("range", "bytes=3-"), ("if-range", known)]);
        assert_eq!(answer.status, status, "{known}");
    }
    // Compressing the response would change its digest.
    let answer = registry.request("GET", &path, &[("accept-encoding", "gzip, br, zstd")]);
    assert_eq!((answer.header("content-encoding"), answer.body.len()), (None, size));
}

#[test]
fn lists_tags_and_referrers() {
    let registry = backend().registry();
    let image = Image::pull(&registry, "hello");
    let answer = registry.get("/v2/hello/tags/list");
    assert_eq!(answer.json(), json!({ "name": "hello", "tags": ["latest"] }));
    let answer = registry.get("/v2/hello/tags/list?n=0");
    assert_eq!((answer.json()["tags"].clone(), answer.header("link")), (json!([]), None));
    let (code, _) = registry.get("/v2/zstd/rsync/tags/list").error();
    assert_eq!(code, "NAME_UNKNOWN", "nobody has built it");

    let path = format!("/v2/hello/referrers/{}", image.digest);
    let answer = registry.get(&path);
    assert_eq!(answer.header("content-type"), Some("application/vnd.oci.image.index.v1+json"));
    assert_eq!(answer.header("oci-filters-applied"), None);
    let answer = registry.get(&format!("{path}?artifactType=application/example"));
    assert_eq!(answer.json()["manifests"], json!([]));
    assert_eq!((answer.status, answer.header("oci-filters-applied")), (200, Some("artifactType")));
}

#[test]
fn refuses_what_is_not_there() {
    let registry = backend().registry();
    Image::pull(&registry, "hello");
    let none = format!("sha256:{}", "0".repeat(64));
    let check = |method: &str, path: &str, status: u16, code: &str| {
        let answer = registry.request(method, path, &[]);
        assert_eq!((answer.status, answer.error().0.as_str()), (status, code), "{method} {path}");
        assert_eq!(answer.header("allow"), (status == 405).then_some("GET, HEAD"), "{method} {path}");
    };
    check("GET", &format!("/v2/hello/blobs/{none}"), 404, "BLOB_UNKNOWN");
    check("GET", &format!("/v2/hello/manifests/{none}"), 404, "MANIFEST_UNKNOWN");
    check("GET", "/v2/hello/blobs/sha256:baddigest", 400, "DIGEST_INVALID");
    check("GET", "/v2/hello/manifests/sha256:baddigest", 400, "DIGEST_INVALID");
    check("GET", "/v2/hello/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", 400, "DIGEST_INVALID");
    check("GET", "/v2/hello/manifests/v1", 404, "MANIFEST_UNKNOWN");
    check("GET", "/v2/hello/manifests/.latest", 404, "MANIFEST_UNKNOWN");
    check("GET", "/v2/hello/tags/list?n=x", 400, "PAGINATION_NUMBER_INVALID");
    check("GET", "/v2/_catalog", 404, "UNSUPPORTED");
    check("GET", "/", 404, "NAME_UNKNOWN");
    check("GET", "/v2/hello", 404, "NAME_UNKNOWN");
    check("POST", "/v2/hello/blobs/uploads/", 405, "UNSUPPORTED");
    check("PUT", "/v2/hello/manifests/latest", 405, "UNSUPPORTED");
    check("DELETE", &format!("/v2/hello/manifests/{none}"), 405, "UNSUPPORTED");
    check("PATCH", "/v2/hello/blobs/uploads/1", 405, "UNSUPPORTED");
    check("POST", "/v2/_catalog", 405, "UNSUPPORTED");
    check("DELETE", "/builds/0a1b", 405, "UNSUPPORTED");
}
