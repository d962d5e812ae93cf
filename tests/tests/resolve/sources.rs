//! Where package sets come from.

use crate::{evaluator::evaluators, request};
use serde_json::{Value, json};

#[test]
fn the_set_is_imported_once_and_nothing_else_is() {
    for nix in evaluators() {
        let mut wanted = request(&["hello", "git", "openssl.dev", "nope", "unfree"]);
        wanted["config"] = json!({ "allowUnfree": true, "permittedInsecurePackages": ["x"] });
        let trace = nix.trace(&wanted);
        assert_eq!(trace.matches("imported with config").count(), 1, "{}: {trace}", nix.version());
        let config = r#"imported with config {"allowUnfree":true,"permittedInsecurePackages":["x"]}"#;
        assert!(trace.contains(config), "{}: {trace}", nix.version());
    }
}

#[test]
fn a_source_that_is_no_package_set_is_named() {
    for nix in evaluators() {
        for (content, message) in [
            ("{ system, config }: 7", "not an attribute set of packages but a int"),
            ("{ system }: { }", "config"),
            ("{ system, config }: throw \"no set today\"", "no set today"),
        ] {
            let file = nix.scratch("default.nix", content);
            // Even when nothing is asked of it: so the backend sees that no name is to blame.
            for names in [&["hello"][..], &[]] {
                let mut wanted = request(names);
                wanted["source"]["path"] = json!(file);
                let error = nix.resolve(&wanted).expect_err("fails");
                assert!(error.contains(message), "{}: {error}", nix.version());
            }
        }
    }
}

#[test]
fn commits_and_branches_are_told_apart() {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let channel = |name: &str| json!({ "type": "channel", "channel": name });
    let git = |extra: Value| {
        let mut source = json!({ "type": "git", "url": "https://example.org/set" });
        source.as_object_mut().expect("a map").extend(extra.as_object().expect("a map").clone());
        source
    };
    let named = |name: &str| format!("\"https://nixos.org/channels/{name}/nixexprs.tar.xz\"");
    let url = r#""url":"https://example.org/set""#;
    for nix in evaluators() {
        for (source, expect) in [
            (channel("nixos-24.05"), named("nixos-24.05")),
            (channel(commit), format!("\"https://github.com/NixOS/nixpkgs/archive/{commit}.tar.gz\"")),
            (channel(&commit[..39]), named(&commit[..39])),
            (channel(&format!("{commit}0")), named(&format!("{commit}0"))),
            (channel(&commit.to_uppercase()), named(&commit.to_uppercase())),
            (git(json!({})), format!("{{{url}}}")),
            (git(json!({ "rev": commit })), format!("{{\"allRefs\":true,\"rev\":\"{commit}\",{url}}}")),
            (
                git(json!({ "rev": commit, "ref": "main" })),
                format!("{{\"ref\":\"main\",\"rev\":\"{commit}\",{url}}}"),
            ),
            (git(json!({ "rev": "main" })), format!("{{\"ref\":\"main\",{url}}}")),
            (git(json!({ "rev": &commit[..39] })), format!("{{\"ref\":\"{}\",{url}}}", &commit[..39])),
        ] {
            let error = nix.load(&source).expect_err("fetches nothing");
            assert!(error.contains(&format!("fetches {expect}")), "{}: {source}: {error}", nix.version());
        }
        assert!(
            nix.load(&json!({ "type": "ftp" }))
                .expect_err("fails")
                .contains("unknown type of package source: ftp")
        );
    }
}

#[test]
fn a_git_repository_is_a_package_set() {
    for nix in evaluators() {
        let repository = nix.repository("main");
        let set = |version: u32| {
            format!(
                "{{ system, config }}: {{ tool = derivation {{ name = \"tool-{version}\"; inherit system; builder = \"/x\"; }}; }}"
            )
        };
        let first = repository.commit("default.nix", &set(1), 1_000_000_000);
        repository.branch(&first[..39]);
        let on_branch = repository.commit("default.nix", &set(2), 1_100_000_000);
        repository.checkout("main");
        let latest = repository.commit("default.nix", &set(3), 1_200_000_000);

        for (rev, name, commit, date) in [
            (None, "tool-3", &latest, 1_200_000_000),
            (Some("main"), "tool-3", &latest, 1_200_000_000),
            (Some(&first[..39]), "tool-2", &on_branch, 1_100_000_000),
            (Some(first.as_str()), "tool-1", &first, 1_000_000_000),
            (Some(on_branch.as_str()), "tool-2", &on_branch, 1_100_000_000),
        ] {
            let mut wanted = request(&["tool"]);
            wanted["source"] = json!({ "type": "git", "url": repository.url() });
            if let Some(rev) = rev {
                wanted["source"]["rev"] = json!(rev);
            }
            let answer = nix.resolve(&wanted).expect("resolves");
            assert_eq!(answer["packages"]["tool"]["ok"]["name"], name, "{}: {rev:?}", nix.version());
            assert_eq!(answer["revision"], *commit);
            assert_eq!(answer["revision_date"], date);
        }
        let mut gone = request(&["tool"]);
        gone["source"] = json!({ "type": "git", "url": repository.url(), "rev": "no-such-branch" });
        nix.resolve(&gone).expect_err("no such branch");
    }
}
