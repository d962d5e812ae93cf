//! What names mean beyond attributes: aliases, packages inside packages, main programs, and infinitely nested names.

use firn_tests::{
    backend::{Backend, command},
    image::Image,
    package_set,
    registry::Registry,
    wait::{LONG, until},
};
use serde_json::Value;
use tempfile::TempDir;

/// Packages that are never built, and sets of them.
const SET: &str = r#"{ system, config }:
let
  drv = name: meta: derivation { inherit name system; builder = "/never/built"; } // { inherit meta; version = "21"; };
  many = builtins.listToAttrs
    (builtins.genList (i: { name = "package${toString i}"; value = drv "package${toString i}" { }; }) 2500);
in
many // rec {
  jdk = drv "jdk-21" { mainProgram = "java"; description = "Tools\nfor Java"; };
  javafmt = drv "javafmt-1" { mainProgram = "javafmt"; };
  javaPackages.junit = drv "junit-4" { };
  python3Packages = { requests = drv "requests-2" { }; inherit python3Packages; };
  badPackages = abort "ends every evaluation that looks at it";
  worsePackages = let x = x; in x;
  aborts = abort "as this does";
  unnamed = { recurseForDerivations = true; hidden-thing = drv "hidden-1" { }; };
}"#;

/// The answer to a client that requests a name that does not exist.
fn refusal(registry: &Registry, name: &str) -> (u16, String) {
    let answer = registry.settled(name, "latest");
    (answer.status, answer.text())
}

#[test]
fn bad_sets_cost_no_other_names() {
    let dir = TempDir::new().expect("a temporary directory");
    let (set, data) = (dir.path().join("set"), dir.path().join("data"));
    package_set::write(&set, SET);
    let [set, data] = [set, data].map(|path| path.display().to_string());
    let search = |word: &str| command(&["search", word, "--pkgs-path", &set, "--data", &data]).run();
    let found = search("requests");
    let given_up = found.stderr.lines().any(|line| line.contains("badPackages worsePackages"));
    assert!(given_up, "{}", found.stderr);
    assert_eq!(found.succeeded(), "python3packages.requests  python3Packages.requests");
    assert_eq!(search("junit").succeeded(), "javapackages.junit  javaPackages.junit");
}

#[test]
fn a_server_learns_main_programs_in_the_background() {
    let data = TempDir::new().expect("a temporary directory");
    let backend = Backend::serving_expression(SET).data(data.path()).env("FIRN_SURVEY", "true").start();
    let (status, said) = refusal(&backend.registry(), "java");
    assert!(status == 404 && !said.contains("jdk"), "{said}");
    until("the packages are surveyed", LONG, || (backend.logged("packages surveyed") > 0).then_some(()));
    let (status, said) = refusal(&backend.registry(), "java/qqqqqqq");
    assert!(
        status == 404 && said.contains("there is no package java in the package set; did you mean jdk"),
        "{said}"
    );
    // A set whose name does not show that it contains packages, next to attributes that make evaluations fail.
    let (_, said) = refusal(&backend.registry(), "hidden-thing");
    assert!(said.contains("did you mean unnamed.hidden-thing?"), "{said}");
}

#[test]
fn a_survey_goes_on_where_it_was_stopped() {
    let dir = TempDir::new().expect("a temporary directory");
    let (set, data) = (dir.path().join("set"), dir.path().join("data"));
    let endless = "zzz = let fib = n: if n < 2 then n else fib (n - 1) + fib (n - 2); in fib 90; aborts =";
    package_set::write(&set, &SET.replace("aborts =", endless));
    let serve = || Backend::serving(&set).data(&data).env("FIRN_SURVEY", "true");
    let first = serve().start();
    refusal(&first.registry(), "qqqqqqq");
    // The last of its six pieces does not end.
    until("most is surveyed", LONG, || (first.logged("piece surveyed") == 5).then_some(()));
    let log = first.kill();
    assert!(!log.contains("packages surveyed"), "{log}");

    let second = serve().env("FIRN_EVAL_TIMEOUT", "8").start();
    refusal(&second.registry(), "qqqqqqq");
    until("the packages are surveyed", LONG, || (second.logged("packages surveyed") > 0).then_some(()));
    assert_eq!(second.logged("piece surveyed"), 1, "{}", second.log());
    assert!(second.logged("zzz") > 0, "{}", second.log());

    // A later search has it too.
    let [set, data] = [set, data].map(|path| path.display().to_string());
    let search = |arguments: &[&str]| {
        command(&[&["search", "java", "--pkgs-path", &set, "--data", &data], arguments].concat())
            .run()
            .succeeded()
    };
    assert_eq!(search(&["--limit", "1"]), "jdk  21  Tools for Java");
    let found: Value = serde_json::from_str(&search(&["--limit", "1", "--json"])).expect("JSON");
    assert_eq!(found[0]["main_program"], "java");
}

/// Aliases, attributes of derivations, and sets that contain each other without end.
#[test]
fn names_lead_to_one_derivation_in_few_steps() {
    let backend = Backend::start();
    let registry = backend.registry();
    // A package that is requested by two names is in the image once.
    let layers = |name: &str| Image::pull(&registry, name).layer_digests();
    assert_eq!(layers("bash/bashinteractive"), layers("bash"));
    for (name, status, expect) in [
        ("pkgs.pkgs.pkgs.hello", 404, "‘pkgs’ is the package set again"),
        ("pkgs.hello", 404, "‘pkgs’ is the package set again"),
        ("a.b.c.d.e", 400, "at most 4 parts"),
        ("git.drvattrs.name", 404, "is a string, not a package"),
    ] {
        let (actual, said) = refusal(&registry, name);
        assert!(actual == status && said.contains(expect), "{name}: {actual} {said}");
    }
}
