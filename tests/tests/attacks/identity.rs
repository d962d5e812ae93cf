//! What the first client gets does not decide what later clients get.

use firn_tests::{
    backend::Backend,
    caller::Caller,
    gates::Gates,
    wait::{LONG, until},
};

#[test]
fn a_build_has_the_best_place_of_those_who_wait_for_it() {
    let gates = Gates::new();
    let backend = Backend::serving_expression(&gates.package_set())
        .args(&["--max-realisations", "1", "--wait", "1"])
        .start();
    let registry = backend.registry();
    let (first, second) = (Caller::new(&backend, 2), Caller::new(&backend, 3));
    let is_in_line = |page: &str| {
        until("it waits for its turn", LONG, || {
            let page = registry.request("GET", page, &[("accept", "application/json")]).json();
            (page["phase"] == "realising").then_some(())
        });
    };
    let said = |page: &str, text: &str| registry.get(page).text().contains(text);
    let running = first.begin("gated-1");
    gates.open("gated-1", 1);
    until("it has its turn", LONG, || said(&running, "step 1 of 5").then_some(()));
    let pages = ["gated-2", "gated-3", "gated-4"].map(|name| {
        let page = first.begin(name);
        is_in_line(&page);
        page
    });
    // Another client joins the last of them.
    assert_eq!(second.begin("gated-4"), pages[2]);
    gates.open_all("gated-1");
    gates.open_all("gated-2");
    gates.open("gated-3", 1);
    gates.open("gated-4", 1);
    // The first client's next build, and then the second client's.
    until("the second client has its turn", LONG, || {
        assert!(!said(&pages[1], "step 1 of 5"), "the second client waits for all of the first one's");
        said(&pages[2], "step 1 of 5").then_some(())
    });
    for name in ["gated-4", "gated-3"] {
        gates.open_all(name);
        assert_eq!(second.settled(name).0, 200);
    }
}

/// A refusal of one client does not apply to others.
#[test]
fn a_quota_is_one_client_s() {
    let gates = Gates::new();
    let backend = Backend::serving_expression(&gates.package_set())
        .args(&["--max-queue-per-client", "2", "--wait", "1"])
        .start();
    let (first, second) = (Caller::new(&backend, 2), Caller::new(&backend, 3));
    for name in ["gated-1", "gated-2"] {
        first.begin(name);
    }
    let (status, body) = first.ask("gated-3");
    assert!(status == 429 && body.contains("2 of your images are waiting"), "{status} {body}");
    // The refusal is not remembered for the image, and joining a build is always possible.
    let page = second.begin("gated-3");
    assert_eq!(first.begin("gated-3"), page);
    for name in ["gated-1", "gated-2", "gated-3"] {
        gates.open_all(name);
        assert_eq!(second.settled(name).0, 200);
    }
}
