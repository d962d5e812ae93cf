//! Builds belong to nobody: many ask and one builds, who asked may leave, and who is early comes again.

use crate::dockerd;
use firn_tests::{
    backend::{Backend, Starting},
    image::Image,
    package_set,
    program::Program,
    registry::{ACCEPT, Registry},
    service::session_runs,
    wait::until,
};
use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);

/// A backend whose slow packages have never been built.
fn fresh() -> Starting {
    Backend::serving_expression(&package_set::salted())
}

#[test]
fn many_clients_share_one_build() {
    const CLIENTS: usize = 200;
    let backend = fresh().start();
    // What one client's build takes in processes.
    backend.registry().built("slowish-2", "latest");
    let one = backend.nix_processes();
    let answers: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|i| {
                let registry = backend.registry();
                let method = if i % 2 == 0 { "GET" } else { "HEAD" };
                scope.spawn(move || registry.request(method, "/v2/slowish-1/manifests/latest", &ACCEPT))
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
    let backend = fresh().start();
    let mut client = TcpStream::connect(backend.address()).expect("the backend listens");
    client.write_all(b"GET /v2/slowish-1/manifests/latest HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    until("Nix builds", Duration::from_secs(60), || {
        session_runs(backend.process(), "nix-store").then_some(())
    });
    drop(client);
    until("the build ends", Duration::from_secs(60), || {
        (backend.logged("built image.name=slowish-1 ") == 1).then_some(())
    });
    let before = backend.nix_processes();
    assert_eq!(backend.registry().manifest("slowish-1").status, 200);
    assert_eq!(backend.nix_processes(), before);
}

#[test]
fn who_is_early_is_told_to_come_again() {
    let backend = fresh().args(&["--wait", "2"]).start();
    let registry = backend.registry();
    for method in ["GET", "HEAD", "GET"] {
        let started = Instant::now();
        let answer = registry.request(method, "/v2/slowish-all/manifests/latest", &ACCEPT);
        assert_eq!(answer.status, 429, "{}", answer.text());
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
        let seconds: u64 =
            answer.header("retry-after").expect("when to come again").parse().expect("seconds");
        assert!((1..=30).contains(&seconds), "{seconds}");
        if method == "GET" {
            let (code, message) = answer.error();
            assert_eq!(code, "TOOMANYREQUESTS");
            assert!(message.contains("slowish-all"), "{message}");
        }
    }
    assert_eq!(registry.built("slowish-all", "latest").status, 200);
    assert_eq!(backend.logged("built image.name=slowish-all "), 1, "who comes again joins");
}

/// Others are served while something slow is built.
#[test]
fn a_slow_build_holds_nobody_up() {
    let backend = fresh().start();
    let registry = backend.registry();
    thread::scope(|scope| {
        let slow = scope.spawn(|| registry.built("slowish-all", "latest"));
        until("Nix builds", Duration::from_secs(60), || {
            session_runs(backend.process(), "nix-store").then_some(())
        });
        registry.built("hello", "latest");
        assert_eq!(registry.get("/v2/").status, 200);
        assert!(!slow.is_finished(), "hello was there first");
        assert_eq!(slow.join().expect("a client's thread").status, 200);
    });
}

/// What a build that is too slow comes to, and that nothing of it goes on running.
#[test]
fn builds_are_bounded() {
    let backend = fresh().args(&["--nix-timeout", "3"]).start();
    let answer = backend.registry().settled("slow-build", "latest");
    let (_, message) = answer.error();
    assert!((400..500).contains(&answer.status), "{}: {message}", answer.status);
    assert!(!session_runs(backend.process(), "nix-store"), "Nix has ended");
}

/// A server that is told to end takes its builds with it.
#[test]
fn nothing_goes_on_after_the_end() {
    let mut backend = fresh().start();
    let registry = backend.registry();
    let client =
        thread::spawn(move || registry.try_request("GET", "/v2/slow-build/manifests/latest", &[]).is_ok());
    until("Nix builds", Duration::from_secs(60), || {
        session_runs(backend.process(), "nix-store").then_some(())
    });
    assert!(
        firn_tests::program::Program::new("kill").args([&backend.process().to_string()]).run().status == 0
    );
    until("the server ends", Duration::from_secs(30), || {
        (!session_runs(backend.process(), "firn")).then_some(())
    });
    until("Nix ends", Duration::from_secs(10), || {
        (!session_runs(backend.process(), "nix-store")).then_some(())
    });
    backend.stop();
    client.join().expect("the client's thread");
}

/// Docker's daemon does not come back after 429, but it follows redirects: to the same address, for another wait.
#[test]
fn docker_waits_too() {
    let backend = fresh().args(&["--wait", "1"]).start();
    let image = format!("{}/slowish-1", backend.address());
    dockerd().docker(&["pull", "--quiet", &image]).succeeded();
    // A number of times, and not without end.
    let ask = |path: &str| {
        backend.registry().request("GET", path, &[("user-agent", "docker/28.2.2 go/go1.24 os/linux")])
    };
    let mut path = "/v2/slow-build/manifests/latest".to_owned();
    for _ in 0..9 {
        let answer = ask(&path);
        assert_eq!((answer.status, answer.header("cache-control")), (307, Some("no-store")), "{path}");
        path = answer.header("location").expect("where to").to_owned();
        assert!(path.starts_with("/v2/slow-build/manifests/latest?"), "{path}");
    }
    let (code, message) = ask(&path).error();
    assert!(code == "TOOMANYREQUESTS" && message.contains("Pull again"), "{code}: {message}");
}

/// curl at an address of its own: to the backend, each is another client.
fn client(backend: &Backend, number: u8, name: &str) -> thread::JoinHandle<(u16, String)> {
    let url = format!("http://{}/v2/{name}/manifests/latest", backend.address());
    thread::spawn(move || {
        let interface = format!("127.0.0.{number}");
        let said = Program::new("curl")
            .args(["-sS", "--interface", &interface, "-w", "\n%{http_code}", &url])
            .run()
            .succeeded();
        let (body, status) = said.rsplit_once('\n').expect("a status");
        (status.parse().expect("a number"), body.to_owned())
    })
}

/// Who asks for much does not keep others waiting for all of it.
#[test]
fn clients_take_turns() {
    let backend = fresh().args(&["--max-realisations", "1"]).start();
    let first = client(&backend, 2, "slowish-1");
    until("Nix builds", SOON, || session_runs(backend.process(), "nix-store").then_some(()));
    let many: Vec<_> = ["slowish-2", "slowish-3", "slowish-4"].map(|name| client(&backend, 2, name)).into();
    until("they are all waiting", SOON, || (backend.waiting() == 4).then_some(()));
    let (status, body) = client(&backend, 3, "hello").join().expect("a client's thread");
    assert_eq!(status, 200, "{body}");
    let unfinished = many.iter().filter(|client| !client.is_finished()).count();
    assert!(unfinished >= 2, "who came last waited for all but {unfinished}");
    for client in many.into_iter().chain([first]) {
        assert_eq!(client.join().expect("a client's thread").0, 200);
    }
}

/// The queue has an end, and one client has at most half of it.
#[test]
fn a_full_queue_says_so() {
    let backend = fresh().args(&["--max-queue", "4", "--wait", "20"]).start();
    let asked: Vec<_> = [(2, "slowish-1"), (2, "slowish-2"), (3, "slowish-3")]
        .map(|(number, name)| client(&backend, number, name))
        .into();
    until("they are building", SOON, || (backend.waiting() == 3).then_some(()));
    let (status, body) = client(&backend, 2, "slowish-4").join().expect("a client's thread");
    assert!(status == 429 && body.contains("2 of your images are waiting"), "{status} {body}");
    let last = client(&backend, 4, "slowish-4");
    until("the queue is full", SOON, || (backend.waiting() == 4).then_some(()));
    let (status, body) = client(&backend, 5, "git").join().expect("a client's thread");
    assert!(status == 429 && body.contains("too many images are waiting"), "{status} {body}");
    // Joining needs no place.
    let joined = client(&backend, 5, "slowish-1");
    for client in asked.into_iter().chain([last, joined]) {
        assert_eq!(client.join().expect("a client's thread").0, 200);
    }
}

/// Two images with the same package in them build it once, even at the same time.
#[test]
fn a_package_is_built_once() {
    let backend = fresh().args(&["--wait", "1"]).start();
    let registry = backend.registry();
    let pages = ["slowish-1/hello", "slowish-1/tree"].map(|name| {
        let (_, message) = registry.manifest(name).error();
        let (_, page) = message.split_once("/builds/").expect("a page");
        format!("/builds/{page}")
    });
    for name in ["slowish-1/hello", "slowish-1/tree"] {
        registry.built(name, "latest");
    }
    let said: usize = pages.iter().map(|page| registry.get(page).text().matches("step 1 of 5").count()).sum();
    assert_eq!(said, 1, "one builder spoke");
    // Nor is a layer packed twice.
    assert_eq!(backend.logged("layer packed"), registry_layers(&registry));
}

/// How many different layers of store paths the two images have.
fn registry_layers(registry: &Registry) -> usize {
    let layers = ["slowish-1/hello", "slowish-1/tree"].map(|name| {
        let digests = Image::pull(registry, name).layer_digests();
        // Without the one of symlinks.
        digests[..digests.len() - 1].to_vec()
    });
    layers.concat().into_iter().collect::<BTreeSet<_>>().len()
}

/// A server that is told to end lets builds end that are about to.
#[test]
fn builds_that_end_in_time_are_answered() {
    let backend = fresh().env("FIRN_GRACE", "30").start();
    let asking = client(&backend, 2, "slowish-1");
    until("Nix builds", SOON, || session_runs(backend.process(), "nix-store").then_some(()));
    Program::new("kill").args([&backend.process().to_string()]).run().succeeded();
    until("the server says that it ends", SOON, || {
        (backend.registry().get("/healthz").status == 503).then_some(())
    });
    // Nothing new is begun.
    let (status, body) = client(&backend, 2, "hello").join().expect("a client's thread");
    assert!(status == 503 && body.contains("being restarted"), "{status} {body}");
    assert_eq!(asking.join().expect("a client's thread").0, 200);
    until("the server ends", SOON, || (!session_runs(backend.process(), "firn")).then_some(()));
}

/// Others are handed back.
#[test]
fn builds_that_do_not_end_in_time_are_handed_back() {
    let backend = fresh().env("FIRN_GRACE", "1").start();
    let asking = client(&backend, 2, "slow-build");
    until("Nix builds", SOON, || session_runs(backend.process(), "nix-store").then_some(()));
    Program::new("kill").args([&backend.process().to_string()]).run().succeeded();
    let (status, body) = asking.join().expect("a client's thread");
    assert!(status == 503 && body.contains("being restarted; pull again"), "{status} {body}");
}

/// A builder that does its worst: it forks, in and out of its session, and none of it ever ends.
#[test]
fn nothing_is_left_of_a_builder() {
    let mark = format!("98{}", std::process::id());
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
        let asking = client(&backend, 2, "hostile");
        let (status, body) = asking.join().expect("a client's thread");
        assert!(status == 404 && body.contains(says), "{script}: {status} {body}");
        assert!(!session_runs(backend.process(), "nix-store"), "{script}: Nix has ended");
        until(&format!("nothing is left of {script}"), SOON, || sleepers().is_empty().then_some(()));
        // It is remembered, and so not tried again at once.
        let before = backend.nix_processes();
        assert_eq!(client(&backend, 2, "hostile").join().expect("a client's thread"), (status, body));
        assert_eq!(backend.nix_processes(), before);
    };
    check(&sleep, &["--nix-timeout", "3"], "longer than the 3 s");
    // Each process is small; together they are not.
    let eat =
        "eat() { x=$(head -c 60000000 /dev/zero | tr '\\0' a); sleep MARK1; }; eat & eat & eat & eat & eat"
            .replace("MARK", &mark);
    check(&eat, &["--build-memory", "200"], "more memory than the 200 MiB");
    // It ends well, and leaves something behind.
    check(&format!("setsid sleep {mark}6 >/dev/null 2>&1 & sleep 1; exit 1"), &[], "its builder fails");
}

/// An evaluation that eats memory is ended, blamed on its package, and spoils nothing for others.
#[test]
fn evaluations_are_bounded_in_memory() {
    let backend = fresh().args(&["--eval-memory", "700"]).start();
    let answer = backend.registry().settled("hazards.hungry", "latest");
    let (code, message) = answer.error();
    assert!(code == "MANIFEST_UNKNOWN" && message.contains("hazards.hungry"), "{message}");
    assert!(!session_runs(backend.process(), "nix-instantiate"), "nothing goes on evaluating");
    backend.registry().built("hello", "latest");
}
