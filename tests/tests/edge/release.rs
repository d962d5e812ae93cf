//! Releases of the Worker (`make worker-release`), deployed by wrangler to a server that plays Cloudflare's API.

use firn_tests::node::run_tests;

#[test]
fn a_release_is_deployed_by_one_command() {
    run_tests(&["tests/cloudflare/release.test.mjs"], 11);
}
