//! Builds do not belong to a client: many request an image and one build runs, clients may disconnect, and clients
//! that were told to come back get the result.

use crate::dockerd;
use firn_tests::{
    backend::{Backend, Starting},
    caller::Caller,
    gates::Gates,
    image::Image,
    package_set,
    program::Program,
    registry::{ACCEPT, Registry},
    service::session_runs,
    wait::{LONG, until},
};
use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::thread;

/// A backend whose slow packages were never built.
fn fresh() -> Starting {
    Backend::serving_expression(&package_set::salted())
}

/// A backend with packages whose builders wait for permission.
fn gated(gates: &Gates) -> Starting {
    Backend::serving_expression(&gates.package_set())
}

/// Waits until Nix builds something.
fn nix_builds(backend: &Backend) {
    until("Nix builds", LONG, || session_runs(backend.process(), "nix-store").then_some(()));
}

#[test]
fn many_clients_share_one_build() {
    const CLIENTS: usize = 200;
    let backend = fresh().start();
    // How many processes one client's build takes.
    backend.registry().built("slowish-2", "latest");
    let one = backend.nix_processes();
    let answers: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|i| {
                let registry = backend.registry();
                let method = if i % 2 == 0 { "GET" } else { "HEAD" };
                scope.spawn(move || registry.settle(method, "/v2/slowish-1/manifests/latest"))
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("a client's thread")).collect()
    });
    let digest = answers[0].header("docker-content-digest").expect("a digest").to_owned();
    for answer in &answers {
        assert_eq!((answer.status, answer.header("docker-content-digest")), (200, Some(digest.as_str())));
    }
    assert_eq!(backend.logged("built image.name=slowish-1 "), 1, "{}", backend.log());
    assert!(
        backend.nix_processes() - one <= one,
        "{} for {CLIENTS}, {one} for one",
        backend.nix_processes() - one
    );
}

#[test]
fn a_client_that_leaves_does_not_stop_the_build() {
    let gates = Gates::new();
    let backend = gated(&gates).start();
    let mut client = TcpStream::connect(backend.address()).expect("the backend listens");
    client.write_all(b"GET /v2/gated-1/manifests/latest HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    nix_builds(&backend);
    drop(client);
    gates.open_all("gated-1");
    until("the build ends", LONG, || (backend.logged("built image.name=gated-1 ") == 1).then_some(()));
    let before = backend.nix_processes();
    assert_eq!(backend.registry().built("gated-1", "latest").status, 200);
    assert_eq!(backend.nix_processes(), before);
}

#[test]
fn a_client_that_pulls_too_early_gets_429() {
    let gates = Gates::new();
    let backend = gated(&gates).args(&["--wait", "2"]).start();
    let registry = backend.registry();
    // Each is answered before the build ends: it has not ended yet.
    for method in ["GET", "HEAD", "GET"] {
        let answer = registry.request(method, "/v2/gated-1/manifests/latest", &ACCEPT);
        assert_eq!(answer.status, 429, "{}", answer.text());
        let seconds: u64 =
            answer.header("retry-after").expect("when to come again").parse().expect("seconds");
        assert!((1..=30).contains(&seconds), "{seconds}");
        if method == "GET" {
            let (code, message) = answer.error();
            assert_eq!(code, "TOOMANYREQUESTS");
            assert!(message.contains("gated-1"), "{message}");
        }
    }
    gates.open_all("gated-1");
    assert_eq!(registry.built("gated-1", "latest").status, 200);
    assert_eq!(backend.logged("built image.name=gated-1 "), 1, "a client that comes back joins the build");
}

/// Other images are served while something slow is built.
#[test]
fn a_slow_build_holds_nobody_up() {
    let gates = Gates::new();
    let backend = gated(&gates).args(&["--wait", "1"]).start();
    let registry = backend.registry();
    registry.begin("gated-1");
    nix_builds(&backend);
    registry.built("hello", "latest");
    assert_eq!(registry.get("/v2/").status, 200);
    gates.open_all("gated-1");
    registry.built("gated-1", "latest");
}

/// The result of a build that is too slow. Afterwards none of its processes runs.
#[test]
fn a_build_that_is_too_slow_is_ended() {
    let backend = fresh().args(&["--nix-timeout", "3"]).start();
    let answer = backend.registry().settled("slow-build", "latest");
    let (_, message) = answer.error();
    assert!((400..500).contains(&answer.status), "{}: {message}", answer.status);
    assert!(!session_runs(backend.process(), "nix-store"), "Nix has ended");
}

/// A server that is told to end also ends its builds.
#[test]
fn a_server_that_ends_also_ends_its_builds() {
    let gates = Gates::new();
    let mut backend = gated(&gates).start();
    let registry = backend.registry();
    let client =
        thread::spawn(move || registry.try_request("GET", "/v2/gated-1/manifests/latest", &[]).is_ok());
    nix_builds(&backend);
    told_to_end(&backend);
    until("the server ends", LONG, || (!session_runs(backend.process(), "firn")).then_some(()));
    until("Nix ends", LONG, || (!session_runs(backend.process(), "nix-store")).then_some(()));
    backend.stop();
    client.join().expect("the client's thread");
}

/// Tells a server to end.
fn told_to_end(backend: &Backend) {
    Program::new("kill").args([&backend.process().to_string()]).run().succeeded();
}

/// Docker's daemon does not come back after a 429. But it follows redirects, which lead to the same address for
/// another wait.
#[test]
fn docker_waits_by_following_redirects() {
    // Shorter than the build, and a tenth of the time of a whole pull.
    let backend = fresh().args(&["--wait", "4"]).start();
    let image = format!("{}/slowish-1", backend.address());
    dockerd().docker(&["pull", "--quiet", &image]).succeeded();
    // Several times, but not without end.
    let gates = Gates::new();
    let backend = gated(&gates).args(&["--wait", "1"]).start();
    let ask = |path: &str| {
        until("the package set is found in time", LONG, || {
            let docker = [("user-agent", "docker/28.2.2 go/go1.24 os/linux")];
            let answer = backend.registry().request("GET", path, &docker);
            (!answer.text().contains("the package repository takes long")).then_some(answer)
        })
    };
    let mut path = "/v2/gated-1/manifests/latest".to_owned();
    for _ in 0..9 {
        let answer = ask(&path);
        assert_eq!((answer.status, answer.header("cache-control")), (307, Some("no-store")), "{path}");
        path = answer.header("location").expect("where to").to_owned();
        assert!(path.starts_with("/v2/gated-1/manifests/latest?"), "{path}");
    }
    let (code, message) = ask(&path).error();
    assert!(code == "TOOMANYREQUESTS" && message.contains("Pull again"), "{code}: {message}");
}

/// A client with many requests does not delay others until all of them are done.
#[test]
fn clients_take_turns() {
    let gates = Gates::new();
    let backend = gated(&gates).args(&["--max-realisations", "1", "--wait", "1"]).start();
    let registry = backend.registry();
    let is_in_line = |page: &str| {
        until("it waits for its turn", LONG, || {
            let page = registry.request("GET", page, &[("accept", "application/json")]).json();
            (page["phase"] == "realising").then_some(())
        });
    };
    let first = Caller::new(&backend, 2).begin("gated-1");
    gates.open("gated-1", 1);
    until("it has its turn", LONG, || registry.get(&first).text().contains("step 1 of 5").then_some(()));
    for name in ["gated-2", "gated-3", "gated-4"] {
        is_in_line(&Caller::new(&backend, 2).begin(name));
    }
    is_in_line(&Caller::new(&backend, 3).begin("hello"));
    gates.open_all("gated-1");
    gates.open_all("gated-2");
    // The others do not end yet. The last client waits for at most one of the three.
    let (status, body) = Caller::new(&backend, 3).settled("hello");
    assert_eq!(status, 200, "{body}");
    gates.open_all("gated-3");
    gates.open_all("gated-4");
    for name in ["gated-1", "gated-2", "gated-3", "gated-4"] {
        assert_eq!(Caller::new(&backend, 2).settled(name).0, 200);
    }
}

/// The queue is limited, and one client has at most half of it.
#[test]
fn a_full_queue_says_so() {
    let gates = Gates::new();
    let backend = gated(&gates).args(&["--max-queue", "4", "--wait", "1"]).start();
    let asked = [(2, "gated-1"), (2, "gated-2"), (3, "gated-3")];
    // Once a build has begun, its place cannot be given to others.
    let begin = |number: u8, name: &str| {
        let page = Caller::new(&backend, number).begin(name);
        gates.open(name, 1);
        until("it has begun", LONG, || {
            backend.registry().get(&page).text().contains("step 1 of 5").then_some(())
        });
        page
    };
    let pages = asked.map(|(number, name)| begin(number, name));
    assert_eq!(backend.waiting(), 3);
    let (status, body) = Caller::new(&backend, 2).ask("gated-4");
    assert!(status == 429 && body.contains("2 of your images are waiting"), "{status} {body}");
    begin(4, "gated-4");
    assert_eq!(backend.waiting(), 4);
    let (status, body) = Caller::new(&backend, 5).ask("git");
    assert!(status == 429 && body.contains("too many images are waiting"), "{status} {body}");
    // Joining a build needs no place.
    assert_eq!(Caller::new(&backend, 5).begin("gated-1"), pages[0]);
    for (number, name) in asked.into_iter().chain([(4, "gated-4"), (5, "gated-1")]) {
        gates.open_all(name);
        assert_eq!(Caller::new(&backend, number).settled(name).0, 200);
    }
}

/// Two images that contain the same package build it once, even at the same time.
#[test]
fn a_package_is_built_once() {
    let gates = Gates::new();
    let backend = gated(&gates).args(&["--wait", "1"]).start();
    let registry = backend.registry();
    let pages = TWO.map(|name| registry.begin(name));
    gates.open_all("gated-1");
    for name in TWO {
        registry.built(name, "latest");
    }
    let said: usize = pages.iter().map(|page| registry.get(page).text().matches("step 1 of 5").count()).sum();
    assert_eq!(said, 1, "one builder spoke");
    // A layer is not packed twice either.
    assert_eq!(backend.logged("layer packed"), registry_layers(&registry));
}

const TWO: [&str; 2] = ["gated-1/hello", "gated-1/tree"];

/// How many different layers of store paths the two images have.
fn registry_layers(registry: &Registry) -> usize {
    let layers = TWO.map(|name| {
        let digests = Image::pull(registry, name).layer_digests();
        // Without the symlink layer.
        digests[..digests.len() - 1].to_vec()
    });
    layers.concat().into_iter().collect::<BTreeSet<_>>().len()
}

/// A server that is told to end lets builds finish within the grace period.
#[test]
fn a_server_that_ends_lets_builds_finish_within_its_grace_period() {
    let gates = Gates::new();
    let backend = gated(&gates).env("FIRN_GRACE", "600").env("FIRN_WAIT", "600").start();
    let asking = Caller::new(&backend, 2).settling("gated-1");
    nix_builds(&backend);
    told_to_end(&backend);
    until("the server says that it ends", LONG, || {
        (backend.registry().get("/healthz").status == 503).then_some(())
    });
    // No new build is started.
    let (status, body) = Caller::new(&backend, 2).ask("hello");
    assert!(status == 503 && body.contains("being restarted"), "{status} {body}");
    gates.open_all("gated-1");
    assert_eq!(asking.join().expect("a client's thread").0, 200);
    until("the server ends", LONG, || (!session_runs(backend.process(), "firn")).then_some(()));
}

/// Clients of other builds are told to come back.
#[test]
fn after_the_grace_period_clients_are_told_to_pull_again() {
    let gates = Gates::new();
    let backend = gated(&gates).env("FIRN_GRACE", "1").env("FIRN_WAIT", "600").start();
    let asking = Caller::new(&backend, 2).settling("gated-1");
    nix_builds(&backend);
    told_to_end(&backend);
    let (status, body) = asking.join().expect("a client's thread");
    assert!(status == 503 && body.contains("being restarted; pull again"), "{status} {body}");
}

/// A malicious builder: it forks, in and out of its session, and none of its processes ever ends.
#[test]
fn a_malicious_builder_leaves_no_processes() {
    // As long as that of every other test process, so that none is a prefix of another.
    let mark = format!("98{:07}", std::process::id());
    let set = |script: &str| {
        format!(
            r#"{{ system, ... }}: {{ hostile = derivation {{
  name = "hostile-{mark}"; inherit system; builder = "/bin/bash"; PATH = "/usr/bin:/bin";
  args = [ "-c" ''{script}'' ]; }}; }}"#
        )
    };
    let sleepers = || Program::new("pgrep").args(["-f", &format!("^sleep {mark}")]).run().text();
    let sleep = format!(
        "sleep {mark}1 & setsid sleep {mark}2 & (setsid sleep {mark}3 & sleep {mark}4) & sleep {mark}5"
    );
    let check = |script: &str, options: &[&str], says: &str| {
        let backend = Backend::serving_expression(&set(script)).args(options).start();
        let (status, body) = Caller::new(&backend, 2).settled("hostile");
        assert!(status == 404 && body.contains(says), "{script}: {status} {body}");
        assert!(!session_runs(backend.process(), "nix-store"), "{script}: Nix has ended");
        until(&format!("nothing is left of {script}"), LONG, || sleepers().is_empty().then_some(()));
        // The failure is remembered, so it is not tried again at once.
        let before = backend.nix_processes();
        assert_eq!(Caller::new(&backend, 2).settled("hostile"), (status, body));
        assert_eq!(backend.nix_processes(), before);
    };
    check(&sleep, &["--nix-timeout", "3"], "longer than the 3 s");
    // Each process is small, but together they are too large.
    let eat =
        "eat() { x=$(head -c 60000000 /dev/zero | tr '\\0' a); sleep MARK1; }; eat & eat & eat & eat & eat"
            .replace("MARK", &mark);
    check(&eat, &["--build-memory", "200"], "more memory than the 200 MiB");
    // The builder itself ends, but leaves a process behind.
    check(&format!("setsid sleep {mark}6 >/dev/null 2>&1 & sleep 5; exit 1"), &[], "its builder fails");
}

/// An evaluation that uses too much memory is ended. Its package is blamed, and other packages are not affected.
#[test]
fn evaluations_are_bounded_in_memory() {
    let backend = fresh().args(&["--eval-memory", "700"]).start();
    let answer = backend.registry().settled("hazards.hungry", "latest");
    let (code, message) = answer.error();
    assert!(code == "MANIFEST_UNKNOWN" && message.contains("hazards.hungry"), "{message}");
    assert!(!session_runs(backend.process(), "nix-instantiate"), "nothing goes on evaluating");
    backend.registry().built("hello", "latest");
}
