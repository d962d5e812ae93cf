//! Many small requests from clients that disconnect at once: they block no other client, and leave nothing behind.

use firn_tests::{
    backend::{Backend, Starting},
    caller::{Caller, Crowd},
    gates::Gates,
    wait::{LONG, until},
};
use std::ops::RangeInclusive;

/// The packages that two clients request before they disconnect.
const ATTACKERS: [(u8, RangeInclusive<usize>); 2] = [(2, 1..=100), (3, 101..=200)];

/// How many places in the queue they get together at most.
const SHARES: u64 = 20;

fn gated(gates: &Gates) -> Starting {
    Backend::serving_expression(&gates.package_set()).args(&["--max-realisations", "1"])
}

/// HEAD requests for packages whose builders wait, from two addresses. When each request was answered or waits for
/// its build, all of them disconnect.
fn attack(backend: &Backend) {
    let requests = ATTACKERS.into_iter().flat_map(|(number, packages)| {
        let caller = Caller::new(backend, number);
        packages.map(move |package| (caller.clone(), format!("/v2/gated-{package}/manifests/latest")))
    });
    let requests: Vec<_> = requests.collect();
    let asked = requests.len();
    let crowd = Crowd::ask(requests);
    until("all requests have arrived", LONG, || {
        (crowd.answered() + backend.waiting() as usize >= asked).then_some(())
    });
    drop(crowd);
}

#[test]
fn requests_that_hang_up_stop_nobody() {
    let gates = Gates::new();
    let backend = gated(&gates).args(&["--wait", "1"]).start();
    let bystander = Caller::new(&backend, 4);
    for name in ["hello", "jq"] {
        assert_eq!(bystander.settled(name).0, 200);
    }
    attack(&backend);
    assert_eq!(backend.waiting(), SHARES, "no more than their shares");
    // Images of known packages are served at once, also in new combinations.
    for name in ["hello", "hello/jq", "jq/hello"] {
        let (status, body) = bystander.ask(name);
        assert_eq!(status, 200, "{name}: {body}");
    }
    // A new image waits for at most one build of each attacker, and for the one that has started.
    let page = bystander.begin("gated-201");
    until("it stands in line", LONG, || {
        let accept = [("accept", "application/json")];
        let page = backend.registry().request("GET", &page, &accept).json();
        (page["phase"] == "realising").then_some(())
    });
    for package in 1..=201 {
        gates.open_all(&format!("gated-{package}"));
    }
    assert_eq!(bystander.settled("gated-201").0, 200);
    let log = backend.log();
    let done: Vec<_> = log
        .lines()
        .filter_map(|line| line.split_once("built image.name=gated-")?.1.split(' ').next())
        .take_while(|package| *package != "201")
        .collect();
    assert!(done.len() <= 3, "{done:?} were built first");
}

#[test]
fn what_nobody_asks_for_leaves_the_queue() {
    let gates = Gates::new();
    let backend = gated(&gates).args(&["--abandon-after", "1", "--wait", "600"]).start();
    // A client that keeps waiting, in line behind one that disconnects.
    let patient = Caller::new(&backend, 3).settling("gated-101");
    until("it is built", LONG, || (backend.waiting() == 1).then_some(()));
    attack(&backend);
    // One build has started, and one has a waiting client; they may be the same.
    until("the others are gone", LONG, || (backend.waiting() <= 2).then_some(()));
    gates.open_all("gated-101");
    for package in 1..=200 {
        gates.open_all(&format!("gated-{package}"));
    }
    let (status, body) = patient.join().expect("a client's thread");
    assert_eq!(status, 200, "{body}");
    until("the queue is empty", LONG, || (backend.waiting() == 0).then_some(()));
    assert!(backend.logged("given up image.name=gated-") >= 18, "{}", backend.log());
    assert_eq!(backend.logged("given up image.name=gated-101 "), 0);
    // If a client comes back, its build starts anew.
    for package in [2, 3, 200] {
        assert_eq!(Caller::new(&backend, 2).settled(&format!("gated-{package}")).0, 200);
    }
}

/// A client that requests a single image gets a place after others have filled the queue and left.
#[test]
fn a_full_queue_makes_room_for_another_client() {
    let gates = Gates::new();
    let backend = gated(&gates).args(&["--max-queue", "4", "--wait", "1"]).start();
    for number in 11..=14 {
        Caller::new(&backend, number).begin(&format!("gated-{number}"));
    }
    Caller::new(&backend, 15).begin("gated-15");
    assert_eq!(backend.waiting(), 4, "one has made room");
    for package in 11..=15 {
        gates.open_all(&format!("gated-{package}"));
    }
    for number in 11..=15 {
        assert_eq!(Caller::new(&backend, number).settled(&format!("gated-{number}")).0, 200);
    }
}
