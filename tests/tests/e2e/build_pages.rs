//! `/builds/<id>`: progress of a build and output of its builders, for people, programs and watchers.

use firn_tests::{
    backend::Backend,
    gates::{Gates, STEPS},
    package_set,
    program::Program,
    registry::{self, ACCEPT, Answer, Registry},
    wait::{LONG, until},
};
use serde_json::Value;
use std::fs;
use std::thread;
use tempfile::TempDir;

/// A backend with packages whose builders wait for permission, and with a short wait for requests.
fn impatient(gates: &Gates) -> Backend {
    Backend::serving_expression(&gates.package_set()).args(&["--wait", "1"]).start()
}

/// The page in a message.
fn page_of(message: &str) -> String {
    registry::page_of(message).unwrap_or_else(|| panic!("no page in {message:?}"))
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
    let gates = Gates::new();
    let backend = impatient(&gates);
    let registry = backend.registry();
    let page = registry.begin("gated-1");
    assert_eq!(page.len(), "/builds/".len() + 32, "{page}");
    gates.open("gated-1", 1);
    until("the builder speaks", LONG, || as_text(&registry, &page).contains("step 1 of 5").then_some(()));
    let running = as_json(&registry, &page);
    assert_eq!((&running["image"], &running["phase"]), (&"gated-1".into(), &"realising".into()));
    assert!(running["summary"].as_str().is_some_and(|text| text.contains("gated-1-1.0")), "{running}");
    assert_eq!(derivation(&running, "gated-1").expect("it is built")["status"], "building");

    // A client that asks again is told of the same build.
    assert_eq!(registry.begin("gated-1"), page);
    gates.open_all("gated-1");
    let digest = registry.built("gated-1", "latest").header("docker-content-digest").map(str::to_owned);
    let done = as_json(&registry, &page);
    assert_eq!((done["phase"].as_str(), done["digest"].as_str()), (Some("done"), digest.as_deref()));
    assert_eq!(derivation(&done, "gated-1").expect("it was built")["status"], "ended");
    assert!(as_text(&registry, &page).starts_with(&format!("gated-1: done, {}", digest.expect("a digest"))));
}

/// curl, as a person would watch: the stream ends with the build, and the last event has the result.
#[test]
fn watchers_see_every_step_until_the_end() {
    let gates = Gates::new();
    let backend = impatient(&gates);
    let page = backend.registry().begin("gated-1");
    let url = format!("http://{}{page}", backend.address());
    let dir = TempDir::new().expect("a temporary directory");
    let files: Vec<_> = (0..3).map(|i| dir.path().join(i.to_string())).collect();
    let watchers: Vec<_> = files
        .iter()
        .map(|file| {
            let (url, file) = (url.clone(), file.display().to_string());
            thread::spawn(move || {
                let accept = "accept: text/event-stream";
                Program::new("curl")
                    .args(["-sSN", "-H", accept, "-D", "/dev/stderr", "-o", &file, &url])
                    .run()
            })
        })
        .collect();
    // The next step is taken when every watcher has seen the one before.
    for step in 1..=STEPS {
        gates.open("gated-1", step);
        let is_seen = |file| {
            let seen = fs::read_to_string(file).unwrap_or_default();
            seen.contains(&format!("step {step} of {STEPS}"))
        };
        until(&format!("step {step} is seen"), LONG, || files.iter().all(is_seen).then_some(()));
    }
    for (watcher, file) in watchers.into_iter().zip(&files) {
        let finished = watcher.join().expect("a watcher's thread");
        assert!(finished.stderr.contains("content-type: text/event-stream"), "{finished:?}");
        finished.succeeded();
        let text = fs::read_to_string(file).expect("what was seen");
        let events: Vec<Value> = text
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|json| serde_json::from_str(json).expect("an event is JSON"))
            .collect();
        let phases: Vec<&str> =
            events.iter().map(|event| event["phase"].as_str().expect("a phase")).collect();
        assert!(phases.contains(&"realising") && phases.last() == Some(&"done"), "{phases:?}");
        // The last step and the end may be one event.
        assert!(events.len() >= STEPS, "a step is an event: {}", events.len());
        let last =
            derivation(events.last().expect("events"), "gated-1").expect("it was built")["log"].clone();
        assert_eq!(last.as_array().expect("lines").last(), Some(&"step 5 of 5".into()));
    }
}

/// A builder's output can be read for as long as the answer points to it, and asking again builds nothing.
#[test]
fn a_failed_build_keeps_its_page() {
    let backend =
        Backend::serving_expression(&package_set::salted()).args(&["--failure-ttl", "3600"]).start();
    let registry = backend.registry();
    let first = registry.settled("fails-to-build", "latest");
    let page = page_of(&first.error().1);
    let processes = backend.nix_processes();
    for _ in 0..3 {
        let again = registry.settled("fails-to-build", "latest");
        assert_eq!((again.status, again.text()), (first.status, first.text()));
    }
    // Another image that contains it gets the same answer, with the same page.
    assert_eq!(page_of(&registry.settled("fails-to-build/hello", "latest").error().1), page);
    assert!(as_text(&registry, &page).contains("  main.c:3: error: the snow has melted"));
    let failed = as_json(&registry, &page);
    assert_eq!(failed["phase"], "failed");
    assert_eq!(derivation(&failed, "fails-to-build").expect("it was tried")["status"], "failed");
    // `hello` was not known, so it was evaluated. Nothing was built.
    assert_eq!(backend.nix_processes() - processes, 1);
}

/// Failures are remembered for the configured time.
#[test]
fn a_failure_is_forgotten_after_a_while() {
    let backend = Backend::serving_expression(&package_set::salted()).args(&["--failure-ttl", "1"]).start();
    let registry = backend.registry();
    let first = page_of(&registry.settled("fails-to-build", "latest").error().1);
    until("it is tried again", LONG, || {
        (page_of(&registry.settled("fails-to-build", "latest").error().1) != first).then_some(())
    });
}

/// Builders may print anything, and any amount of it.
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
    let gates = Gates::new();
    let backend = impatient(&gates);
    let registry = backend.registry();
    let (one, other) = (registry.begin("gated-1"), registry.begin("gated-2"));
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
