//! The redirect rule in front of the Worker (`edge/deploy/blob-rules.mjs`): it sends clients where the Worker would.

use crate::{header, pair};
use firn_shared::{link::object_key::blob_key, oci::digest::Digest};
use firn_tests::node::{node, run_tests};
use reqwest::Method;

const BUCKET: &str = "https://blobs.example/team/firn";

#[test]
fn the_rules_over_real_paths_and_the_script_that_stores_them() {
    run_tests(&["tests/cloudflare/rules.test.mjs", "tests/cloudflare/script.test.mjs"], 19);
}

#[tokio::test]
async fn the_rule_and_the_worker_send_clients_to_the_same_place() {
    let (edge, origin) =
        pair(|settings| settings.with("FIRN_BLOBS", "public").with("FIRN_BLOBS_URL", BUCKET)).await;
    let digest = Digest::of(b"blob");
    let hex = digest.hex();
    let requests = [
        (Method::GET, format!("/v2/a/blobs/{digest}")),
        (Method::GET, format!("/v2/shell/git/htop/blobs/{digest}")),
        (Method::GET, format!("/v2/blobs/manifests/blobs/{digest}")),
        (Method::GET, format!("/v2/shell/blobs/{digest}?ns=docker.io")),
        (Method::GET, format!("/v2/shell%2Fgit/blobs/{digest}")),
        (Method::GET, format!("/v2/{}/blobs/{digest}", "a".repeat(255))),
        (Method::GET, format!("/v2/shell/blobs/{}", Digest::of(b""))),
        // The Worker answers these itself.
        (Method::HEAD, format!("/v2/shell/blobs/{digest}")),
        (Method::POST, "/v2/shell/blobs/uploads/".to_owned()),
        (Method::GET, format!("/v2/shell/blobs/sha256:{}", hex.to_uppercase())),
        (Method::GET, format!("/v2/shell/blobs/sha256:{}", &hex[1..])),
        (Method::GET, format!("/v2/shell/blobs/{digest}0")),
        (Method::GET, format!("/v2/shell/blobs/sha512:{hex}")),
        (Method::GET, format!("/v2/shell/blobs/sha256:{}g", &hex[1..])),
        (Method::GET, "/v2/shell/blobs/sha256:baddigest".to_owned()),
        (Method::GET, format!("/v2/blobs/{digest}")),
        (Method::GET, "/v2/".to_owned()),
        (Method::GET, format!("/v2/shell/referrers/{digest}")),
    ];
    let answers = node(["tests/cloudflare/answer-as-rule.mjs", &edge.url, BUCKET])
        .args(requests.iter().map(|(method, path)| format!("{method} {}{path}", edge.url)))
        .run()
        .succeeded();
    assert_eq!(answers.lines().count(), requests.len(), "{answers}");
    for ((method, path), by_rule) in requests.iter().zip(answers.lines()) {
        let response = edge.request(method.clone(), path).send().await.expect("the edge answers");
        let by_worker = match response.status().as_u16() {
            307 => header(&response, "location").to_owned(),
            _ => "-".to_owned(),
        };
        assert_eq!(by_rule, by_worker, "{method} {path}");
    }
    let expected = format!("{BUCKET}/{}", blob_key(&digest));
    assert_eq!(answers.lines().filter(|line| *line == expected).count(), 6, "{answers}");
    // The script asks the Worker, and not its own rule, where blobs are: with an escaped colon.
    let escaped = format!("/v2/firn/blobs/sha256%3A{hex}");
    assert_eq!(header(&edge.get(&escaped).await, "location"), expected);
    let by_rule = node(["tests/cloudflare/answer-as-rule.mjs", &edge.url, BUCKET])
        .args([format!("GET {}{escaped}", edge.url)])
        .run()
        .succeeded();
    assert_eq!(by_rule, "-");
    origin.stop();
}
