//! Provenance: how an image was made, as an in-toto statement (v1) with the predicate SLSA provenance v1.
//!
//! It says nothing about when or where: every Firn makes the same image of the same revision. What the image was made
//! from is complete: the package set, the derivations of its packages, and every store path with the hash of its NAR
//! serialisation.

use super::Contents;
use crate::{
    image,
    naming::{
        package_source::{Commit, Revision},
        source_url::PublicUrl,
    },
    oci::{
        digest::{Digest, NarHash},
        media_type::LayerCompression,
    },
};
use serde::Serialize;

/// The type of the statement's predicate.
pub(super) const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";
/// What the parameters mean. SLSA asks for a URI; there is nothing to be fetched from it.
const BUILD_TYPE: &str = "urn:firn:image:1";
/// Who made the image. An operator's name is not in it, because the same image has the same provenance everywhere;
/// whose word it is, a signature says.
const BUILDER: &str = "urn:firn:builder:1";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Statement<'a> {
    #[serde(rename = "_type")]
    statement_type: &'static str,
    subject: [Subject<'a>; 1],
    predicate_type: &'static str,
    predicate: Predicate<'a>,
}

#[derive(Serialize)]
struct Subject<'a> {
    name: &'a str,
    digest: DigestSet<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DigestSet<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    git_commit: Option<&'a Commit>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Predicate<'a> {
    build_definition: BuildDefinition<'a>,
    run_details: RunDetails,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BuildDefinition<'a> {
    build_type: &'static str,
    external_parameters: ExternalParameters<'a>,
    internal_parameters: InternalParameters<'a>,
    resolved_dependencies: Vec<Resource<'a>>,
}

#[derive(Serialize)]
struct ExternalParameters<'a> {
    image: &'a str,
    platform: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InternalParameters<'a> {
    format: u32,
    strategy: &'a str,
    layer_budget: usize,
    compression: LayerCompression,
    encoder: &'a str,
}

#[derive(Serialize)]
struct Resource<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<DigestSet<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Derivation<'a>>,
}

/// Which derivation a package is, and which of its outputs are in the image.
#[derive(Serialize)]
struct Derivation<'a> {
    derivation: &'a str,
    outputs: Vec<&'a str>,
}

#[derive(Serialize)]
struct RunDetails {
    builder: Builder,
}

#[derive(Serialize)]
struct Builder {
    id: &'static str,
}

pub(super) fn document(contents: &Contents<'_>, manifest: &Digest) -> Vec<u8> {
    let name = contents.image.name.to_string();
    let packages = contents.image.packages.iter().map(|selected| &selected.package.package);
    let packages = packages.map(|package| Resource {
        name: &package.attribute,
        uri: None,
        digest: None,
        annotations: Some(Derivation {
            derivation: package.drv.as_str(),
            outputs: package.outputs.iter().map(|output| output.path.as_str()).collect(),
        }),
    });
    let paths = contents.components().map(|component| Resource {
        name: component.member.path.as_str(),
        uri: Some(component.purl()),
        digest: Some(nar(&component.member.nar_hash)),
        annotations: None,
    });
    let statement = Statement {
        statement_type: "https://in-toto.io/Statement/v1",
        subject: [Subject {
            name: &name,
            digest: DigestSet { sha256: Some(manifest.hex()), git_commit: None },
        }],
        predicate_type: PREDICATE_TYPE,
        predicate: Predicate {
            build_definition: BuildDefinition {
                build_type: BUILD_TYPE,
                external_parameters: ExternalParameters {
                    image: &name,
                    platform: format!("linux/{}", contents.image.platform),
                },
                internal_parameters: InternalParameters {
                    format: image::FORMAT,
                    strategy: contents.method.strategy,
                    layer_budget: contents.method.layer_budget,
                    compression: contents.method.encoding.compression,
                    encoder: &contents.method.encoding.identity,
                },
                resolved_dependencies: [package_set(contents.image.revision)]
                    .into_iter()
                    .chain(packages)
                    .chain(paths)
                    .collect(),
            },
            run_details: RunDetails { builder: Builder { id: BUILDER } },
        },
    };
    serde_json::to_vec(&statement).expect("texts and numbers serialise")
}

/// The package set, in the revision from which the packages are.
fn package_set(revision: &Revision) -> Resource<'_> {
    let at = |url: &PublicUrl, rev: &Commit| format!("git+{}@{}", url.as_str(), rev.as_str());
    let commit = |rev| DigestSet { sha256: None, git_commit: Some(rev) };
    let (uri, digest) = match revision {
        Revision::Git { url, rev } => (Some(at(url, rev)), commit(rev)),
        Revision::Flake { url, dir, rev } => (Some(format!("{}#{dir}", at(url, rev))), commit(rev)),
        Revision::Path { content } => (None, DigestSet { sha256: Some(content.clone()), git_commit: None }),
    };
    Resource { name: "package set", uri, digest: Some(digest), annotations: None }
}

fn nar(hash: &NarHash) -> DigestSet<'static> {
    DigestSet { sha256: Some(hash.hex()), git_commit: None }
}
