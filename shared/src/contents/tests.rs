use super::*;
use crate::{
    image::selection::Selected,
    naming::{
        image_name::{ImageName, Shows},
        package::Output,
        package_source::Revision,
    },
    nix::{closure::PathInfo, derivation_name::DerivationName, listing::Listing},
    oci::{digest::NarHash, document::Descriptor, media_type::LayerCompression, platform::Platform},
};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeSet;

fn store_path(name: &str) -> StorePath {
    let hash: String = Digest::of(name.as_bytes()).hex().replace('e', "g").chars().take(32).collect();
    format!("/nix/store/{hash}-{name}").parse().expect("a store path")
}

fn info(name: &str, references: &[&str]) -> PathInfo {
    PathInfo {
        path: store_path(name),
        nar_hash: NarHash::of(name.as_bytes()),
        nar_size: 1,
        references: references.iter().map(|name| store_path(name)).collect(),
    }
}

/// A package with these outputs and this closure.
fn record(attribute: &str, outputs: &[&str], closure: Vec<PathInfo>) -> PackageRecord {
    let output = |name: &&str| Output { name: "out".into(), path: store_path(name) };
    PackageRecord {
        package: Package {
            attribute: attribute.into(),
            drv: store_path(&format!("{attribute}.drv")),
            outputs: outputs.iter().map(output).collect(),
            name: attribute.into(),
            pname: None,
            version: None,
            license: Vec::new(),
            main_program: None,
            description: None,
            homepage: None,
        },
        closure,
        listing: Listing::default(),
        sh: None,
        env: None,
        zoneinfo: None,
        decided: BTreeMap::new(),
    }
}

fn git() -> PackageRecord {
    let closure =
        vec![info("git-2.39.5", &["git-2.39.5", "glibc-2.36-bin", "source"]), libc(), info("source", &[])];
    let mut git = record("git", &["git-2.39.5"], closure);
    git.package.license = vec!["GPL-2.0-only".into(), "MIT".into()];
    git.package.description = Some("Distributed \"version\" control".into());
    git.package.homepage = Some("https://git-scm.com/".into());
    git
}

fn libc() -> PathInfo {
    info("glibc-2.36-bin", &[])
}

fn steam() -> PackageRecord {
    let closure = vec![info("steam-1+x", &["glibc-2.36-bin"]), libc()];
    let mut steam = record("steam", &["steam-1+x"], closure);
    steam.package.license = vec!["unfree".into(), "MIT".into()];
    steam.package.homepage = Some("not an address".into());
    steam
}

fn commit() -> Revision {
    Revision::Git { url: "https://example.org/pkgs".into(), rev: "0a".repeat(20).parse().expect("a commit") }
}

/// The document about an image of these packages, in this revision.
fn document(
    kind: DocumentKind,
    packages: &[&PackageRecord],
    revision: &Revision,
    revision_date: Option<i64>,
) -> Vec<u8> {
    let manifest = Digest::of(b"manifest");
    with_contents(packages, revision, revision_date, |contents| contents.document(kind, &manifest))
}

fn with_contents<T>(
    packages: &[&PackageRecord],
    revision: &Revision,
    revision_date: Option<i64>,
    make: impl FnOnce(&Contents<'_>) -> T,
) -> T {
    let name: ImageName = "git/steam".parse().expect("an image name");
    let packages: Vec<_> = packages
        .iter()
        .map(|package| Selected { package: *package, requested: true, shows: Shows::Everything })
        .collect();
    let encoding = LayerEncoding { compression: LayerCompression::Gzip, identity: "test-1".into() };
    let image =
        Ingredients { name: &name, platform: Platform::Amd64, revision, revision_date, packages: &packages };
    let method = Method { strategy: "sharing-1", layer_budget: 50, encoding: &encoding };
    make(&Contents::new(image, method).expect("a closure"))
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

#[test]
fn documents_have_these_bytes() {
    let (git, steam) = (git(), steam());
    for (kind, name) in [
        (DocumentKind::CycloneDx, "cyclonedx"),
        (DocumentKind::Spdx, "spdx"),
        (DocumentKind::Provenance, "provenance"),
    ] {
        let bytes = document(kind, &[&git, &steam], &commit(), Some(1_700_000_000));
        let text = String::from_utf8(bytes).expect("UTF-8");
        insta::assert_snapshot!(name, text.replace(",\"", ",\n\"").replace(",{", ",\n{"));
    }
}

#[test]
fn artifacts_refer_to_the_manifest() {
    let git = git();
    let manifest = Descriptor::new("application/vnd.oci.image.manifest.v1+json", Digest::of(b"manifest"), 8);
    let artifacts = with_contents(&[&git], &commit(), None, |contents| contents.artifacts(&manifest));
    for (artifact, kind) in artifacts.iter().zip(DocumentKind::ALL) {
        let Artifact { descriptor, blobs: [written, config, layer] } = artifact;
        assert!(artifact.blobs.iter().all(|blob| blob.digest == Digest::of(&blob.bytes)));
        let document = document(kind, &[&git], &commit(), None);
        assert_eq!((&config.bytes[..], &layer.bytes), (&b"{}"[..], &document));
        assert_eq!((descriptor.digest, descriptor.size), (written.digest, written.bytes.len() as u64));
        assert_eq!(descriptor.artifact_type.as_deref(), Some(kind.media_type()));
    }
    let text = String::from_utf8(artifacts[2].blobs[0].bytes.clone()).expect("UTF-8");
    insta::assert_snapshot!("artifact", text.replace(",\"", ",\n\""));
}

#[test]
fn a_revision_without_a_date_makes_no_time_up() {
    let (git, path) = (git(), Revision::Path { content: "c0ffee".into() });
    let cyclonedx = json(&document(DocumentKind::CycloneDx, &[&git], &path, None));
    assert_eq!(cyclonedx["metadata"]["timestamp"], Value::Null);
    let spdx = json(&document(DocumentKind::Spdx, &[&git], &path, None));
    assert_eq!(spdx["creationInfo"]["created"], "1970-01-01T00:00:00Z");
    let provenance = json(&document(DocumentKind::Provenance, &[&git], &path, None));
    let package_set = &provenance["predicate"]["buildDefinition"]["resolvedDependencies"][0];
    assert_eq!(*package_set, serde_json::json!({ "name": "package set", "digest": { "sha256": "c0ffee" } }));
}

#[test]
fn a_path_with_two_contents_that_nothing_decides_has_no_documents() {
    let mut steam = steam();
    steam.closure[1].nar_hash = NarHash::of(b"else");
    steam.closure[1].references = vec![store_path("source")];
    steam.closure.push(info("source", &[]));
    let (git, name) = (git(), "git/steam".parse::<ImageName>().expect("an image name"));
    let select = |package| Selected { package, requested: true, shows: Shows::Everything };
    let revision = commit();
    let packages = [select(&git), select(&steam)];
    let image = Ingredients {
        name: &name,
        platform: Platform::Amd64,
        revision: &revision,
        revision_date: None,
        packages: &packages,
    };
    let encoding = LayerEncoding { compression: LayerCompression::Gzip, identity: "test-1".into() };
    let method = Method { strategy: "sharing-1", layer_budget: 50, encoding: &encoding };
    let error = Contents::new(image, method).expect_err("a contradiction");
    assert_eq!(error, ClosureError::Contradiction(store_path("glibc-2.36-bin")));
}

/// A closure in which each path refers to some of those before it, and perhaps to itself.
fn closure() -> impl Strategy<Value = Vec<PathInfo>> {
    let names = ["a-1", "a-1-bin", "b", "b-2", "c-3+x", "c-dev", "d-0-unstable-2024-01-01", "7zip-23"];
    let references = proptest::collection::vec(any::<u8>(), 1..=names.len());
    references.prop_map(move |references| {
        let members = references.iter().zip(names).enumerate();
        let members = members.map(|(i, (bits, name))| {
            let refers: Vec<&str> = (0..=i).filter(|to| bits >> to & 1 == 1).map(|to| names[to]).collect();
            info(name, &refers)
        });
        members.collect()
    })
}

/// The package whose output is the last path, with the paths that it leads to.
fn package(paths: &[PathInfo]) -> PackageRecord {
    let top = paths.last().expect("at least one");
    let mut reached = BTreeSet::new();
    let mut next = vec![&top.path];
    while let Some(path) = next.pop() {
        if reached.insert(path.clone()) {
            next.extend(&paths.iter().find(|info| info.path == *path).expect("it is there").references);
        }
    }
    let closure = paths.iter().filter(|info| reached.contains(&info.path)).cloned().collect();
    record("top", &[top.path.name()], closure)
}

fn texts<'a>(values: &'a Value, key: &str) -> Vec<&'a str> {
    let values = values.as_array().expect("a list");
    values.iter().map(|value| value[key].as_str().expect("a text")).collect()
}

fn all_differ(texts: &[&str]) -> bool {
    texts.iter().collect::<BTreeSet<_>>().len() == texts.len()
}

proptest! {
    #[test]
    fn cyclonedx_graphs_are_whole(paths in closure()) {
        let package = package(&paths);
        let bom = json(&document(DocumentKind::CycloneDx, &[&package], &commit(), None));
        let components = texts(&bom["components"], "bom-ref");
        let image = bom["metadata"]["component"]["bom-ref"].as_str().expect("a text");
        prop_assert!(all_differ(&components) && all_differ(&texts(&bom["components"], "purl")));
        // Each has an entry, and nothing else has.
        let entries = texts(&bom["dependencies"], "ref");
        let expect: Vec<&str> = std::iter::once(image).chain(components.iter().copied()).collect();
        prop_assert_eq!(&entries, &expect);
        let empty = Value::Array(Vec::new());
        for (entry, of) in bom["dependencies"].as_array().expect("a list").iter().zip(&entries) {
            let to = entry.get("dependsOn").unwrap_or(&empty).as_array().expect("a list");
            let to: Vec<&str> = to.iter().map(|to| to.as_str().expect("a text")).collect();
            prop_assert!(all_differ(&to) && to.iter().all(|to| to != of && components.contains(to)));
            if let Some(info) = package.closure.iter().find(|info| info.path.base_name() == *of) {
                let references: BTreeSet<_> = info.references.iter().map(StorePath::base_name).collect();
                prop_assert!(references.into_iter().filter(|to| to != of).eq(to));
            }
        }
    }

    #[test]
    fn spdx_graphs_are_whole(paths in closure()) {
        let package = package(&paths);
        let document = json(&document(DocumentKind::Spdx, &[&package], &commit(), None));
        let ids = texts(&document["packages"], "SPDXID");
        prop_assert!(all_differ(&ids));
        prop_assert_eq!(ids.len(), package.closure.len() + 1);
        let relationships = document["relationships"].as_array().expect("a list");
        let (mut contained, mut edges) = (BTreeSet::new(), BTreeSet::new());
        for relationship in relationships {
            let end = |key: &str| relationship[key].as_str().expect("a text");
            let (from, to) = (end("spdxElementId"), end("relatedSpdxElement"));
            prop_assert!(ids.contains(&to));
            match end("relationshipType") {
                "DESCRIBES" => prop_assert_eq!((from, to), ("SPDXRef-DOCUMENT", "SPDXRef-image")),
                "CONTAINS" => prop_assert!(from == "SPDXRef-image" && contained.insert(to)),
                "DEPENDS_ON" => prop_assert!(ids.contains(&from) && edges.insert((from, to))),
                other => prop_assert!(false, "{}", other),
            }
        }
        prop_assert_eq!(contained.len(), package.closure.len());
        let references = |info: &PathInfo| {
            info.references.iter().filter(|to| **to != info.path).collect::<BTreeSet<_>>().len()
        };
        prop_assert_eq!(edges.len(), package.closure.iter().map(references).sum::<usize>());
    }

    #[test]
    fn both_bills_name_what_the_closure_has(paths in closure()) {
        let package = package(&paths);
        let named = |info: &PathInfo| {
            let DerivationName { name, version, .. } = DerivationName::of(&info.path);
            (name.to_owned(), version.map(str::to_owned))
        };
        let mut expect: Vec<_> = package.closure.iter().map(named).collect();
        expect.sort_unstable();
        for (kind, list, version) in
            [(DocumentKind::CycloneDx, "components", "version"), (DocumentKind::Spdx, "packages", "versionInfo")]
        {
            let document = json(&document(kind, &[&package], &commit(), None));
            let listed = document[list].as_array().expect("a list").iter();
            let listed = listed.filter(|one| one["SPDXID"] != "SPDXRef-image");
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let mut listed: Vec<_> =
                listed.map(|one| (text(&one["name"]).expect("a name"), text(&one[version]))).collect();
            listed.sort_unstable();
            prop_assert_eq!(&listed, &expect);
        }
    }
}

/// Clients load these documents, and registries limit manifests' blobs. Each path has five references.
#[test]
fn documents_of_a_large_image_stay_small() {
    let names: Vec<String> = (0..1000).map(|i| format!("a-library-of-some-length-{i}.0.1")).collect();
    let closure: Vec<PathInfo> = names
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let references = [1, 7, 14, 21, 28].iter().filter_map(|back| names.get(i.checked_sub(*back)?));
            info(name, &references.map(String::as_str).collect::<Vec<_>>())
        })
        .collect();
    let package = record("last", &[names[999].as_str()], closure);
    for kind in DocumentKind::ALL {
        let started = std::time::Instant::now();
        let bytes = document(kind, &[&package], &commit(), Some(1_700_000_000));
        println!("{kind:?} of 1,000 paths: {} bytes, {:?}", bytes.len(), started.elapsed());
        assert!(bytes.len() <= 1 << 20, "{kind:?}: {}", bytes.len());
    }
}
