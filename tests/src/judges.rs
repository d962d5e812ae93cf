//! Independent programs that judge what a registry says of an image (`setup/judges`): the libraries that validate bills of
//! materials, the scanner Syft, and oras.

use crate::program::{Program, cached};
use crate::skopeo;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

const INSTALLER: &str = "setup/judges";

/// Names with versions, as a bill of materials or a scanner has them.
pub type Named = BTreeSet<(String, Option<String>)>;

/// What is in a bill of materials in this format (`cyclonedx` or `spdx`), which must be valid. The file's name must end as
/// the format asks (`.cdx.json`, `.spdx.json`).
///
/// # Panics
/// If it is invalid.
pub fn named_in(format: &str, bill: &Path) -> Named {
    named(&judged(format, bill).succeeded())
}

/// Why a bill of materials is invalid.
///
/// # Panics
/// If it is valid.
pub fn complaint(format: &str, bill: &Path) -> String {
    judged(format, bill).failed()
}

fn judged(format: &str, bill: &Path) -> crate::program::Finished {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/judges/judge.py");
    Program::at(cached("judges-1/bin/python", INSTALLER)).args([script, format]).args([bill]).run()
}

/// The Nix packages that Syft finds in an image, in its files alone. It finds none that has no version.
pub fn scanned(address: &str, image: &str, dir: &Path) -> Named {
    let archive = dir.join("scanned.tar");
    skopeo::copy(address, image, &format!("oci-archive:{}", archive.display()));
    let source = format!("oci-archive:{}", archive.display());
    let found = Program::at(cached("judges-1/bin/syft", INSTALLER))
        .args(["scan", &source, "--output", "json", "--quiet"])
        .env("SYFT_CHECK_FOR_APP_UPDATE", "false")
        .run()
        .succeeded();
    let found: Value = serde_json::from_str(&found).expect("Syft prints JSON");
    let artifacts = found["artifacts"].as_array().expect("a list").iter();
    let nix = artifacts.filter(|artifact| artifact["type"] == "nix");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    nix.map(|one| (text(&one["name"]), Some(text(&one["version"])))).collect()
}

/// What oras finds that refers to an image: artifact types with digests.
pub fn discovered(address: &str, image: &str, arguments: &[&str]) -> BTreeSet<(String, String)> {
    let found = Program::at(cached("oras-forky/bin/oras", INSTALLER))
        .args(["discover", "--plain-http", "--format", "json"])
        .args(arguments)
        .args([format!("{address}/{image}:latest")])
        .run()
        .succeeded();
    let found: Value = serde_json::from_str(&found).expect("oras prints JSON");
    let referrers = found["referrers"].as_array().or_else(|| found["manifests"].as_array());
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let referrers = referrers.expect("a list").iter();
    referrers.map(|one| (text(&one["artifactType"]), text(&one["digest"]))).collect()
}

fn named(json: &str) -> Named {
    serde_json::from_str(json).expect("the judge prints names and versions")
}
