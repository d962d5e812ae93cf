//! Attacks by names that take as many and as long evaluations as possible.

use firn_tests::{
    backend::Backend,
    caller::Caller,
    git::Repository,
    package_set,
    wait::{LONG, until},
};
use tempfile::TempDir;

/// How many evaluations have ended without being killed.
fn evaluations(backend: &Backend) -> usize {
    let log = backend.log();
    log.lines().filter(|line| line.contains("nix process ended") && line.contains("nix-instantiate")).count()
}

/// Many good packages, `p0`, `p1`, …, and some bad ones.
fn set() -> String {
    let seed = u64::from(std::process::id());
    let endless = "let fib = n: if n < 2 then n else fib (n - 1) + fib (n - 2); in fib 90";
    format!(
        "{} // {{ aborts = abort \"gives up\"; endless = {endless}; other = {{ endless = {endless}; }}; }}",
        package_set::many(60, seed).trim_end(),
    )
}

fn names(range: std::ops::Range<usize>) -> String {
    range.map(|n| format!("p{n}")).collect::<Vec<_>>().join("/")
}

#[test]
fn one_name_that_aborts_costs_few_evaluations_and_spoils_no_other() {
    let backend = Backend::serving_expression(&set()).start();
    let registry = backend.registry();
    let answer = registry.settled(&format!("aborts/{}", names(0..50)), "latest");
    let (_, message) = answer.error();
    assert_eq!(answer.status, 404, "{message}");
    assert!(
        message.contains("aborts") && message.contains("gives up") && !message.contains("p0"),
        "{message}"
    );
    let spent = evaluations(&backend);
    assert!(spent <= 20, "{spent} evaluations");
    // The results for the good names are remembered, and those for the bad one.
    registry.built("p0/p49", "latest");
    assert_eq!(registry.settled("aborts/p50", "latest").status, 404);
    assert_eq!(evaluations(&backend), spent, "{}", backend.log());
}

#[test]
fn names_that_never_end_cost_the_time_of_one_image() {
    let backend = Backend::serving_expression(&set()).args(&["--eval-timeout", "6"]).start();
    let (attacker, bystander) = (Caller::new(&backend, 2), Caller::new(&backend, 3));
    let refused = |name: &str, says: &str| {
        let (status, body) = attacker.settled(name);
        assert!(status == 404 && body.contains(says), "{name}: {status} {body}");
    };
    // One evaluation of the name, and one without names to check that the package set works.
    refused("endless", "takes longer than the 6 s");
    assert_eq!(backend.nix_processes(), 2);
    // The failure is remembered by attribute: also for other names of it or of something in it, and together with any
    // other names.
    for name in ["endless.out", "endless.a1", "endless.a.b", "endless/p1", "p2/endless.dev"] {
        refused(name, "takes longer than the 6 s");
    }
    assert_eq!(backend.nix_processes(), 2);
    // Together with others, it is unknown at first which name is slow. The next request finds it out.
    refused("other.endless/p3/p4", "pull them one by one: ");
    refused("other.endless/p5", "other.endless: evaluating");
    let spent = backend.nix_processes();
    let (status, body) = bystander.settled("other.endless/p6");
    assert!(status == 404 && body.contains("other.endless: evaluating"), "{status} {body}");
    assert_eq!(backend.nix_processes(), spent);
    // After that, this client is refused.
    let (status, body) = attacker.ask("p7");
    assert!(status == 429 && body.contains("took too long to evaluate"), "{status} {body}");
    // Other clients are not affected, nor are names that were requested together with a slow one.
    for name in ["p3", "p4", "p7"] {
        let (status, body) = bystander.settled(name);
        assert_eq!(status, 200, "{name}: {body}");
    }
    assert_eq!(attacker.ask("p3/p4").0, 200, "what is known takes no evaluation");
}

/// A survey takes minutes, and only one runs at a time.
#[test]
fn only_the_operators_revision_is_surveyed() {
    let dir = TempDir::new().expect("a directory");
    let repository = Repository::new(dir.path());
    let main = repository.commit(&package_set::small("main"));
    repository.git(&["checkout", "--quiet", "-b", "other"]);
    let other = repository.commit(&package_set::small("other"));
    repository.git(&["checkout", "--quiet", "main"]);
    let arguments = ["--pkgs-repo", &repository.url(), "--revisions", "any"];
    let backend = Backend::with(&arguments).env("FIRN_SURVEY", "true").start();
    let registry = backend.registry();
    for tag in ["other", &other, "latest"] {
        let (_, message) = registry.settled("greetin", tag).error();
        assert!(message.contains("did you mean greeting?"), "{tag}: {message}");
    }
    let surveyed = || {
        let log = backend.log();
        log.lines().filter(|line| line.contains("packages surveyed")).map(str::to_owned).collect::<Vec<_>>()
    };
    let lines = until("the packages are surveyed", LONG, || {
        // If another survey was under way, the next request for names starts this one.
        registry.settled("greetin", "latest");
        let lines = surveyed();
        lines.iter().any(|line| line.contains(&main)).then_some(lines)
    });
    assert!(!lines.iter().any(|line| line.contains(&other)), "{lines:?}");
}
