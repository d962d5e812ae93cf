//! `/builds/<id>`: where a build stands and what builders say, for people, programs and watchers.

use firn_tests::{
    backend::Backend,
    package_set,
    program::Program,
    registry::{ACCEPT, Answer, Registry},
    wait::until,
};
use serde_json::Value;
use std::thread;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// A backend whose slow packages have never been built, and which keeps nobody waiting for long.
fn impatient() -> Backend {
    Backend::serving_expression(&package_set::salted()).args(&["--wait", "1"]).start()
}

/// The page that a message points to.
fn page_of(message: &str) -> String {
    let (_, rest) = message.split_once("/builds/").unwrap_or_else(|| panic!("no page in {message:?}"));
    let id: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
    format!("/builds/{id}")
}

/// Asks for an image that is not there yet, and returns its build's page.
fn begin(registry: &Registry, name: &str) -> String {
    let answer = registry.manifest(name);
    assert_eq!(answer.status, 429, "{}", answer.text());
    page_of(&answer.error().1)
}

fn as_json(registry: &Registry, page: &str) -> Value {
    let answer = registry.request("GET", page, &[("accept", "application/json")]);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    answer.json()
}

fn as_text(registry: &Registry, page: &str) -> String {
    let answer: Answer = registry.get(page);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    answer.text()
}

/// The entry of a package's derivation.
fn derivation<'a>(page: &'a Value, name: &str) -> Option<&'a Value> {
    let all = page["nix"]["derivations"].as_object().expect("a map");
    all.iter().find(|(path, _)| path.ends_with(&format!("-{name}-1.0.drv"))).map(|(_, entry)| entry)
}

#[test]
fn shows_a_build_from_its_beginning_to_its_end() {
    let backend = impatient();
    let registry = backend.registry();
    let page = begin(&registry, "slowish-1");
    assert_eq!(page.len(), "/builds/".len() + 32, "{page}");
    until("the builder speaks", SOON, || as_text(&registry, &page).contains("step 1 of 5").then_some(()));
    let running = as_json(&registry, &page);
    assert_eq!((&running["image"], &running["phase"]), (&"slowish-1".into(), &"realising".into()));
    assert!(running["summary"].as_str().is_some_and(|text| text.contains("slowish-1-1.0")), "{running}");
    assert_eq!(derivation(&running, "slowish-1").expect("it is built")["status"], "building");

    // Whoever asks again is told of the same build.
    assert_eq!(page_of(&registry.manifest("slowish-1").error().1), page);
    let digest = registry.built("slowish-1", "latest").header("docker-content-digest").map(str::to_owned);
    let done = as_json(&registry, &page);
    assert_eq!((done["phase"].as_str(), done["digest"].as_str()), (Some("done"), digest.as_deref()));
    assert_eq!(derivation(&done, "slowish-1").expect("it was built")["status"], "ended");
    assert!(
        as_text(&registry, &page).starts_with(&format!("slowish-1: done, {}", digest.expect("a digest")))
    );
}

/// curl, as a person would watch: the stream ends with the build, and its last event has the result.
#[test]
fn watchers_see_every_step_until_the_end() {
    let backend = impatient();
    let page = begin(&backend.registry(), "slowish-1");
    let url = format!("http://{}{page}", backend.address());
    let watchers: Vec<_> = (0..3)
        .map(|_| {
            let url = url.clone();
            thread::spawn(move || {
                let accept = "accept: text/event-stream";
                Program::new("curl").args(["-sSN", "-H", accept, "-D", "/dev/stderr", &url]).run()
            })
        })
        .collect();
    for watcher in watchers {
        let finished = watcher.join().expect("a watcher's thread");
        assert!(finished.stderr.contains("content-type: text/event-stream"), "{finished:?}");
        let text = finished.succeeded();
        let events: Vec<Value> = text
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|json| serde_json::from_str(json).expect("an event is JSON"))
            .collect();
        let phases: Vec<&str> =
            events.iter().map(|event| event["phase"].as_str().expect("a phase")).collect();
        assert!(phases.contains(&"realising") && phases.last() == Some(&"done"), "{phases:?}");
        assert!(events.len() > 5, "a step is an event: {}", events.len());
        let last =
            derivation(events.last().expect("events"), "slowish-1").expect("it was built")["log"].clone();
        assert_eq!(last.as_array().expect("lines").last(), Some(&"step 5 of 5".into()));
    }
}

/// What a builder said can be read for as long as the answer points to it, and asking again builds nothing.
#[test]
fn a_failed_build_keeps_its_page() {
    let backend = Backend::serving_expression(&package_set::salted()).start();
    let registry = backend.registry();
    let first = registry.settled("fails-to-build", "latest");
    let page = page_of(&first.error().1);
    let processes = backend.nix_processes();
    for _ in 0..3 {
        let again = registry.manifest("fails-to-build");
        assert_eq!((again.status, again.text()), (first.status, first.text()));
    }
    // Another image with it is told the same, and of the same page.
    assert_eq!(page_of(&registry.settled("fails-to-build/hello", "latest").error().1), page);
    assert!(as_text(&registry, &page).contains("  main.c:3: error: the snow has melted"));
    let failed = as_json(&registry, &page);
    assert_eq!(failed["phase"], "failed");
    assert_eq!(derivation(&failed, "fails-to-build").expect("it was tried")["status"], "failed");
    // hello was not known, so it was evaluated; nothing was built.
    assert_eq!(backend.nix_processes() - processes, 1);
}

/// Failures are remembered for as long as the operator says.
#[test]
fn a_failure_is_forgotten_after_a_while() {
    let backend = Backend::serving_expression(&package_set::salted()).args(&["--failure-ttl", "1"]).start();
    let registry = backend.registry();
    let first = page_of(&registry.settled("fails-to-build", "latest").error().1);
    until("it is tried again", SOON, || {
        (page_of(&registry.settled("fails-to-build", "latest").error().1) != first).then_some(())
    });
}

/// Builders print what they like, as much as they like.
#[test]
fn pages_are_bounded_whatever_builders_say() {
    let backend = Backend::serving_expression(
        r#"{ system, ... }: {
  talkative = derivation {
    name = "talkative-1.0";
    inherit system;
    builder = "/bin/bash";
    PATH = "/usr/bin:/bin";
    args = [ "-c" ''
      for i in {1..20000}; do echo "line $i"; done
      head -c 30000000 /dev/zero | tr '\0' x
      printf '\n\033[2J\033[31mred\r\n\377\376\n'
      echo "the end"
      exit 1
    '' ];
  };
}"#,
    )
    .start();
    let registry = backend.registry();
    let page = page_of(&registry.settled("talkative", "latest").error().1);
    let text = as_text(&registry, &page);
    assert!(text.len() < 20_000, "{}", text.len());
    assert!(
        text.contains("line 20000") && text.contains("the end") && !text.contains("line 19000"),
        "{text}"
    );
    assert!(!text.contains(['\u{1b}', '\r']), "{text}");
    assert!(as_json(&registry, &page).to_string().len() < 20_000);
}

#[test]
fn pages_that_nobody_can_know() {
    let backend = impatient();
    let registry = backend.registry();
    let (one, other) = (begin(&registry, "slowish-1"), begin(&registry, "slowish-2"));
    assert_ne!(one, other);
    for id in [
        "0",
        &"0".repeat(32),
        &one["/builds/".len()..][1..],
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "x".repeat(5000).as_str(),
    ] {
        let answer = registry.request("GET", &format!("/builds/{id}"), &ACCEPT);
        let (code, message) = answer.error();
        assert_eq!((answer.status, code.as_str()), (404, "MANIFEST_UNKNOWN"), "{id}");
        assert!(message.contains("no build of this id"), "{message}");
    }
}
