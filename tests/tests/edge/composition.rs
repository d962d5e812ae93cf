//! Images that the edge composes from records in KV, in the bucket or from the backend.

use crate::{access::private, header, refusal, until_limited};
use firn_shared::{
    composition::{KnownPackage, package_key, package_set_key},
    image::{Image, SmallBlob},
    layering::Sharing,
    link::object_key::{blob_key, composed_key, composition_key},
    nix::listing::{FileName, Listing, Node, Root},
    oci::{
        digest::{Digest, NarHash},
        media_type::{DOCKER_MANIFEST, OCI_MANIFEST},
        platform::Platform,
        reference::Tag,
    },
};
use firn_tests::{
    edge::{
        Edge, Origin, Settings,
        records::{
            Records, known, package_name, package_record, package_with, point, point_tag, store_path, token,
        },
    },
    s3::{ACCESS_KEY_ID, BUCKET, REGION, S3, SECRET_ACCESS_KEY},
    wait::eventually,
};
use reqwest::Method;
use std::collections::HashMap;
use std::net::TcpListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const IMAGE: &str = "/v2/git/jq/manifests/latest";

/// An edge that reads blobs from R2, and a backend.
async fn pair(settings: impl FnOnce(Settings) -> Settings) -> (Edge, Origin) {
    crate::pair(|base| settings(base.with("FIRN_BLOBS", "r2"))).await
}

fn source(response: &reqwest::Response) -> &str {
    header(response, "x-firn-source")
}

/// Checks that this manifest is served, and that all new blobs of the image exist.
async fn assert_serves(edge: &Edge, name: &str, image: &Image) {
    for (accept, expect) in [(OCI_MANIFEST, Some(&image.oci)), (DOCKER_MANIFEST, image.docker.as_ref())] {
        let expect = expect.expect("layers are gzip");
        let path = format!("/v2/{name}/manifests/latest");
        let response =
            edge.request(Method::GET, &path).header("accept", accept).send().await.expect("an answer");
        assert_eq!((response.status().as_u16(), source(&response)), (200, "composed"), "{accept}");
        assert_eq!(header(&response, "content-type"), accept);
        assert_eq!(header(&response, "docker-content-digest"), expect.digest.to_string());
        assert_eq!(header(&response, "x-firn-revision"), "c0ffee");
        assert_eq!(response.bytes().await.expect("a body"), expect.bytes);
        // Clients request the digest next.
        let path = format!("/v2/{name}/manifests/{}", expect.digest);
        let response = edge.get(&path).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.bytes().await.expect("a body"), expect.bytes);
    }
    for blob in [&image.top, &image.config] {
        let path = format!("/v2/{name}/blobs/{}", blob.digest);
        let head = edge.head(&path).await;
        assert_eq!(header(&head, "content-length"), blob.bytes.len().to_string());
        let response = edge.get(&path).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.bytes().await.expect("a body"), blob.bytes);
        let part =
            edge.request(Method::GET, &path).header("range", "bytes=5-").send().await.expect("an answer");
        assert_eq!(
            (part.status().as_u16(), &part.bytes().await.expect("a body")[..]),
            (206, &blob.bytes[5..])
        );
    }
}

#[tokio::test]
async fn images_are_made_of_records_in_kv() {
    let records = Records::new();
    let (edge, origin) = pair(Settings::forgetful).await;
    origin.stop();
    records.put_into_kv(&edge).await;
    for name in ["git/jq", "user/git/jq", "git/htop/jq", "amd64/htop/jq"] {
        assert_serves(&edge, name, &records.image(name)).await;
    }
    // From then on it is served like other images.
    eventually("KV has the manifest", async || (source(&edge.get(IMAGE).await) == "kv").then_some(())).await;
    assert_eq!(
        refusal(edge.get("/v2/git/wget/manifests/latest").await).await,
        (503, "UNAVAILABLE".to_owned())
    );
    assert_eq!(refusal(edge.get("/v2/cacert/manifests/latest").await).await, (503, "UNAVAILABLE".to_owned()));
}

/// Clients such as skopeo consider an image broken if its tag is not listed.
#[tokio::test]
async fn tags_of_composed_images_are_listed() {
    let records = Records::new();
    let (edge, origin) = pair(Settings::forgetful).await;
    records.put_into_kv(&edge).await;
    let tags = async |path: &str| {
        let response = edge.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        let link = header(&response, "link").to_owned();
        let body: serde_json::Value =
            serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON");
        (body["tags"].as_array().expect("a list").clone(), link)
    };
    for tag in ["stable", "beta"] {
        let tag: Tag = tag.parse().expect("a tag");
        point_tag(&edge, &tag).await;
        let response = edge.get(&format!("/v2/git/jq/manifests/{tag}")).await;
        assert_eq!(response.status(), 200);
    }
    // The backend has built `latest` and `v1`. The edge records the tags that it has served after its answer.
    eventually("both are listed", async || {
        let (listed, link) = tags("/v2/jq/git/tags/list").await;
        assert_eq!(link, "");
        (listed == ["beta", "latest", "stable", "v1"]).then_some(())
    })
    .await;
    let (listed, link) = tags("/v2/git%2Fjq/tags/list?n=2").await;
    assert!(listed == ["beta", "latest"] && link.contains("/v2/git/jq/tags/list?n=2&last=latest"), "{link}");
    let (listed, link) = tags("/v2/git/jq/tags/list?n=2&last=latest").await;
    assert!(listed == ["stable", "v1"] && link.is_empty(), "{listed:?} {link}");
    // No client requested another name by those tags.
    assert_eq!(tags("/v2/git/tags/list").await.0, ["latest", "v1"]);

    // Without a backend, the tags that can be pulled are still listed.
    origin.stop();
    assert_eq!(tags("/v2/git/jq/tags/list").await.0, ["beta", "latest", "stable"]);
    assert_eq!(tags("/v2/git/htop/tags/list").await.0, ["latest"]);
    assert_eq!(tags("/v2/git/htop/tags/list?n=0").await.0, [""; 0]);
    assert_eq!(refusal(edge.get("/v2/git/wget/tags/list").await).await, (503, "UNAVAILABLE".to_owned()));
    let escaped = edge.get("/v2/git%2Fhtop/manifests/latest").await;
    assert_eq!((escaped.status().as_u16(), source(&escaped)), (200, "composed"));
}

/// Any location can serve a digest that another one has composed, before KV shows it.
#[tokio::test]
async fn digests_are_found_by_composing_again() {
    let records = Records::new();
    let (edge, origin) = pair(Settings::forgetful).await;
    records.put_into_kv(&edge).await;
    let image = records.image("git/jq");
    let docker = image.docker.expect("layers are gzip");
    for manifest in [&image.oci, &docker] {
        let response = edge.get(&format!("/v2/git/jq/manifests/{}", manifest.digest)).await;
        assert_eq!((response.status().as_u16(), source(&response)), (200, "composed"));
        assert_eq!(response.bytes().await.expect("a body"), manifest.bytes);
    }
    // The digest of another image is not found.
    edge.renew_kv().await;
    let response = edge.get(&format!("/v2/git/htop/manifests/{}", docker.digest)).await;
    assert_eq!((response.status().as_u16(), source(&response)), (200, "kv"), "by digest alone");
    let other = records.image("git/htop").oci.digest;
    assert_eq!(refusal(edge.get(&format!("/v2/git/jq/manifests/{other}")).await).await.0, 404);
    assert_eq!(origin.seen().len(), 1);
}

/// The bucket may be the one to which the backend writes its records.
#[tokio::test]
async fn records_are_found_in_the_bucket() {
    let records = Records::new();
    let (edge, origin) = pair(Settings::forgetful).await;
    origin.stop();
    for (key, bytes) in records.records() {
        edge.put("r2", &composition_key(&key.parse().expect("a key")), bytes, None).await;
    }
    point(&edge).await;
    assert_serves(&edge, "git/jq", &records.image("git/jq")).await;
    // KV has them now: pointer, set, four names, and two manifests with two keys each.
    edge.await_keys(10).await;
}

/// The layers in a record are kept for twice as long as the record is valid. Copying the record does not extend that
/// time.
#[tokio::test]
async fn copies_of_records_end_with_what_they_are_copies_of() {
    let records = Records::new();
    let ttl_seconds = 1_000_000;
    let ttl = ttl_seconds.to_string();
    let (edge, origin) = pair(|base| base.forgetful().with("FIRN_MANIFEST_TTL_SECONDS", &ttl)).await;
    origin.stop();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    for (key, bytes) in records.records() {
        edge.put("r2", &composition_key(&key.parse().expect("a key")), bytes, None).await;
    }
    let written = now();
    point(&edge).await;
    let request = edge.request(Method::GET, IMAGE).header("x-test-fault", "r2-half-a-million-seconds-old");
    assert_eq!(source(&request.send().await.expect("an answer")), "composed");
    edge.await_keys(8).await;
    let keys: Vec<serde_json::Value> = edge.get("/.test/kv").await.json().await.expect("a list");
    for (key, _) in records.records() {
        let Some(copy) = keys.iter().find(|copy| copy["name"] == key.as_str()) else { continue };
        let until = copy["expiration"].as_u64().expect("a time");
        // Allows some time for the test itself.
        assert!(until <= written + ttl_seconds - 499_000, "{until} is too late for a record of {written}");
    }
}

/// After a miss, the backend is asked for the packages' records once.
#[tokio::test]
async fn records_are_learned_from_the_backend() {
    let records = Records::new();
    let (edge, origin) = pair(|settings| settings).await;
    origin.publish(records.records());
    for name in ["git", "jq"] {
        assert_eq!(source(&edge.get(&format!("/v2/{name}/manifests/latest")).await), "backend");
    }
    // Two manifests with two keys each, the pointer, the set, git, jq, cacert and iana-etc.
    edge.await_keys(10).await;
    origin.stop();
    assert_serves(&edge, "git/jq", &records.image("git/jq")).await;
    let mut asked = origin.asked();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), 5, "the set, git, jq, cacert and iana-etc: {asked:?}");
}

/// A path that was built twice has one content in an image, chosen by the backend's rule. If the records do not
/// suffice, the backend is asked, and then for records that agree.
#[tokio::test]
async fn records_that_disagree_are_settled_or_asked_for_anew() {
    let agreeing = Records::new();
    let disagreeing = |sh| {
        let mut records = Records::new();
        // The content that is not chosen.
        let libc = NarHash::from_bytes([0xff; 32]);
        records.known.insert(package_name("jq"), package_with("jq", libc, sh));
        records
    };
    let (edge, origin) = pair(Settings::forgetful).await;
    let settled = disagreeing(None);
    assert_eq!(settled.image("git/jq"), agreeing.image("git/jq"));
    settled.put_into_kv(&edge).await;
    assert_serves(&edge, "git/jq", &agreeing.image("git/jq")).await;
    assert_eq!(origin.seen().len(), 0);

    // Only the record with that content has a shell.
    disagreeing(Some("libc")).put_into_kv(&edge).await;
    origin.publish(agreeing.records());
    let response = edge.get("/v2/git/htop/jq/manifests/latest").await;
    assert_eq!((response.status().as_u16(), source(&response)), (200, "backend"));
    // Records are read from KV again. Until they agree, the backend answers, and these answers are cached.
    let records = agreeing.records();
    eventually("the edge has learned", async || {
        for (key, expect) in &records {
            let kept = edge.get(&format!("/.test/kv/{key}")).await.bytes().await.expect("a value");
            if kept != expect.as_slice() {
                return None;
            }
        }
        Some(())
    })
    .await;
    edge.renew_kv().await;
    assert_eq!(source(&edge.get("/v2/user/git/jq/manifests/latest").await), "composed");
}

/// A record has the layers that its package had when it was recorded. The backend has just packed those of this
/// image.
#[tokio::test]
async fn layers_that_were_packed_later_are_learned() {
    let records = Records::new();
    let (edge, origin) = pair(Settings::forgetful).await;
    records.put_into_kv(&edge).await;
    let key = package_key(&token(), Platform::Amd64, &package_name("jq"));
    let unpacked = KnownPackage::new(
        package_record("jq", NarHash::of(b"libc"), None),
        Sharing::default().profile(),
        HashMap::new(),
        true,
    );
    assert!(unpacked.layers().next().is_none());
    edge.put("kv", &key.to_string(), unpacked.encode(&key).expect("a closure"), None).await;
    origin.publish(records.records());
    assert_eq!(source(&edge.get(IMAGE).await), "backend");
    let expect = records.known[&package_name("jq")].encode(&key).expect("a closure");
    eventually("the edge has learned", async || {
        let kept = edge.get(&format!("/.test/kv/{key}")).await.bytes().await.expect("a value");
        (kept == expect.as_slice()).then_some(())
    })
    .await;
    edge.renew_kv().await;
    assert_eq!(source(&edge.get("/v2/user/git/jq/manifests/latest").await), "composed");
}

/// A composed image belongs to its name, and only clients that may pull get it.
#[tokio::test]
async fn a_private_edge_composes() {
    let records = Records::new();
    let (edge, origin) = pair(|settings| private(settings.forgetful())).await;
    records.put_into_kv(&edge).await;
    let get = async |path: &str| {
        edge.request(Method::GET, path).basic_auth("ann", Some("secret")).send().await.expect("an answer")
    };
    assert_eq!(edge.get(IMAGE).await.status(), 401);
    let image = records.image("git/jq");
    let blob = |name: &str, blob: &SmallBlob| format!("/v2/{name}/blobs/{}", blob.digest);
    assert_eq!(get(&blob("git/jq", &image.config)).await.status(), 404, "nobody has pulled it");
    let response = get(IMAGE).await;
    assert_eq!((response.status().as_u16(), source(&response)), (200, "composed"));
    for part in [&image.top, &image.config] {
        assert_eq!(get(&blob("git/jq", part)).await.bytes().await.expect("a body"), part.bytes);
        assert_eq!(get(&blob("htop/jq", part)).await.status(), 404, "of another name");
        assert_eq!(edge.get(&blob("git/jq", part)).await.status(), 401);
    }
    let digest = header(&response, "docker-content-digest");
    assert_eq!(get(&format!("/v2/git/jq/manifests/{digest}")).await.status(), 200);
    assert_eq!(get(&format!("/v2/htop/jq/manifests/{digest}")).await.status(), 404);
    assert!(origin.seen().iter().all(|seen| !seen.uri.contains("/manifests/latest")));
}

#[tokio::test]
async fn what_is_no_record_is_not_believed() {
    let records = Records::new();
    let (edge, origin) = pair(Settings::forgetful).await;
    records.put_into_kv(&edge).await;
    let git = package_key(&token(), Platform::Amd64, &package_name("git"));
    let jq = package_key(&token(), Platform::Amd64, &package_name("jq"));
    let set = package_set_key(&token());
    let good = records.known[&package_name("git")].encode(&git).expect("a closure");
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let other = records.known[&package_name("jq")].encode(&jq).expect("a closure");
    for (key, bytes) in [
        (git, b"garbage".to_vec()),
        (git, Vec::new()),
        (git, good[..good.len() - 1].to_vec()),
        // Another version of the records, and another version of images.
        (git, flipped(4)),
        (git, flipped(8)),
        (git, flipped(good.len() - 1)),
        (git, other),
        (set, good.clone()),
    ] {
        edge.put("kv", &key.to_string(), bytes, None).await;
        let asked = origin.seen().len();
        let response = edge.get(IMAGE).await;
        assert_eq!((response.status().as_u16(), source(&response)), (200, "backend"));
        // The manifest is written after the answer, unless it was requested a moment ago.
        if origin.seen().len() > asked {
            edge.await_manifest(header(&response, "docker-content-digest")).await;
        }
        records.put_into_kv(&edge).await;
        // The backend's manifests are not part of this test.
        for (key, metadata) in edge.keys().await {
            if metadata["digest"].is_string() {
                edge.request(Method::DELETE, &format!("/.test/kv/{key}")).send().await.expect("an answer");
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_stored_is_the_backends() {
    let records = Records::new();
    let (edge, origin) = pair(Settings::forgetful).await;
    records.put_into_kv(&edge).await;
    let get = |path: &str| edge.request(Method::GET, path).header("x-test-fault", "r2-put").send();
    assert_eq!(source(&get(IMAGE).await.expect("an answer")), "backend");
    origin.stop();
    let response = get("/v2/htop/jq/manifests/latest").await.expect("an answer");
    assert_eq!(refusal(response).await, (503, "UNAVAILABLE".to_owned()));
    let config = records.image("htop/jq").config.digest;
    assert_eq!(edge.get(&format!("/v2/htop/jq/blobs/{config}")).await.status(), 404);
    // If KV refuses a manifest, the client still gets an answer.
    let request = edge.request(Method::GET, "/v2/htop/jq/manifests/latest").header("x-test-fault", "kv-put");
    assert_eq!(source(&request.send().await.expect("an answer")), "composed");
}

/// A tag may have moved, so the backend decides what it names, as long as there is one.
#[tokio::test]
async fn old_pointers_do_not_count() {
    let records = Records::new();
    let (edge, origin) = pair(Settings::forgetful).await;
    records.put_into_kv(&edge).await;
    origin.move_to("set-2");
    assert_eq!(source(&edge.get(IMAGE).await), "backend");
    assert_eq!(origin.checked(), ["latest"]);

    let (edge, origin) = pair(Settings::forgetful).await;
    records.put_into_kv(&edge).await;
    origin.stop();
    assert_eq!(source(&edge.get(IMAGE).await), "composed");
}

#[tokio::test]
async fn composing_can_be_switched_off_and_counts_as_a_look_up() {
    let records = Records::new();
    let (edge, origin) = pair(|settings| settings.with("FIRN_COMPOSE", "false")).await;
    origin.publish(records.records());
    records.put_into_kv(&edge).await;
    assert_eq!(source(&edge.get(IMAGE).await), "backend");
    assert!(origin.asked().is_empty());

    let (edge, _origin) = pair(|settings| Settings { look_ups: Some(2), misses: Some(1), ..settings }).await;
    records.put_into_kv(&edge).await;
    let names = ["git", "jq", "htop", "git/jq", "git/htop", "htop/jq", "git/htop/jq"];
    let names = ["", "user/", "root/"].iter().flat_map(|of| names.map(|name| format!("{of}{name}")));
    let names: Vec<_> = names.collect();
    let (refused, _) = until_limited(2, async |i| {
        let response = edge.get(&format!("/v2/{}/manifests/latest", names[i])).await;
        assert!(response.status() == 429 || source(&response) == "composed");
        response
    })
    .await;
    assert_eq!(refusal(refused).await, (429, "TOOMANYREQUESTS".to_owned()));
}

/// A refusal must not cost more than it saves.
#[tokio::test]
async fn a_refused_client_makes_nobody_read_records() {
    let records = Records::new();
    let (edge, origin) = pair(|settings| Settings { look_ups: Some(1), ..settings.forgetful() }).await;
    records.put_into_kv(&edge).await;
    // A new name each time: the backend makes a requested image, and then KV has it.
    let names: Vec<_> = (0..40).map(|i| format!("p{i}")).collect();
    let name = |i| format!("/v2/{}/q{i}/manifests/latest", names.join("/"));
    let before = std::cell::Cell::default();
    let (_, answered) = until_limited(1, async |i| {
        before.set(edge.reads().await);
        edge.get(&name(i)).await
    })
    .await;
    let (before, after) = (before.get(), edge.reads().await);
    assert!(after.kv - before.kv <= 2, "the tag's pointer and the manifest: {before:?}, {after:?}");
    assert_eq!(after.r2, before.r2);
    assert_eq!(origin.seen().len(), answered);
}

/// An isolate has 128 MB, and parsed records take several times their length.
#[tokio::test]
async fn records_that_are_too_long_are_not_read() {
    let mut records = Records::new();
    let mut long = package_record("git", NarHash::of(b"libc"), None);
    let file = |name: &str| FileName::new(name.as_bytes()).expect("a file name");
    let files = (0..60_000).map(|i| (file(&format!("{i:050}")), Node::File)).collect();
    let root = Root { path: store_path("git"), node: Node::Directory(0), propagated: vec![] };
    let directories = vec![[(file("lib"), Node::Directory(1))].into(), files];
    long.listing = Listing::new(directories, vec![], vec![root]).expect("a listing");
    records.known.insert(package_name("git"), known(long));
    let (edge, _origin) = pair(Settings::forgetful).await;
    records.put_into_kv(&edge).await;
    assert_eq!(source(&edge.get("/v2/htop/jq/manifests/latest").await), "composed");
    assert_eq!(source(&edge.get(IMAGE).await), "backend");
    let (edge, origin) = pair(Settings::forgetful).await;
    origin.stop();
    for (key, bytes) in records.records() {
        edge.put("r2", &composition_key(&key.parse().expect("a key")), bytes, None).await;
    }
    point(&edge).await;
    assert_eq!(source(&edge.get("/v2/htop/jq/manifests/latest").await), "composed");
    assert_eq!(refusal(edge.get(IMAGE).await).await, (503, "UNAVAILABLE".to_owned()));
}

/// Composed blobs are served by the edge, even if other blobs are at the backend.
#[tokio::test]
async fn composed_blobs_are_served_here_when_others_are_not() {
    let records = Records::new();
    let settings = |settings: Settings| settings.forgetful().with("FIRN_BLOBS_URL", "http://blobs.example");
    let (edge, origin) = crate::pair(settings).await;
    origin.stop();
    records.put_into_kv(&edge).await;
    let image = records.image("git/jq");
    assert_serves(&edge, "git/jq", &image).await;
    let layer = Digest::of(b"a layer");
    let response = edge.get(&format!("/v2/git/jq/blobs/{layer}")).await;
    assert_eq!(response.status(), 307);
    assert!(header(&response, "location").starts_with("http://blobs.example/"));
    // A mark tells the garbage collection that the blob is the edge's.
    let note = edge.get(&format!("/.test/r2/{}", composed_key(&image.top.digest))).await;
    assert_eq!(note.status(), 200);
    let stored = edge.get(&format!("/.test/r2/{}", blob_key(&image.top.digest))).await;
    assert_eq!(stored.bytes().await.expect("a body"), image.top.bytes);
}

/// A bucket that accepts connections and sends nothing counts as none.
#[tokio::test]
async fn nobody_waits_for_a_bucket_that_hangs() {
    let silence = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", silence.local_addr().expect("an address"));
    let settings = [
        ("FIRN_BLOBS", "presigned"),
        ("FIRN_S3_ENDPOINT", url.as_str()),
        ("FIRN_S3_BUCKET", BUCKET),
        ("FIRN_S3_ACCESS_KEY_ID", ACCESS_KEY_ID),
        ("FIRN_S3_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
    ];
    let with = |base: Settings| settings.iter().fold(base, |base, (name, value)| base.with(name, value));
    let (edge, _origin) = crate::pair(with).await;
    Records::new().put_into_kv(&edge).await;
    // containerd's timeout.
    let request = edge.request(Method::GET, IMAGE).timeout(Duration::from_secs(30));
    assert_eq!(source(&request.send().await.expect("an answer")), "backend");
}

/// With presigned URLs, composed blobs are in the S3 bucket, like all blobs.
#[tokio::test(flavor = "multi_thread")]
async fn composed_blobs_go_to_an_s3_bucket() {
    let records = Records::new();
    let s3 = S3::start();
    for (secret, expect) in [(SECRET_ACCESS_KEY, "composed"), ("another", "backend")] {
        let settings = [
            ("FIRN_BLOBS", "presigned"),
            ("FIRN_S3_ENDPOINT", s3.endpoint()),
            ("FIRN_S3_BUCKET", BUCKET),
            ("FIRN_S3_REGION", REGION),
            ("FIRN_S3_ACCESS_KEY_ID", ACCESS_KEY_ID),
            ("FIRN_S3_SECRET_ACCESS_KEY", secret),
        ];
        let with = |base: Settings| {
            settings.iter().fold(base.forgetful(), |base, (name, value)| base.with(name, value))
        };
        let (edge, _origin) = crate::pair(with).await;
        records.put_into_kv(&edge).await;
        assert_eq!(source(&edge.get(IMAGE).await), expect);
        if expect == "backend" {
            continue;
        }
        let image = records.image("git/jq");
        for blob in [&image.top, &image.config] {
            let path = format!("/v2/git/jq/blobs/{}", blob.digest);
            let redirect = edge.get(&path).await;
            assert_eq!(redirect.status(), 307);
            let response = edge.client.get(header(&redirect, "location")).send().await.expect("an answer");
            assert_eq!(response.bytes().await.expect("a body"), blob.bytes);
            let length = header(&edge.head(&path).await, "content-length").to_owned();
            assert_eq!(length, blob.bytes.len().to_string());
        }
    }
}
