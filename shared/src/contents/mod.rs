//! What an image consists of and how it was made, as documents that other programs read: bills of materials in two
//! formats and provenance ([`DocumentKind`]).
//!
//! The documents are functions of what the image is made from and of the manifest that they are about. There is no
//! clock in them: where a format asks for a time, it is the revision's. So they need not be stored, and every backend
//! and every edge makes the same bytes.
//!
//! Every store path of the image is a component. Its name and version are those in the path
//! ([`crate::nix::derivation_name`]). Licence, home page and description are known only for the packages of the image,
//! because neither binary caches nor Nix's database have them for what packages depend on.

mod artifact;
mod component;
mod cyclonedx;
mod identity;
mod license;
mod origin;
mod provenance;
mod spdx;
mod web_address;

pub use artifact::Artifact;
pub use origin::ClaimedOrigin;

use crate::{
    StorePath,
    image::{Ingredients, layer::LayerEncoding, settlement},
    naming::package::{Package, PackageRecord},
    nix::closure::{Closure, ClosureError},
    oci::digest::Digest,
};
use component::Component;
use std::collections::BTreeMap;

/// The kinds of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DocumentKind {
    /// A bill of materials, CycloneDX 1.6.
    CycloneDx,
    /// A bill of materials, SPDX 2.3.
    Spdx,
    /// Provenance: an in-toto statement, SLSA v1.
    Provenance,
}

/// How images are made of packages, as provenance states it.
#[derive(Debug, Clone, Copy)]
pub struct Method<'a> {
    /// The version of the layering strategy, which includes its data.
    pub strategy: &'a str,
    /// The greatest number of layers, without the symlink layer.
    pub layer_budget: usize,
    /// The encoding of the layers.
    pub encoding: &'a LayerEncoding,
}

/// What an image consists of.
#[derive(Debug)]
pub struct Contents<'a> {
    image: Ingredients<'a>,
    method: Method<'a>,
    closure: Closure,
    /// The packages of the image, by the store path of each of their outputs.
    packages: BTreeMap<&'a StorePath, &'a Package>,
}

impl DocumentKind {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 3] = [Self::CycloneDx, Self::Spdx, Self::Provenance];

    /// The media type of the document.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::CycloneDx => "application/vnd.cyclonedx+json",
            Self::Spdx => "application/spdx+json",
            Self::Provenance => "application/vnd.in-toto+json",
        }
    }

    /// The name of a file with the document, with the ending by which scanners know what it is.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::CycloneDx => "bom.cdx.json",
            Self::Spdx => "bom.spdx.json",
            Self::Provenance => "provenance.intoto.json",
        }
    }
}

impl<'a> Contents<'a> {
    /// What the image of these ingredients consists of.
    ///
    /// # Errors
    /// If the packages' closures contradict each other in a way that [`settlement`] cannot settle. Then there is no such
    /// image either.
    pub fn new(image: Ingredients<'a>, method: Method<'a>) -> Result<Self, ClosureError> {
        let records: Vec<&PackageRecord> = image.packages.iter().map(|selected| selected.package).collect();
        let closure = settlement::closure(&records)?;
        let mut packages = BTreeMap::new();
        for package in records.iter().map(|record| &record.package) {
            for output in &package.outputs {
                packages.entry(&output.path).or_insert(package);
            }
        }
        Ok(Self { image, method, closure, packages })
    }

    /// The document of this kind about the manifest with this digest, as JSON.
    pub fn document(&self, kind: DocumentKind, manifest: &Digest) -> Vec<u8> {
        match kind {
            DocumentKind::CycloneDx => cyclonedx::document(self, manifest),
            DocumentKind::Spdx => spdx::document(self, manifest),
            DocumentKind::Provenance => provenance::document(self, manifest),
        }
    }

    /// The store paths, sorted.
    fn components(&self) -> impl Iterator<Item = Component<'_>> {
        let package = |path: &StorePath| self.packages.get(path).copied();
        self.closure.paths().iter().map(move |member| Component::new(member, package(&member.path)))
    }

    /// The name of the image as a package URL (purl-spec, "oci").
    fn image_purl(&self, manifest: &Digest) -> String {
        let name = self.image.name.to_string();
        let last = name.rsplit('/').next().unwrap_or_default();
        let architecture = self.image.platform.architecture();
        format!("pkg:oci/{last}@sha256%3A{}?arch={architecture}", manifest.hex())
    }
}

#[cfg(test)]
mod tests;
