//! What a client is told about a package that does not evaluate: the package set's message, without paths of this
//! machine. The message is withheld if anybody may have written the package set.

use firn_tests::{backend::Backend, git::Repository};
use tempfile::TempDir;

/// A package set whose packages fail as those of nixpkgs do.
const SET: &str = r#"{ system, ... }: let
  make = name: attributes: derivation ({ inherit name system; builder = "/bin/bash"; PATH = "/usr/bin:/bin";
    args = [ "-c" "mkdir -p $out/share; echo ${name} > $out/share/${name}; exit 0" ]; } // attributes);
  unrar = throw ''
    Package ‘unrar-6.2’ in ${toString ./unrar/default.nix}:41 has an unfree license (‘unfree’), refusing to evaluate.

    a) To temporarily allow unfree packages, you can use an environment variable'';
in {
  fine = make "fine" { };
  olden = throw "'olden' has been renamed to/replaced by 'fine', see https://example.org/pull/1";
  archiver = make "archiver" { inherit unrar; };
  secretive = throw "it is in ${toString ./.}/secret and ${builtins.getEnv "HOME"}/x, \u001b[31mred";
  vulnerable = {
    type = "derivation"; name = "vulnerable"; drvPath = throw "no"; outPath = throw "no"; outputs = [ "out" ];
    meta.knownVulnerabilities = [ "CVE-2026-1 lets/anybody in; read /etc/passwd" ];
  };
  building = import "${make "generator" { }}/share/generator";
  aborting = abort "it gives up at ${toString ./.}/x";
}"#;

#[test]
fn the_package_sets_words_reach_the_client_without_paths() {
    let backend = Backend::serving_expression(&SET.replace("\\u001b", "\u{1b}")).start();
    let check = |name: &str, says: &str| {
        let answer = backend.registry().settled(name, "latest");
        let (code, message) = answer.error();
        assert_eq!((answer.status, code.as_str()), (404, "MANIFEST_UNKNOWN"), "{message}");
        assert_eq!(message, format!("{name}: {says}"));
    };
    const FAILS: &str = "its expression in the package set fails to evaluate";
    let renamed = "'olden' has been renamed to/replaced by 'fine', see https://example.org/pull/1";
    check("olden", &format!("{FAILS}: {renamed}"));
    let unfree = "Package ‘unrar-6.2’ has an unfree license (‘unfree’), refusing to evaluate.";
    check("archiver", &format!("{FAILS}: {unfree}"));
    check("secretive", &format!("{FAILS}: it is and …, red"));
    check("vulnerable", "‘vulnerable’ is marked as insecure: CVE-2026-1 lets/anybody in; read …");
    let off = "something has to be built before it can be evaluated (import from derivation), which is off in this \
               registry";
    check("building", off);
    let answer = backend.registry().settled("aborting", "latest");
    let message = answer.error().1;
    assert!(answer.status == 404 && message.contains("it gives up") && !message.contains("/x"), "{message}");
    // The message is the same together with other packages, and those are still available.
    let message = backend.registry().settled("fine/olden", "latest").error().1;
    assert!(message.contains(renamed), "{message}");
    assert_eq!(backend.registry().settled("fine", "latest").status, 200);
}

/// Callers choose commits of a repository. Only the ref that the operator configured is trusted.
#[test]
fn a_strangers_words_reach_nobody_but_the_operator() {
    let dir = TempDir::new().expect("a temporary directory");
    let repository = Repository::new(&dir.path().join("set"));
    let set = |text: &str| format!(r#"{{ system, ... }}: {{ olden = throw "{text}"; }}"#);
    repository.commit(&set("trusted words"));
    repository.git(&["branch", "--quiet", "same"]);
    repository.git(&["checkout", "--quiet", "-b", "other"]);
    let commit = repository.commit(&set("words of a stranger"));
    repository.git(&["checkout", "--quiet", "main"]);
    let backend = Backend::with(&["--pkgs-repo", &repository.url(), "--revisions", "any"]).start();
    let registry = backend.registry();
    let says = |tag: &str| registry.settled("olden", tag).error().1;
    const FAILS: &str = "olden: its expression in the package set fails to evaluate";
    // No request for `latest` has shown yet that this is its commit.
    assert_eq!(says("same"), FAILS);
    assert_eq!(says("latest"), format!("{FAILS}: trusted words"));
    assert_eq!(says("same"), format!("{FAILS}: trusted words"));
    for tag in ["other", &commit] {
        assert_eq!(says(tag), FAILS, "{tag}");
    }
    // The operator finds the words in the log.
    assert!(backend.log().contains("words of a stranger"), "{}", backend.log());

    // If callers cannot choose revisions, all words are the operator's.
    let fixed = ["--pkgs-repo", &repository.url(), "--pkgs-ref", "other", "--revisions", "fixed"];
    let message = Backend::with(&fixed).start().registry().settled("olden", "latest").error().1;
    assert_eq!(message, format!("{FAILS}: words of a stranger"));
}
