use super::*;
use crate::oci::{
    media_type::{DOCKER_MANIFEST, OCI_MANIFEST},
    reference::Tag,
    repository_name::RepositoryName,
};

fn request(text: &str) -> Request<'_> {
    let (line, headers) = text.split_once('\n').unwrap_or((text, ""));
    let (method, url) = line.split_once(' ').expect("a method and a URL");
    let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
    let header = |name: &str| {
        let lines = headers.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| *key == name).map(|(_, value)| Cow::Borrowed(value))
    };
    Request::parse(Method::parse(method).expect("a method"), path, query, header).expect("a request")
}

/// An answer as HTTP would write it, with what its body is. `D` and `E` stand for the digest of `blob` and its tag.
fn shown(response: &Response) -> String {
    let digest = Digest::of(b"blob");
    let mut lines = vec![response.status.to_string()];
    lines.extend(response.headers().iter().map(|(name, value)| format!("{name}: {value}")));
    lines.push(match &response.body {
        Body::Empty => "-".into(),
        Body::Bytes(bytes) => String::from_utf8(bytes.clone()).expect("text"),
        Body::Manifest => "<manifest>".into(),
        Body::Blob { digest, range: None } => format!("<blob {digest}>"),
        Body::Blob { digest, range: Some(range) } => format!("<blob {digest} {range:?}>"),
    });
    lines.join("\n").replace(&entity_tag(&digest), "E").replace(&digest.to_string(), "D")
}

/// Compares an answer with lines that may be indented; the version header, which all have, is left out.
fn check(response: &Response, expect: &str) {
    let version = format!("{}: {}\n", API_VERSION.0, API_VERSION.1);
    let shown = shown(response);
    assert_eq!(shown.matches(&version).count(), 1, "{shown}");
    let expect: Vec<_> = expect.trim().lines().map(str::trim).collect();
    assert_eq!(shown.replace(&version, ""), expect.join("\n"));
    let mut names: Vec<_> = response.headers().iter().map(|(name, _)| *name).collect();
    assert!(names.iter().all(|name| *name == name.to_lowercase()), "{names:?}");
    assert_eq!(names.contains(&"content-length"), response.status != 304, "{names:?}");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), response.headers().len(), "a header stands there twice: {shown}");
}

/// A request whose URL may have `D` for a digest and whose headers may have `@` for its tag.
fn of_blob(text: &str) -> String {
    let digest = Digest::of(b"blob");
    text.replace(" D", &format!(" /v2/git/blobs/{digest}")).replace('@', &entity_tag(&digest))
}

#[test]
fn base_says_that_it_is_a_registry() {
    check(
        &base(Method::Get),
        "200
         content-type: application/json
         content-length: 2
         {}",
    );
    check(
        &base(Method::Head),
        "200
         content-type: application/json
         content-length: 2
         -",
    );
}

#[test]
fn manifests_are_described() {
    let digest = Digest::of(b"blob");
    let answer = |text: &str, media_type: &'static str| manifest(&request(text), &digest, media_type, 4);
    let by_tag = "200
        docker-content-digest: D
        etag: E
        vary: accept
        content-type: application/vnd.oci.image.manifest.v1+json
        content-length: 4\n";
    check(&answer("GET /v2/git/manifests/latest", OCI_MANIFEST), &format!("{by_tag}<manifest>"));
    check(&answer("HEAD /v2/git/manifests/latest", OCI_MANIFEST), &format!("{by_tag}-"));
    let by_digest = format!("GET /v2/git/manifests/{digest}");
    check(
        &answer(&by_digest, DOCKER_MANIFEST),
        "200
         docker-content-digest: D
         etag: E
         content-type: application/vnd.docker.distribution.manifest.v2+json
         content-length: 4
         <manifest>",
    );
    let known = [entity_tag(&digest), format!("\"other\", W/{}", entity_tag(&digest)), "*".into()];
    for (method, known) in
        ["GET", "HEAD"].into_iter().flat_map(|method| known.iter().map(move |k| (method, k)))
    {
        check(
            &answer(&format!("{method} /v2/git/manifests/latest\nif-none-match: {known}"), OCI_MANIFEST),
            "304
             docker-content-digest: D
             etag: E
             vary: accept
             -",
        );
    }
    let other = "GET /v2/git/manifests/latest\nif-none-match: \"other\"";
    check(&answer(other, OCI_MANIFEST), &format!("{by_tag}<manifest>"));
}

#[test]
fn headers_of_firns_own_are_added() {
    let response = manifest(&request("GET /v2/git/manifests/latest"), &Digest::of(b"blob"), OCI_MANIFEST, 4)
        .with("x-firn-revision", "1")
        .with_some("x-firn-source", None::<String>);
    assert!(shown(&response).contains("\ncontent-length: 4\nx-firn-revision: 1\n<manifest>"));
}

#[test]
fn clients_that_wait_are_sent_back() {
    check(
        &wait_again("/v2/git/manifests/latest?firn-wait=1".into()),
        "307
         location: /v2/git/manifests/latest?firn-wait=1
         cache-control: no-store
         content-length: 0
         -",
    );
}

#[test]
fn blobs_are_sent_whole_or_in_part() {
    let digest = Digest::of(b"blob");
    let answer = |text: &str, size| blob(&request(&of_blob(text)), &digest, size, CacheScope::Public);
    let described = |status: &str, rest: &str| {
        format!(
            "{status}
             docker-content-digest: D
             etag: E
             accept-ranges: bytes
             cache-control: public, max-age=31536000, immutable, no-transform
             {rest}"
        )
    };
    let part = |range: &str, length: u64, body: &str| {
        let headers = format!("content-range: bytes {range}/10\ncontent-type: application/octet-stream");
        described("206", &format!("{headers}\ncontent-length: {length}\n{body}"))
    };
    let whole = |body: &str| {
        described("200", &format!("content-type: application/octet-stream\ncontent-length: 10\n{body}"))
    };
    check(&answer("GET D", 10), &whole("<blob D>"));
    check(&answer("HEAD D", 10), &whole("-"));
    check(&answer("GET D\nrange: bytes=0-", 10), &part("0-9", 10, "<blob D 0..10>"));
    check(&answer("GET D\nrange: bytes=3-4", 10), &part("3-4", 2, "<blob D 3..5>"));
    check(&answer("GET D\nrange: bytes=-1", 10), &part("9-9", 1, "<blob D 9..10>"));
    check(&answer("GET D\nrange: bytes=3-4\nif-range: @", 10), &part("3-4", 2, "<blob D 3..5>"));
    for ignored in ["HEAD D\nrange: bytes=3-4", "HEAD D\nrange: bytes=10-"] {
        check(&answer(ignored, 10), &whole("-"));
    }
    for ignored in ["lines=1-2", "bytes=1-2, bytes=3-4", "bytes=3-4\nif-range: \"other\""] {
        check(&answer(&format!("GET D\nrange: {ignored}"), 10), &whole("<blob D>"));
    }
    check(
        &answer("GET D\nrange: bytes=10-", 10),
        &described("416", "content-range: bytes */10\ncontent-length: 0\n-")
            .replace("public, max-age=31536000, immutable, no-transform", "no-store"),
    );
    for method in ["GET", "HEAD"] {
        let known = format!("{method} D\nif-none-match: \"other\", @\nrange: bytes=3-4");
        check(&answer(&known, 10), &described("304", "-"));
        assert_eq!(
            known_blob(&request(&of_blob(&known)), &digest, CacheScope::Public),
            Some(answer(&known, 10))
        );
    }
    assert_eq!(known_blob(&request(&of_blob("GET D")), &digest, CacheScope::Public), None);
    let empty = described("200", "content-type: application/octet-stream\ncontent-length: 0\n<blob D>");
    check(&answer("GET D", 0), &empty);
}

#[test]
fn caches_on_the_way_keep_public_blobs_alone() {
    let (text, digest) = (of_blob("HEAD D"), Digest::of(b"blob"));
    check(
        &blob(&request(&text), &digest, 10, CacheScope::Private),
        "200
         docker-content-digest: D
         etag: E
         accept-ranges: bytes
         cache-control: private, max-age=31536000, immutable, no-transform
         content-type: application/octet-stream
         content-length: 10
         -",
    );
    check(
        &blob_elsewhere(&digest, "https://blobs.example/x".into(), 300, CacheScope::Private),
        "307
         location: https://blobs.example/x
         docker-content-digest: D
         cache-control: private, max-age=300
         content-length: 0
         -",
    );
    let unsigned = blob_elsewhere(&digest, "https://blobs.example/x".into(), 300, CacheScope::Public);
    assert!(shown(&unsigned).contains("\ncache-control: public, max-age=300\n"));
}

#[test]
fn lists_of_tags_link_to_the_next_page() {
    let name: RepositoryName = "git".parse().expect("a name");
    let known: Vec<Tag> = ["v1", "latest"].map(|tag| tag.parse().expect("a tag")).into();
    let answer = |text: &str| {
        let request = request(text);
        tags(request.method, TagsPage::new(&name, &known, request.query).expect("a page"))
    };
    check(
        &answer("GET /v2/git/tags/list"),
        r#"200
           content-type: application/json
           content-length: 37
           {"name":"git","tags":["latest","v1"]}"#,
    );
    check(
        &answer("HEAD /v2/git/tags/list?n=1"),
        r#"200
           content-type: application/json
           content-length: 32
           link: </v2/git/tags/list?n=1&last=latest>; rel="next"
           -"#,
    );
}

#[test]
fn referrers_are_an_index() {
    let url = format!("/v2/git/referrers/{}", Digest::of(b"blob"));
    let answer = |text: &str| referrers(&request(text), &[]);
    check(
        &answer(&format!("GET {url}")),
        r#"200
           content-type: application/vnd.oci.image.index.v1+json
           content-length: 88
           {"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#,
    );
    check(
        &answer(&format!("HEAD {url}?n=1&artifactType=a/b")),
        "200
         content-type: application/vnd.oci.image.index.v1+json
         content-length: 88
         oci-filters-applied: artifactType
         -",
    );
    // Another parameter that merely ends alike.
    let other = answer(&format!("GET {url}?notartifactType=a/b"));
    assert!(!shown(&other).contains("oci-filters-applied"));
}

#[test]
fn errors_have_the_headers_that_go_with_them() {
    let check_error = |method, refusal: OciError, status: u16, headers: &str, body: &str| {
        let length = refusal.body().len();
        let described = "content-type: application/json\ncache-control: no-store";
        let headers = format!("{described}\n{headers}content-length: {length}");
        check(&error(method, &refusal), &format!("{status}\n{headers}\n{body}"));
    };
    let new = |code| OciError::new(code, "no");
    check_error(
        Method::Get,
        new(ErrorCode::ManifestUnknown),
        404,
        "",
        r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no"}]}"#,
    );
    check_error(Method::Head, new(ErrorCode::ManifestUnknown), 404, "", "-");
    check_error(
        Method::Get,
        new(ErrorCode::Toomanyrequests).retry_after(5).of_build("0a1b"),
        429,
        "retry-after: 5\n",
        r#"{"errors":[{"code":"TOOMANYREQUESTS","detail":{"build":"0a1b"},"message":"no"}]}"#,
    );
    check_error(
        Method::Head,
        new(ErrorCode::Unauthorized),
        401,
        "www-authenticate: Basic realm=\"firn\", charset=\"UTF-8\"\n",
        "-",
    );
    let refused = Method::parse("DELETE").expect_err("nothing can be deleted");
    check_error(Method::Head, refused, 405, "allow: GET, HEAD\n", "-");
    let no_catalogue = Endpoint::parse("/v2/_catalog").expect_err("there is none");
    check_error(
        Method::Get,
        no_catalogue,
        404,
        "",
        r#"{"errors":[{"code":"UNSUPPORTED","message":"there is no catalogue: every combination of packages is an image"}]}"#,
    );
}
