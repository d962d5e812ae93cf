//! How clients wait for builds that take longer than one request.
//!
//! A request for an image that is not ready after 25 s gets status 429. Most clients then retry by themselves:
//! containerd at once, podman and skopeo after `Retry-After`. Docker's daemon does not retry, but it follows
//! redirects. So it is redirected to the same URL, which gives it one more request to wait. `docs/slow-builds.md`
//! says what each client does.

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

/// The URL to redirect a client to that would give up at status 429: the same path, with the count increased. `None`
/// for other clients, and for a client that was redirected as often as allowed.
pub fn wait_again(user_agent: Option<&str>, path: &str, query: Option<&str>) -> Option<String> {
    user_agent.filter(|agent| agent.starts_with("docker/"))?;
    let parameters = query.into_iter().flat_map(|query| query.split('&'));
    let count = |parameter: &str| parameter.strip_prefix(PARAMETER)?.strip_prefix('=')?.parse::<u32>().ok();
    let times = parameters.clone().find_map(count).unwrap_or(0);
    let others: String = parameters
        .filter(|parameter| !parameter.is_empty() && count(parameter).is_none())
        .map(|parameter| format!("&{parameter}"))
        .collect();
    (times < MOST).then(|| format!("{path}?{PARAMETER}={}{others}", times + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_is_sent_back_a_number_of_times() {
        let check = |agent: &str, query: Option<&str>, expect: Option<&str>| {
            assert_eq!(wait_again(Some(agent), "/v2/git", query).as_deref(), expect, "{agent} {query:?}");
        };
        check("docker/20.10.24 go/go1.19", None, Some("/v2/git?firn-wait=1"));
        check("docker/28.2.2", Some("firn-wait=1"), Some("/v2/git?firn-wait=2"));
        check("docker/28.2.2", Some("ns=a&firn-wait=8"), Some("/v2/git?firn-wait=9&ns=a"));
        check("docker/28.2.2", Some("firn-wait=9"), None);
        check("docker/28.2.2", Some("firn-wait=4294967295"), None);
        check("docker/28.2.2", Some("firn-wait=x"), Some("/v2/git?firn-wait=1&firn-wait=x"));
        check("containerd/1.6.20", None, None);
        check("curl/7.88.1", None, None);
        assert_eq!(wait_again(None, "/v2/git", None), None);
    }

    #[test]
    fn long_builds_are_asked_for_less_often() {
        let waits: Vec<u32> = [0, 25, 60, 240, u64::MAX].map(retry_after_seconds).into();
        assert_eq!(waits, [5, 6, 15, 60, 60]);
    }
}
