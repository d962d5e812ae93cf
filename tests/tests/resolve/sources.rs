//! Sources of package sets.

use crate::{evaluator::evaluators, request};
use serde_json::json;

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
            // Even if no name is requested. This shows the backend that no name is at fault.
            for names in [&["hello"][..], &[]] {
                let mut wanted = request(names);
                wanted["source"]["path"] = json!(file);
                let error = nix.resolve(&wanted).expect_err("fails");
                assert!(error.contains(message), "{}: {error}", nix.version());
            }
        }
    }
}

/// Firn fetches repositories itself, and passes the time of a path's commit.
#[test]
fn a_path_may_have_a_date() {
    for nix in evaluators() {
        let file = nix.scratch("default.nix", "{ system, config }: { }");
        let mut wanted = request(&[]);
        wanted["source"] = json!({ "path": file });
        let answer = nix.resolve(&wanted).expect("resolves");
        assert_eq!(answer["revision_date"], json!(null));
        wanted["source"] = json!({ "path": file, "date": 1_000_000_000 });
        let answer = nix.resolve(&wanted).expect("resolves");
        assert_eq!(answer["revision_date"], json!(1_000_000_000));
    }
}
