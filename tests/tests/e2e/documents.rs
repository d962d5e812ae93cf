//! What the registry says of what is in an image: bills of materials and provenance, as referrers and on the command line.

use crate::{backend, buckets};
use firn_tests::{
    backend::{Backend, command},
    composition::combinations,
    image::Image,
    judges::{Named, complaint, discovered, named_in, scanned},
    layer::sha256,
    nix, package_set,
    registry::Registry,
    s3::{BUCKET, S3},
    wait::{LONG, until},
    wrangler::Wrangler,
};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::PathBuf;
use tempfile::TempDir;

const CYCLONEDX: &str = "application/vnd.cyclonedx+json";
const SPDX: &str = "application/spdx+json";
const IN_TOTO: &str = "application/vnd.in-toto+json";
const DOCKER: [(&str, &str); 1] = [("accept", "application/vnd.docker.distribution.manifest.v2+json")];

/// The referrers of a manifest, by artifact type.
fn referrers(registry: &Registry, name: &str, digest: &str) -> BTreeMap<String, Descriptor> {
    let answer = registry.get(&format!("/v2/{name}/referrers/{digest}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let index = ImageIndex::from_reader(answer.body.as_slice()).expect("an index");
    let by_type = |one: &Descriptor| (one.artifact_type().as_ref().expect("a type").to_string(), one.clone());
    index.manifests().iter().map(by_type).collect()
}

fn blob(registry: &Registry, name: &str, descriptor: &Descriptor) -> Vec<u8> {
    let mut bytes = Vec::new();
    registry.blob(name, descriptor.digest().as_ref()).read_to_end(&mut bytes).expect("the blob");
    assert_eq!(sha256(bytes.as_slice()).expect("memory can be read"), descriptor.digest().to_string());
    assert_eq!(bytes.len() as u64, descriptor.size());
    bytes
}

/// The document of a referrer, all of which is checked. `subject` is the manifest: media type, digest and size.
fn document(registry: &Registry, name: &str, referrer: &Descriptor, subject: (&str, &str, usize)) -> Vec<u8> {
    let answer = registry.get(&format!("/v2/{name}/manifests/{}", referrer.digest()));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(sha256(answer.body.as_slice()).expect("memory"), referrer.digest().to_string());
    assert_eq!(answer.body.len() as u64, referrer.size());
    let manifest = ImageManifest::from_reader(answer.body.as_slice()).expect("a manifest");
    let about = manifest.subject().as_ref().expect("a subject");
    let about = (about.media_type().to_string(), about.digest().to_string(), about.size());
    assert_eq!(about, (subject.0.to_owned(), subject.1.to_owned(), subject.2 as u64));
    assert_eq!(manifest.artifact_type(), referrer.artifact_type());
    assert_eq!(
        manifest.annotations().clone().unwrap_or_default(),
        referrer.annotations().clone().unwrap_or_default()
    );
    assert_eq!(manifest.config().media_type().to_string(), "application/vnd.oci.empty.v1+json");
    assert_eq!(blob(registry, name, manifest.config()), b"{}");
    let [layer] = manifest.layers().as_slice() else { panic!("a document is one layer") };
    assert_eq!(Some(layer.media_type()), referrer.artifact_type().as_ref());
    blob(registry, name, layer)
}

/// The store paths in an image, without `/nix/store/`.
fn store_paths(registry: &Registry, image: &Image) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for entry in image.layers(registry).iter().flat_map(|layer| &layer.entries) {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let path = path.trim_start_matches(['.', '/']);
        if let Some(below) = path.strip_prefix("nix/store/") {
            paths.extend(below.split('/').next().filter(|name| !name.is_empty()).map(str::to_owned));
        }
    }
    paths
}

/// How Nix itself splits the names of store paths.
fn split_by_nix(paths: &BTreeSet<String>) -> Vec<(String, String)> {
    let names: Vec<&str> = paths.iter().map(|path| &path[33..]).collect();
    let names = serde_json::to_string(&serde_json::to_string(&names).expect("JSON")).expect("JSON");
    let expression = format!("map builtins.parseDrvName (builtins.fromJSON {names})");
    let split = nix::program("nix-instantiate")
        .args(["--eval", "--strict", "--json", "--expr", &expression])
        .run()
        .succeeded();
    let split: Vec<Value> = serde_json::from_str(&split).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    split.iter().map(|one| (text(&one["name"]), text(&one["version"]))).collect()
}

#[test]
fn every_manifest_of_an_image_has_its_documents() {
    let registry = backend().registry();
    let image = Image::pull(&registry, "shell/jq");
    let oci = registry.manifest("shell/jq");
    let docker = registry.request("GET", "/v2/shell/jq/manifests/latest", &DOCKER);
    for (manifest, media_type) in [
        (oci, "application/vnd.oci.image.manifest.v1+json"),
        (docker, "application/vnd.docker.distribution.manifest.v2+json"),
    ] {
        let digest = manifest.header("docker-content-digest").expect("a digest");
        let found = referrers(&registry, "shell/jq", digest);
        assert_eq!(found.keys().collect::<Vec<_>>(), [SPDX, CYCLONEDX, IN_TOTO]);
        let subject = (media_type, digest, manifest.body.len());
        let documents: BTreeMap<&str, Value> = found
            .iter()
            .map(|(kind, referrer)| {
                let bytes = document(&registry, "shell/jq", referrer, subject);
                (kind.as_str(), serde_json::from_slice(&bytes).expect("JSON"))
            })
            .collect();
        let sha256 = digest.strip_prefix("sha256:").expect("sha256");
        let statement = &documents[IN_TOTO];
        assert_eq!(statement["subject"], json!([{ "name": "shell/jq", "digest": { "sha256": sha256 } }]));
        assert_eq!(documents[CYCLONEDX]["metadata"]["component"]["version"], digest);
        assert_eq!(documents[SPDX]["packages"][0]["versionInfo"], digest);
        let predicate = found[IN_TOTO].annotations().as_ref().expect("annotations");
        assert_eq!(predicate["in-toto.io/predicate-type"], "https://slsa.dev/provenance/v1");

        // Every store path that is in the layers, and nothing else.
        let components = documents[CYCLONEDX]["components"].as_array().expect("a list");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let listed: BTreeSet<String> = components.iter().map(|one| text(&one["bom-ref"])).collect();
        assert_eq!(listed, store_paths(&registry, &image));
        let split = split_by_nix(&listed);
        for (component, (name, version)) in components.iter().zip(split) {
            let (purl, mut own) =
                (text(&component["purl"]), component["version"].as_str().unwrap_or("").to_owned());
            if let Some((_, output)) = purl.split_once("?output=") {
                own = format!("{own}-{}", output.split('&').next().expect("a value"));
            }
            assert_eq!((text(&component["name"]), own), (name, version), "{component}");
        }
    }
    let jq = nix::outputs(package_set::bundled(), &["jq"]).concat();
    let bill = command(&["sbom", "shell/jq", "--pkgs-path"])
        .args([package_set::bundled().as_os_str(), "--data".as_ref(), backend().data().as_os_str()])
        .run()
        .succeeded();
    let bill: Value = serde_json::from_str(&bill).expect("JSON");
    let component = |path: &String| {
        let components = bill["components"].as_array().expect("a list");
        components.iter().find(|one| path.ends_with(one["bom-ref"].as_str().expect("a text"))).cloned()
    };
    let jq = jq.iter().find_map(component).expect("jq is in its image");
    assert_eq!(jq["licenses"], json!([{ "license": { "id": "MIT" } }]));
    assert_eq!((&jq["type"], &jq["properties"][0]["value"]), (&json!("application"), &json!("jq")));
}

#[test]
fn referrers_are_found_by_type_and_by_tag() {
    let registry = backend().registry();
    let image = Image::pull(&registry, "hello");
    let path = format!("/v2/hello/referrers/{}", image.digest);
    let whole = registry.get(&path);
    assert_eq!(whole.header("content-type"), Some("application/vnd.oci.image.index.v1+json"));
    assert_eq!(whole.header("oci-filters-applied"), None);
    for spelling in ["application/spdx+json", "application%2Fspdx%2Bjson"] {
        let spdx = registry.get(&format!("{path}?artifactType={spelling}"));
        assert_eq!(spdx.header("oci-filters-applied"), Some("artifactType"));
        let listed = spdx.json()["manifests"].as_array().expect("a list").clone();
        assert_eq!(listed.len(), 1, "{spelling}");
        assert_eq!(listed[0]["artifactType"], SPDX);
    }
    assert_eq!(
        registry.get(&format!("{path}?artifactType=application/example")).json()["manifests"],
        json!([])
    );

    let tag = image.digest.replace(':', "-");
    let by_tag = registry.get(&format!("/v2/hello/manifests/{tag}"));
    assert_eq!((by_tag.status, &by_tag.body), (200, &whole.body));
    let digest = by_tag.header("docker-content-digest").expect("a digest");
    assert_eq!(registry.get(&format!("/v2/hello/manifests/{digest}")).body, whole.body);
    // Nothing is signed.
    assert_eq!(registry.get(&format!("/v2/hello/manifests/{tag}.sig")).error().0, "MANIFEST_UNKNOWN");
    // What is no image's manifest has none: an unknown digest, a layer, and a document.
    let document = whole.json()["manifests"][0]["digest"].as_str().expect("a text").to_owned();
    for other in [format!("sha256:{}", "0".repeat(64)), image.layer_digests().remove(0), document] {
        assert!(referrers(&registry, "hello", &other).is_empty(), "{other}");
        let tag = other.replace(':', "-");
        assert_eq!(registry.get(&format!("/v2/hello/manifests/{tag}")).error().0, "MANIFEST_UNKNOWN");
    }
}

/// Two registries that share nothing say the same, and nothing that was said is needed to say it again.
#[test]
fn documents_are_the_same_everywhere_and_again() {
    let other = Backend::serving(package_set::bundled()).args(&["--gc-grace", "0"]).start();
    let (registry, others) = (backend().registry(), other.registry());
    let (image, same) = (Image::pull(&registry, "jq"), Image::pull(&others, "jq"));
    assert_eq!(image.digest, same.digest);
    let found = referrers(&registry, "jq", &image.digest);
    assert_eq!(referrers(&others, "jq", &image.digest), found);
    let blobs = other.data().join("storage/blobs/sha256");
    let file = |digest: &str| -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("sha256");
        blobs.join(&hex[..2]).join(hex)
    };
    for referrer in found.values() {
        std::fs::remove_file(file(referrer.digest().as_ref())).expect("it is there");
    }
    assert_eq!(referrers(&others, "jq", &image.digest), found);
    for referrer in found.values() {
        assert!(file(referrer.digest().as_ref()).is_file(), "{}", referrer.digest());
    }
}

#[test]
fn judges_agree_about_what_is_in_an_image() {
    let dir = TempDir::new().expect("a temporary directory");
    let backend = backend();
    let registry = backend.registry();
    for name in ["shell/git", "python3", "user/nginx/curl"] {
        let image = Image::pull(&registry, name);
        let manifest = registry.manifest(name);
        let subject =
            ("application/vnd.oci.image.manifest.v1+json", image.digest.as_str(), manifest.body.len());
        let found = referrers(&registry, name, &image.digest);
        let (bill, other) = (dir.path().join("bill.cdx.json"), dir.path().join("bill.spdx.json"));
        std::fs::write(&bill, document(&registry, name, &found[CYCLONEDX], subject)).expect("writable");
        std::fs::write(&other, document(&registry, name, &found[SPDX], subject)).expect("writable");
        let listed = named_in("cyclonedx", &bill);
        assert_eq!(named_in("spdx", &other), listed, "{name}");
        let with_version: Named = listed.into_iter().filter(|(_, version)| version.is_some()).collect();
        assert_eq!(scanned(backend.address(), name, dir.path()), with_version, "{name}");

        let expect = found.iter().map(|(kind, one)| (kind.clone(), one.digest().to_string()));
        let expect: BTreeSet<(String, String)> = expect.collect();
        assert_eq!(discovered(backend.address(), name, &[]), expect, "{name}");
        let spdx = discovered(backend.address(), name, &["--artifact-type", SPDX]);
        assert_eq!(spdx, expect.into_iter().filter(|(kind, _)| kind == SPDX).collect());
    }
    // The judges do say no.
    let text = std::fs::read_to_string(dir.path().join("bill.cdx.json")).expect("readable");
    std::fs::write(dir.path().join("bad.cdx.json"), text.replace("\"SHA-256\"", "\"SHA\""))
        .expect("writable");
    assert!(complaint("cyclonedx", &dir.path().join("bad.cdx.json")).contains("SHA"));
    let text = std::fs::read_to_string(dir.path().join("bill.spdx.json")).expect("readable");
    let bad = text.replace("\"relatedSpdxElement\":\"SPDXRef-1\"", "\"relatedSpdxElement\":\"SPDXRef-x\"");
    std::fs::write(dir.path().join("bad.spdx.json"), bad).expect("writable");
    assert!(complaint("spdx", &dir.path().join("bad.spdx.json")).contains("SPDXRef-x"));
}

#[test]
fn the_command_prints_what_the_registry_serves() {
    let data = TempDir::new().expect("a temporary directory");
    let sbom = |arguments: &[&str]| {
        command(&["sbom", "hello", "--pkgs-path"])
            .args([package_set::bundled().as_os_str(), "--data".as_ref(), data.path().as_os_str()])
            .args(arguments)
            .run()
    };
    let cyclonedx = sbom(&[]).succeeded();
    let spdx = sbom(&["--format", "spdx"]).succeeded();
    assert!(sbom(&["--format", "xml"]).failed().contains("cyclonedx, spdx"));
    let registry = backend().registry();
    let image = Image::pull(&registry, "hello");
    let size = registry.manifest("hello").body.len();
    let subject = ("application/vnd.oci.image.manifest.v1+json", image.digest.as_str(), size);
    let found = referrers(&registry, "hello", &image.digest);
    let served =
        |kind: &str| String::from_utf8(document(&registry, "hello", &found[kind], subject)).expect("UTF-8");
    assert_eq!((cyclonedx, spdx), (served(CYCLONEDX), served(SPDX)));
}

/// The edge has composed the image, and the backend has never built it.
#[test]
fn edges_have_the_documents_of_images_that_they_composed() {
    let s3 = S3::start();
    let backend = buckets::backend(&s3, &format!("s3://{BUCKET}"));
    let edge = Wrangler::with(&backend, &s3.edge_variables(""));
    let registry = edge.registry();
    let packages = ["jq", "hello", "tree"];
    for package in packages {
        registry.built(package, "latest");
    }
    // The edge fetches the records after it has answered.
    let mut names = combinations(&packages, packages.len()).map(|name| name.to_string());
    let mut names = names.by_ref().filter(|name| !name.contains("shell"));
    let (name, answer) = until("the edge composes an image", LONG, || {
        let name = names.next().expect("there are enough");
        let answer = registry.built(&name, "latest");
        (answer.header("x-firn-source") == Some("composed")).then_some((name, answer))
    });
    let image = Image::from_answer(&registry, &name, &answer);
    let found = referrers(&registry, &name, &image.digest);
    assert_eq!(found.keys().collect::<Vec<_>>(), [SPDX, CYCLONEDX, IN_TOTO]);
    let subject = ("application/vnd.oci.image.manifest.v1+json", image.digest.as_str(), answer.body.len());
    for referrer in found.values() {
        document(&registry, &name, referrer, subject);
    }
    let tag = image.digest.replace(':', "-");
    let by_tag = registry.get(&format!("/v2/{name}/manifests/{tag}"));
    assert_eq!(by_tag.json()["manifests"].as_array().map(Vec::len), Some(3));
}
