//! Bills of materials in SPDX 2.3 (ISO/IEC 5962), as JSON.
//!
//! A store path is the package `SPDXRef-<number>`, numbered by path: an image of 1,000 store paths has some thousand
//! relationships, and longer identifiers would make them most of the document. The checksum is that of the path's NAR
//! serialisation.

use super::{Contents, DocumentKind, component::Component, identity::uuid, license::is_listed};
use crate::{image::rfc3339, oci::digest::Digest};
use serde::Serialize;

/// What stands for something that nobody knows.
const NO_ASSERTION: &str = "NOASSERTION";
const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-image";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: &'a str,
    document_namespace: String,
    creation_info: CreationInfo,
    packages: Vec<Package<'a>>,
    relationships: Vec<Relationship>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    has_extracted_licensing_infos: Vec<ExtractedLicense<'a>>,
}

#[derive(Serialize)]
struct CreationInfo {
    created: String,
    creators: [&'static str; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Package<'a> {
    #[serde(rename = "SPDXID")]
    id: String,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_info: Option<&'a str>,
    download_location: &'static str,
    files_analyzed: bool,
    checksums: [Checksum; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    license_declared: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    homepage: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_info: Option<String>,
    external_refs: [ExternalRef; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_package_purpose: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExtractedLicense<'a> {
    license_id: String,
    extracted_text: &'a str,
    name: &'a str,
}

/// The licences that are not on SPDX's list, each once. The document declares them.
struct OtherLicenses<'a>(Vec<&'a str>);

pub(super) fn document(contents: &Contents<'_>, manifest: &Digest) -> Vec<u8> {
    let (name, version) = (contents.image.name.to_string(), manifest.to_string());
    let uuid = uuid(DocumentKind::Spdx, manifest);
    let others = OtherLicenses::of(contents);
    let image = Package {
        id: IMAGE.to_owned(),
        name: &name,
        version_info: Some(&version),
        download_location: NO_ASSERTION,
        files_analyzed: false,
        checksums: [sha256(manifest.hex())],
        license_declared: None,
        homepage: None,
        summary: None,
        source_info: Some(format!("made from revision {} of the package set", contents.image.revision.id())),
        external_refs: [purl(contents.image_purl(manifest))],
        primary_package_purpose: Some("CONTAINER"),
    };
    let packages = contents.components().enumerate().map(|(i, component)| package(i, &component, &others));
    let members = contents.closure.paths().iter().enumerate();
    let dependencies = members.flat_map(|(i, member)| {
        member.references.iter().map(move |to| relationship(id(i), "DEPENDS_ON", id(*to)))
    });
    let contained = (0..contents.closure.len()).map(|i| relationship(IMAGE.to_owned(), "CONTAINS", id(i)));
    let described = relationship(DOCUMENT.to_owned(), "DESCRIBES", IMAGE.to_owned());
    let document = Document {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: DOCUMENT,
        name: &name,
        // What SPDX recommends to those who have no web site of their own.
        document_namespace: format!("https://spdx.org/spdxdocs/{}-{uuid}", name.replace('/', "-")),
        creation_info: CreationInfo {
            // Without a time the document would be invalid.
            created: rfc3339(contents.image.revision_date.unwrap_or(0)),
            creators: ["Tool: firn"],
        },
        packages: std::iter::once(image).chain(packages).collect(),
        relationships: std::iter::once(described).chain(contained).chain(dependencies).collect(),
        has_extracted_licensing_infos: others.declared(),
    };
    serde_json::to_vec(&document).expect("texts and numbers serialise")
}

fn package<'a>(index: usize, component: &Component<'a>, others: &OtherLicenses<'_>) -> Package<'a> {
    let Component { member, named, package } = *component;
    Package {
        id: id(index),
        name: named.name,
        version_info: named.version,
        download_location: NO_ASSERTION,
        files_analyzed: false,
        checksums: [sha256(member.nar_hash.hex())],
        license_declared: package.and_then(|package| others.expression(&package.license)),
        homepage: component.homepage(),
        summary: component.description(),
        source_info: package.map(|package| format!("attribute {} of the package set", package.attribute)),
        external_refs: [purl(component.purl())],
        primary_package_purpose: package.map(|_| "APPLICATION"),
    }
}

impl<'a> OtherLicenses<'a> {
    fn of(contents: &Contents<'a>) -> Self {
        let mut others: Vec<&str> = Vec::new();
        for license in contents.packages.values().flat_map(|package| &package.license) {
            if !is_listed(license) && !others.contains(&license.as_str()) {
                others.push(license);
            }
        }
        Self(others)
    }

    /// The licences of a package as an SPDX expression. None if there are none.
    fn expression(&self, licenses: &[String]) -> Option<String> {
        let terms = licenses.iter().map(|license| match self.0.iter().position(|other| other == license) {
            Some(index) => reference(index),
            None => license.clone(),
        });
        let terms: Vec<String> = terms.collect();
        (!terms.is_empty()).then(|| terms.join(" AND "))
    }

    fn declared(&self) -> Vec<ExtractedLicense<'a>> {
        let declare = |(index, name): (usize, &&'a str)| ExtractedLicense {
            license_id: reference(index),
            extracted_text: name,
            name,
        };
        self.0.iter().enumerate().map(declare).collect()
    }
}

fn reference(index: usize) -> String {
    format!("LicenseRef-{}", index + 1)
}

fn id(index: usize) -> String {
    format!("SPDXRef-{}", index + 1)
}

fn relationship(from: String, relationship_type: &'static str, to: String) -> Relationship {
    Relationship { spdx_element_id: from, relationship_type, related_spdx_element: to }
}

fn sha256(checksum_value: String) -> Checksum {
    Checksum { algorithm: "SHA256", checksum_value }
}

fn purl(reference_locator: String) -> ExternalRef {
    ExternalRef { reference_category: "PACKAGE-MANAGER", reference_type: "purl", reference_locator }
}
