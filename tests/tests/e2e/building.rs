//! Builds belong to nobody: many ask and one builds, who asked may leave, and who is early comes again.

use firn_tests::{
    backend::{Backend, Starting},
    package_set,
    registry::ACCEPT,
    service::session_runs,
    wait::until,
};
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

/// A backend whose slow packages have never been built.
fn fresh() -> Starting {
    Backend::serving_expression(&package_set::salted())
}

#[test]
fn many_clients_share_one_build() {
    const CLIENTS: usize = 50;
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
