//! Bills of materials in CycloneDX 1.6 (ECMA-424), as JSON.
//!
//! A component is referred to by its store path without `/nix/store`. Its hash is that of its NAR serialisation.

use super::{Contents, DocumentKind, component::Component, identity::uuid, license::is_listed};
use crate::{image::rfc3339, oci::digest::Digest};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bom<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    bom_format: &'static str,
    spec_version: &'static str,
    serial_number: String,
    version: u32,
    metadata: Metadata<'a>,
    components: Vec<Entry<'a>>,
    dependencies: Vec<Dependency<'a>>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    tools: Tools,
    component: Entry<'a>,
}

#[derive(Serialize)]
struct Tools {
    components: [Tool; 1],
}

#[derive(Serialize)]
struct Tool {
    r#type: &'static str,
    name: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    r#type: &'static str,
    #[serde(rename = "bom-ref")]
    reference: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    hashes: [Hash; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<License<'a>>,
    purl: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_references: Vec<ExternalReference<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property<'a>>,
}

#[derive(Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

#[derive(Serialize)]
struct License<'a> {
    license: LicenseChoice<'a>,
}

#[derive(Serialize)]
struct LicenseChoice<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

#[derive(Serialize)]
struct ExternalReference<'a> {
    r#type: &'static str,
    url: &'a str,
}

#[derive(Serialize)]
struct Property<'a> {
    name: &'static str,
    value: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency<'a> {
    r#ref: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    depends_on: Vec<&'a str>,
}

pub(super) fn document(contents: &Contents<'_>, manifest: &Digest) -> Vec<u8> {
    let (name, version) = (contents.image.name.to_string(), manifest.to_string());
    let reference = contents.image_purl(manifest);
    let revision = contents.image.revision;
    let mut properties = vec![Property { name: "firn:revision", value: revision.id() }];
    if let Some((url, _)) = revision.commit() {
        properties.push(Property { name: "firn:source", value: url.as_str() });
    }
    let members = contents.closure.paths();
    let base_name = |index: &usize| members[*index].path.base_name();
    let image = Dependency {
        r#ref: &reference,
        depends_on: contents.packages.keys().map(|path| path.base_name()).collect(),
    };
    let dependencies = members.iter().map(|member| Dependency {
        r#ref: member.path.base_name(),
        depends_on: member.references.iter().map(base_name).collect(),
    });
    let bom = Bom {
        schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
        bom_format: "CycloneDX",
        spec_version: "1.6",
        serial_number: format!("urn:uuid:{}", uuid(DocumentKind::CycloneDx, manifest)),
        version: 1,
        metadata: Metadata {
            timestamp: contents.image.revision_date.map(rfc3339),
            tools: Tools { components: [Tool { r#type: "application", name: "firn" }] },
            component: Entry {
                r#type: "container",
                reference: &reference,
                name: &name,
                version: Some(&version),
                description: None,
                hashes: [sha256(manifest.hex())],
                licenses: Vec::new(),
                purl: reference.clone(),
                external_references: Vec::new(),
                properties,
            },
        },
        components: contents.components().map(entry).collect(),
        dependencies: std::iter::once(image).chain(dependencies).collect(),
    };
    serde_json::to_vec(&bom).expect("texts and numbers serialise")
}

fn entry(component: Component<'_>) -> Entry<'_> {
    let Component { member, named, package } = component;
    let licenses = package.map(|package| package.license.as_slice()).unwrap_or_default();
    let homepage = component.homepage();
    let attribute = package.map(|package| Property { name: "nix:attribute", value: &package.attribute });
    Entry {
        r#type: if package.is_some() { "application" } else { "library" },
        reference: member.path.base_name(),
        name: named.name,
        version: named.version,
        description: component.description(),
        hashes: [sha256(member.nar_hash.hex())],
        licenses: licenses.iter().map(|license| license_of(license)).collect(),
        purl: component.purl(),
        external_references: homepage
            .map(|url| ExternalReference { r#type: "website", url })
            .into_iter()
            .collect(),
        properties: attribute.into_iter().collect(),
    }
}

fn license_of(license: &str) -> License<'_> {
    let (id, name) = if is_listed(license) { (Some(license), None) } else { (None, Some(license)) };
    License { license: LicenseChoice { id, name } }
}

fn sha256(content: String) -> Hash {
    Hash { alg: "SHA-256", content }
}
