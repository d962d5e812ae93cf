use super::*;
use crate::oci::reference::Tag;
use proptest::prelude::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn name(text: &str) -> RepositoryName {
    text.parse().expect("a name")
}

#[test]
fn reads_the_api() {
    let check = |path: &str, expect| assert_eq!(Endpoint::parse(path), Ok(expect), "{path}");
    let digest: Digest = DIGEST.parse().expect("a digest");
    let tag = |text: &str| Reference::Tag(text.parse::<Tag>().expect("a tag"));
    check("/v2", Endpoint::Base);
    check("/v2/", Endpoint::Base);
    check("/v2/git/manifests/latest", Endpoint::Manifest(name("git"), tag("latest")));
    check("/v2/shell/git/manifests/v1.0", Endpoint::Manifest(name("shell/git"), tag("v1.0")));
    check(&format!("/v2/git/manifests/{DIGEST}"), Endpoint::Manifest(name("git"), Reference::Digest(digest)));
    check(&format!("/v2/a/b/blobs/{DIGEST}"), Endpoint::Blob(name("a/b"), digest));
    check(&format!("/v2/a/b/blobs/{}", DIGEST.replace(':', "%3A")), Endpoint::Blob(name("a/b"), digest));
    check("/v2/git/tags/list", Endpoint::Tags(name("git")));
    check(&format!("/v2/git/referrers/{DIGEST}"), Endpoint::Referrers(name("git"), digest));
    // Some HTTP libraries escape the slashes of a name.
    check("/v2/shell%2Fgit%2fjq/manifests/latest", Endpoint::Manifest(name("shell/git/jq"), tag("latest")));
    check("/v2/shell%2Fgit/tags/list", Endpoint::Tags(name("shell/git")));
    check(&format!("/v2/a%2Fb/blobs/{DIGEST}"), Endpoint::Blob(name("a/b"), digest));
    // The API's words are names too.
    check("/v2/manifests/manifests/manifests", Endpoint::Manifest(name("manifests"), tag("manifests")));
    check("/v2/tags/list/tags/list", Endpoint::Tags(name("tags/list")));
    check("/v2/tags/list/manifests/list", Endpoint::Manifest(name("tags/list"), tag("list")));
}

#[test]
fn refuses() {
    let check = |path: &str, expect| {
        assert_eq!(Endpoint::parse(path).map_err(|error| error.code), Err(expect), "{path}");
    };
    for path in [
        "/",
        "",
        "/v1/",
        "/v2x",
        "/v2/git",
        "/v2/git/",
        "/v2/git/tags/lists",
        "/v2/git/manifests",
        "/v2/git%2Ftags%2Flist",
    ] {
        check(path, ErrorCode::NameUnknown);
    }
    for path in ["/v2/git/blobs/uploads/", "/v2/git/blobs/uploads/1", "/v2/git/manifests/latest/"] {
        check(path, ErrorCode::NameUnknown);
    }
    for path in [
        "/v2/manifests/latest",
        "/v2//manifests/latest",
        "/v2/Git/manifests/latest",
        "/v2/../manifests/latest",
        "/v2/git//manifests/latest",
        "/v2/a/%2e%2e/manifests/latest",
        "/v2/a%2F%2Fb/manifests/latest",
        "/v2/a%2F../manifests/latest",
        "/v2/a%252Fb/manifests/latest",
        "/v2/git$/tags/list",
        "/v2/--option/tags/list",
        "/v2/gi\u{442}/tags/list",
        &format!("/v2/-/blobs/{DIGEST}"),
        &format!("/v2/{}/manifests/latest", "a".repeat(256)),
    ] {
        check(path, ErrorCode::NameInvalid);
    }
    check("/v2/git/manifests/.latest", ErrorCode::ManifestUnknown);
    check("/v2/git/manifests/", ErrorCode::ManifestUnknown);
    check("/v2/git/manifests/sha256:baddigest", ErrorCode::DigestInvalid);
    check("/v2/git/blobs/latest", ErrorCode::DigestInvalid);
    check("/v2/git/blobs/uploads", ErrorCode::DigestInvalid);
    check("/v2/git/referrers/sha256:1", ErrorCode::DigestInvalid);
    check("/v2/_catalog", ErrorCode::Unsupported);
    assert_eq!(Endpoint::parse("/v2/_catalog").map_err(|error| error.status()), Err(404));
}

#[test]
fn names_follow_the_grammar() {
    let check = |text: &str, expect: bool| {
        assert_eq!(text.parse::<RepositoryName>().is_ok(), expect, "{text}");
    };
    for text in ["a", "0", "a.b", "a_b", "a__b", "a-b", "a---b", "a/b/c", "a.b_c-d", &"a".repeat(255)] {
        check(text, true);
    }
    for text in
        ["", "/", "a/", "/a", "a//b", ".a", "a.", "a..b", "a___b", "a._b", "a-_b", "-a", "A", "a b", "a\n"]
    {
        check(text, false);
    }
}

#[test]
fn only_reading_is_supported() {
    assert_eq!(Method::parse("GET"), Ok(Method::Get));
    assert_eq!(Method::parse("HEAD"), Ok(Method::Head));
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get", ""] {
        assert_eq!(
            Method::parse(method).map_err(|error| error.code),
            Err(ErrorCode::Unsupported),
            "{method}"
        );
    }
}

proptest! {
    #[test]
    fn never_panics(path in "\\PC{0,60}") {
        let _ = Endpoint::parse(&path);
        let _ = Endpoint::parse(&format!("/v2/{path}"));
    }

    #[test]
    fn finds_what_was_put_together(text in "[a-z0-9]{1,5}([._-][a-z0-9]{1,5}){0,2}(/[a-z0-9]{1,5}){0,3}", tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,10}") {
        let expect = Endpoint::Manifest(name(&text), Reference::Tag(tag.parse().expect("a tag")));
        prop_assert_eq!(Endpoint::parse(&format!("/v2/{text}/manifests/{tag}")), Ok(expect));
    }
}
