//! Names and references that somebody hostile, or something broken, may send: none of them may become a value
//! of a type that Nix, git or the store are given.

use firn_shared::{
    naming::{
        image_name::ImageName,
        name_index::{NameIndex, Names},
        package_name::PackageName,
        package_source::{PackageSource, Revisions},
    },
    oci::{
        endpoint::Endpoint,
        reference::{Reference, Tag},
        repository_name::RepositoryName,
    },
};
use proptest::prelude::*;
use serde::Deserialize;

/// A text of the corpus; the long ones are said in short.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Long { repeat: String, times: usize },
}

fn corpus(json: &str) -> Vec<String> {
    let texts: Vec<Text> = serde_json::from_str(json).expect("a list of texts");
    let texts: Vec<String> = texts
        .into_iter()
        .map(|text| match text {
            Text::Plain(text) => text,
            Text::Long { repeat, times } => repeat.repeat(times),
        })
        .collect();
    assert!(texts.len() > 50, "the corpus is there");
    texts
}

fn names() -> Vec<String> {
    corpus(include_str!("../testdata/hostile-names.json"))
}

fn references() -> Vec<String> {
    corpus(include_str!("../testdata/hostile-references.json"))
}

/// The beginning of a text, for messages.
fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

#[test]
fn hostile_names_are_no_names() {
    for text in names() {
        assert!(text.parse::<ImageName>().is_err(), "image name {:?}", short(&text));
        assert!(text.parse::<PackageName>().is_err(), "package name {:?}", short(&text));
        assert!(text.parse::<RepositoryName>().is_err(), "repository {:?}", short(&text));
        let json = serde_json::to_string(&text).expect("a text");
        assert!(serde_json::from_str::<PackageName>(&json).is_err(), "in JSON {:?}", short(&text));
    }
}

#[test]
fn hostile_names_are_refused_in_a_way_that_people_can_act_on() {
    for text in names() {
        for path in [format!("/v2/{text}/manifests/latest"), format!("/v2/shell/{text}/tags/list")] {
            let error = Endpoint::parse(&path).expect_err("a hostile name");
            assert!((400..405).contains(&error.status()), "{:?}: {}", short(&text), error.status());
            assert!(error.message.len() < 600, "{:?}: {} bytes", short(&text), error.message.len());
            // Whatever it holds, it arrives as JSON and without control characters of its own.
            let body = String::from_utf8(error.body()).expect("JSON is UTF-8");
            assert!(!body.chars().any(char::is_control), "{body:?}");
        }
        if let Err(error) = text.parse::<ImageName>() {
            assert!(error.to_string().len() < 600, "{:?}", short(&text));
        }
    }
}

#[test]
fn hostile_names_do_not_hide_among_good_ones() {
    for text in names() {
        // Joined to good names some are several good components, or none.
        for name in [format!("git/{text}"), format!("shell/{text}/git"), format!("git{text}git")] {
            if let Ok(parsed) = name.parse::<ImageName>() {
                let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/".contains(&b);
                let printed = parsed.to_string();
                assert!(printed.bytes().all(good) && !printed.contains(".."), "{printed:?}");
                assert!(
                    parsed.wants().iter().all(|want| want.names.iter().all(|n| !n.as_str().starts_with('-')))
                );
            }
        }
    }
}

#[test]
fn hostile_references_name_nothing() {
    let git = PackageSource::Git { url: "https://example.org/pkgs".into(), default: None, flake: None };
    for text in references() {
        assert!(text.parse::<Reference>().is_err() || is_refused(&git, &text), "{:?}", short(&text));
        if let Err(error) = Endpoint::parse(&format!("/v2/git/manifests/{text}")) {
            assert!((400..405).contains(&error.status()), "{:?}: {}", short(&text), error.status());
        } else {
            assert!(is_refused(&git, &text), "{:?}", short(&text));
        }
    }
}

/// Whether a text that may be a tag names nothing in a repository.
fn is_refused(source: &PackageSource, text: &str) -> bool {
    text.parse::<Tag>().is_ok_and(|tag| source.select(&tag, Revisions::Any).is_err())
}

#[test]
fn a_package_set_cannot_suggest_what_cannot_be_asked_for() {
    let index = NameIndex::new(&Names { names: [(String::new(), names())].into(), ..Names::default() });
    for text in names() {
        for found in index.nearest(&text, 5) {
            assert!(found.name.as_str().parse::<ImageName>().is_ok(), "{:?}", found.name);
        }
    }
}

proptest! {
    /// Nothing but the grammar's letters ever comes through, whatever is put around a hostile text.
    #[test]
    fn what_parses_is_harmless(before in "[a-z0-9/._-]{0,8}", i in 0usize..1000, after in "[a-z0-9/._-]{0,8}") {
        let all = names();
        let text = format!("{before}{}{after}", all[i % all.len()]);
        if let Ok(name) = text.parse::<ImageName>() {
            for want in name.wants() {
                for name in want.names {
                    let text = name.as_str();
                    prop_assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b)));
                    prop_assert!(text.starts_with(|c: char| c.is_ascii_alphanumeric()));
                    prop_assert!(!text.contains("..") && text.len() <= 255);
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&bytes);
        if let Err(error) = Endpoint::parse(&format!("/v2/{text}/manifests/latest")) {
            prop_assert!((400..406).contains(&error.status()));
        }
    }
}
