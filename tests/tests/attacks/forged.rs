//! A caller's revision says that a package has a store path which its expression does not make, to be served what
//! somebody else built.

use firn_tests::{backend::Backend, git::Repository, nix, package_set, registry::Answer};
use tempfile::TempDir;

/// The operator's package set: a package that nobody else may have, and `lazy`, which has no `drvAttrs`.
fn of_operator(salt: &str) -> String {
    format!(
        r#"{{ system, ... }}:
let
  make = name: derivation {{
    inherit name system;
    builder = "/bin/bash";
    args = [ "-c" "echo {salt} > $out; exit 0" ];
  }};
  real = make "real";
in {{
  private = make "private";
  lazy = {{ outputs = [ "out" ]; inherit (real) type name outputName outPath drvPath; }};
}}
"#
    )
}

/// A stranger's package set, in which all but `honest` claim to be the private package.
fn of_stranger(out: &str, drv: &str) -> String {
    format!(
        r#"{{ system, ... }}:
let
  out = "{out}";
  drv = "{drv}";
  honest = derivation {{
    name = "honest";
    inherit system;
    builder = "/bin/bash";
    args = [ "-c" "echo > $out; exit 0" ];
  }};
  with-context = builtins.appendContext drv {{ ${{drv}} = {{ allOutputs = true; }}; }};
in {{
  inherit honest;
  bare = {{ type = "derivation"; name = "bare"; drvPath = drv; outPath = out; outputs = [ "out" ]; }};
  context = honest // {{ drvPath = with-context; outPath = builtins.appendContext out {{ ${{out}} = {{ path = true; }}; }}; }};
  path = honest // {{ outPath = out; out = honest // {{ outPath = out; }}; }};
  derived = honest // {{ drvPath = drv; }};
  both = honest // {{ drvPath = drv; outPath = out; out = {{ outPath = out; }}; }};
  output = honest // {{ outputs = [ "out" "private" ]; private = {{ outPath = out; }}; }};
  attributes = honest // {{
    drvPath = drv;
    outPath = out;
    out = {{ outPath = out; }};
    drvAttrs = honest.drvAttrs // {{ name = "private"; drvPath = drv; out = out; outPath = out; }};
  }};
  nothing = honest // {{ outPath = out; out = {{ outPath = out; }}; drvAttrs = null; }};
}}
"#
    )
}

#[test]
fn a_callers_revision_names_only_store_paths_that_it_makes() {
    let dir = TempDir::new().expect("a directory");
    let set = dir.path().join("set");
    let operators = of_operator(&format!("{} {}", std::process::id(), dir.path().display()));
    package_set::write(&set, &operators);
    let private = nix::outputs(&set, &["private"])[0][0].clone();
    let built = nix::build_expression(&set, "private");
    assert_eq!(built, [&*private]);
    let query = nix::program("nix-store").args(["--query", "--deriver", &private]).run().succeeded();
    let place = dir.path().join("repository");
    let repository = Repository::new(&place);
    repository.commit(&operators);
    repository.git(&["checkout", "--quiet", "-b", "other"]);
    repository.commit(&of_stranger(&private, query.trim()));
    repository.git(&["checkout", "--quiet", "main"]);

    let backend = Backend::with(&["--pkgs-repo", &repository.url()]).start();
    let registry = backend.registry();
    let found = |answer: Answer| (answer.status, answer.text());
    assert_eq!(found(registry.settled("honest", "other")).0, 200, "{}", backend.log());
    for name in ["bare", "context", "path", "derived", "both", "output.private", "attributes", "nothing"] {
        let (status, text) = found(registry.settled(name, "other"));
        assert_eq!(status, 404, "{name}: {text}\n{}", backend.log());
        assert!(text.contains("another derivation than its own"), "{name}: {text}");
        assert!(!text.contains("/nix/store/"), "{name}: {text}");
    }
    // The operator's own set is believed.
    for name in ["private", "lazy"] {
        let (status, text) = found(registry.settled(name, "latest"));
        assert_eq!(status, 200, "{name}: {text}\n{}", backend.log());
    }
}
