//! What is known about a package: the outputs that go into an image, and its metadata.

use crate::{check, evaluator::evaluators, request};
use serde_json::{Value, json};

#[test]
fn selects_outputs() {
    check(&[
        ("openssl", r#"ok openssl openssl-3.0 ["bin"]"#),
        ("openssl.dev", r#"ok openssl openssl-3.0 ["dev"]"#),
        ("openssl.out", r#"ok openssl openssl-3.0 ["out"]"#),
        ("openssl.man", r#"ok openssl openssl-3.0 ["man"]"#),
        ("openssl.lib", r#"not_found ["bin", "dev", "out", "man"]"#),
        ("several", r#"ok several several-1 ["lib", "bin"]"#),
        ("manonly", r#"ok manOnly man-only-1 ["out"]"#),
        ("docsonly", r#"ok docsOnly docs-only-1 ["doc"]"#),
        ("nometa", r#"ok noMeta no-meta-1 ["lib"]"#),
        ("capitaloutput.extrafiles", r#"ok capitalOutput capital-output-1 ["extraFiles"]"#),
        ("unknownoutput", r#"ok unknownOutput unknown-output-1 ["out"]"#),
        ("oddoutputs", r#"ok oddOutputs odd-outputs-1 ["out"]"#),
        ("throwingoutputs", r#"ok throwingOutputs throwing-outputs-1 ["out"]"#),
        ("bare", r#"ok bare bare-1 ["out"]"#),
        ("bare.out", r#"ok bare bare-1 ["out"]"#),
    ]);
}

#[test]
fn reads_metadata() {
    let names =
        ["hello", "licenses", "throwingmeta", "oddmeta", "context", "named", "unversioned", "ownversion"];
    for nix in evaluators() {
        let answer = nix.resolve(&request(&names)).expect("resolves");
        let check = |name: &str, expect: Value| {
            let mut ok = answer["packages"][name]["ok"].clone();
            for key in ["attribute", "drv", "outputs"] {
                ok.as_object_mut().expect("a package").remove(key);
            }
            assert_eq!(ok, expect, "{}: {name}", nix.version());
        };
        let bare = |name: &str, pname: &str, version: Option<&str>| {
            json!({
                "name": name, "pname": pname, "version": version, "license": [], "main_program": null,
                "description": null, "homepage": null,
            })
        };
        let with = |mut value: Value, extra: Value| {
            value.as_object_mut().expect("a map").extend(extra.as_object().expect("a map").clone());
            value
        };
        check(
            "hello",
            json!({
                "name": "hello-2.10", "pname": "hello", "version": "2.10", "license": ["GPL-3.0-or-later"],
                "main_program": "hello", "description": "A greeting", "homepage": "https://example.org/hello",
            }),
        );
        check(
            "licenses",
            with(
                bare("licenses-1", "licenses", Some("1")),
                json!({
                    "license": ["MIT", "bsd3", "A licence of our own", "Zlib"],
                    "homepage": "https://one.example",
                }),
            ),
        );
        check("throwingmeta", bare("throwing-meta-1", "throwing-meta", Some("1")));
        check("oddmeta", bare("odd-meta-1", "odd-meta", Some("1")));
        check("named", bare("name-with-9-1.2.3", "name-with", Some("9-1.2.3")));
        check("unversioned", bare("unversioned", "unversioned", None));
        check("ownversion", bare("own-version-unstable-2024", "own-version", Some("unstable-2024")));
        let description = answer["packages"]["context"]["ok"]["description"].as_str().expect("a text");
        assert!(description.starts_with("needs /nix/store/"), "{description}");
    }
}

#[test]
fn the_same_request_gives_the_same_derivations() {
    let all = evaluators()
        .map(|nix| nix.resolve(&request(&["hello", "openssl.dev", "several"])).expect("resolves"));
    assert_eq!(all[0], all[1]);
}
