//! How clients wait for builds that take longer than one request.
//!
//! A request for an image that is not ready after 25 s gets status 429. Most clients then retry by themselves:
//! containerd at once, podman and skopeo after `Retry-After`. Docker's daemon does not retry, but it follows
//! redirects. So it is redirected to the same URL, which gives it one more request to wait. `docs/slow-builds.md`
//! says what each client does.

use crate::oci::{
    error::OciError,
    respond::{self, Response},
};

/// The query parameter that counts how often a client was redirected to the same URL.
const PARAMETER: &str = "firn-wait";

/// The greatest number of redirects for one pull. Go's HTTP client, which Docker uses, follows at most ten. The last
/// request must get a response with an error message.
const MOST: u32 = 9;

/// The value of `Retry-After`, in seconds, for an image whose build began `age` seconds ago.
///
/// podman and skopeo retry five times, whatever `Retry-After` says. So the value grows with the age of the build, to
/// let them wait longer in total.
pub fn retry_after_seconds(age: u64) -> u32 {
    const SHORTEST: u32 = 5;
    const LONGEST: u32 = 60;
    u32::try_from(age / 4).unwrap_or(LONGEST).clamp(SHORTEST, LONGEST)
}

/// Redirects a client to the same URL if `error` is a 429 that is worth waiting and the client would give up at it. `None`
/// for other errors and clients, and for a client that was redirected as often as allowed.
///
/// `agent` returns the client's `User-Agent`. It is called only if waiting is worth it.
pub fn wait_again<Agent: AsRef<str>>(
    error: &OciError,
    agent: impl FnOnce() -> Option<Agent>,
    path: &str,
    query: Option<&str>,
) -> Option<Response> {
    let is_docker = || agent().is_some_and(|agent| agent.as_ref().starts_with("docker/"));
    if !error.is_worth_waiting() || !is_docker() {
        return None;
    }
    next_address(path, query).map(respond::wait_again)
}

/// The same URL with the count increased. `None` if the count is at its limit, or if the URL does not fit into a header.
fn next_address(path: &str, query: Option<&str>) -> Option<String> {
    let parameters = query.into_iter().flat_map(|query| query.split('&'));
    let count = |parameter: &str| parameter.strip_prefix(PARAMETER)?.strip_prefix('=')?.parse::<u32>().ok();
    let times = parameters.clone().find_map(count).unwrap_or(0);
    let others: String = parameters
        .filter(|parameter| !parameter.is_empty() && count(parameter).is_none())
        .map(|parameter| format!("&{parameter}"))
        .collect();
    let address = (times < MOST).then(|| format!("{path}?{PARAMETER}={}{others}", times + 1));
    address.filter(|address| address.bytes().all(|byte| byte.is_ascii_graphic()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::error::ErrorCode;

    #[test]
    fn docker_is_sent_back_a_number_of_times() {
        let building = OciError::new(ErrorCode::Toomanyrequests, "being built").of_build("0a1b");
        let check = |agent: &str, query: Option<&str>, expect: Option<&str>| {
            let response = wait_again(&building, || Some(agent), "/v2/git", query);
            assert_eq!(response, expect.map(|to| respond::wait_again(to.into())), "{agent} {query:?}");
        };
        check("docker/20.10.24 go/go1.19", None, Some("/v2/git?firn-wait=1"));
        check("docker/28.2.2", Some("firn-wait=1"), Some("/v2/git?firn-wait=2"));
        check("docker/28.2.2", Some("ns=a&firn-wait=8"), Some("/v2/git?firn-wait=9&ns=a"));
        check("docker/28.2.2", Some("firn-wait=9"), None);
        check("docker/28.2.2", Some("firn-wait=4294967295"), None);
        check("docker/28.2.2", Some("firn-wait=x"), Some("/v2/git?firn-wait=1&firn-wait=x"));
        check("docker/28.2.2", Some("ns=\u{e9}"), None);
        check("containerd/1.6.20", None, None);
        check("curl/7.88.1", None, None);
        assert_eq!(wait_again(&building, || None::<&str>, "/v2/git", None), None);
        let crowded = OciError::new(ErrorCode::Toomanyrequests, "too many clients").of_crowd();
        assert!(wait_again(&crowded, || Some("docker/28.2.2"), "/v2/git", None).is_some());
        // Waiting helps against nothing else.
        let full = OciError::new(ErrorCode::Toomanyrequests, "too many images are waiting").of_client_quota();
        assert_eq!(wait_again(&full, || Some("docker/28.2.2"), "/v2/git", None), None);
    }

    #[test]
    fn long_builds_are_asked_for_less_often() {
        let waits: Vec<u32> = [0, 25, 60, 240, u64::MAX].map(retry_after_seconds).into();
        assert_eq!(waits, [5, 6, 15, 60, 60]);
    }
}
