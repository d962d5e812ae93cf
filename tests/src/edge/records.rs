//! The records of a small package set, as a backend publishes them for edges that compose images.

use crate::edge::planet::Planet;
use firn_shared::{
    Closure, StorePath,
    composition::{KnownPackage, PackageSetRecord, RecipeRecord, compose, package_key, package_set_key},
    image::{
        Image,
        layer::{LayerEncoding, LayerPlan, LayerRecord},
    },
    layering::{DEFAULT_BUDGET, Sharing, Strategy},
    link::{protocol::ImageSetId, tag_pointer::TagPointer},
    naming::{
        package::{Output, Package, PackageRecord},
        package_name::PackageName,
        package_source::Revision,
    },
    nix::{
        closure::PathInfo,
        listing::{FileName, Listing, Node, Root},
    },
    oci::{
        digest::{DiffId, Digest, NarHash},
        media_type::LayerCompression,
        platform::Platform,
        reference::Tag,
    },
};
use std::collections::{BTreeMap, HashMap};

/// The package set's token.
pub fn token() -> ImageSetId {
    "set-1".parse().expect("a token")
}

/// A store path of this name.
///
/// # Panics
/// If the name is invalid.
pub fn store_path(name: &str) -> StorePath {
    let hash: String = Digest::of(name.as_bytes()).hex().replace('e', "g").chars().take(32).collect();
    format!("/nix/store/{hash}-{name}").parse().expect("a store path")
}

/// A package's name.
///
/// # Panics
/// If it is invalid.
pub fn package_name(text: &str) -> PackageName {
    text.parse().expect("a package name")
}

/// The records that a backend has published of a package set.
#[derive(Debug)]
pub struct Records {
    /// What all its images have in common.
    pub set: PackageSetRecord,
    /// Its packages.
    pub known: BTreeMap<PackageName, KnownPackage>,
}

fn package(name: &str) -> KnownPackage {
    package_with(name, NarHash::of(b"libc"), None)
}

/// A package that was recorded when `libc` had this content. Its shell is at this path, if it has one.
pub fn package_with(name: &str, libc: NarHash, sh: Option<&str>) -> KnownPackage {
    known(package_record(name, libc, sh))
}

/// What is published of a package that was recorded like this.
///
/// # Panics
/// If the record has no closure.
pub fn known(record: PackageRecord) -> KnownPackage {
    let strategy = Sharing::default();
    let closure = Closure::new(&record.closure).expect("a closure");
    let layers = strategy.layers_at(&closure, &[record.part(&closure, false)], 0).into_iter().map(|layer| {
        let key = LayerPlan::new(layer.members.iter().map(|&i| &closure.paths()[i]), &encoding()).key;
        let compression = LayerCompression::Gzip;
        let (digest, diff_id) = (Digest::of(key.as_bytes()), DiffId::of(key.as_bytes()));
        (key, LayerRecord { digest, diff_id, size: 10, uncompressed: 20, compression })
    });
    let layers: HashMap<_, _> = layers.collect();
    KnownPackage::new(record, strategy.profile(), layers, true)
}

/// What a backend has recorded of a package.
pub fn package_record(name: &str, libc: NarHash, sh: Option<&str>) -> PackageRecord {
    let info = |path: &str, references: Vec<StorePath>| PathInfo {
        path: store_path(path),
        nar_hash: if path == "libc" { libc } else { NarHash::of(path.as_bytes()) },
        // Large enough for a layer of its own.
        nar_size: if path == "libc" { 8_000_000 } else { 1000 },
        references,
    };
    let file = |name: &str| FileName::new(name.as_bytes()).expect("a file name");
    let closure = vec![info("libc", vec![]), info(name, vec![store_path("libc")])];
    let directories = vec![[(file("bin"), Node::Directory(1))].into(), [(file(name), Node::File)].into()];
    let root = Root { path: store_path(name), node: Node::Directory(0), propagated: vec![] };
    PackageRecord {
        package: Package {
            attribute: name.into(),
            drv: store_path(&format!("{name}.drv")),
            outputs: vec![Output { name: "out".into(), path: store_path(name) }],
            name: format!("{name}-1.0"),
            pname: None,
            version: None,
            license: vec![],
            main_program: None,
            description: None,
            homepage: None,
        },
        closure,
        listing: Listing::new(directories, vec![], vec![root]).expect("a listing"),
        sh: sh.map(store_path),
        env: None,
        zoneinfo: None,
        decided: BTreeMap::new(),
    }
}

fn encoding() -> LayerEncoding {
    LayerEncoding { compression: LayerCompression::Gzip, identity: "test-1".into() }
}

impl Default for Records {
    fn default() -> Self {
        Self::new()
    }
}

impl Records {
    /// Three packages, each with a layer for itself and one that they share.
    pub fn new() -> Self {
        let strategy = Sharing::default();
        let set = PackageSetRecord::new(
            Revision::Path { content: "c0ffee".into() },
            None,
            RecipeRecord {
                platform: Platform::Amd64,
                layer_budget: DEFAULT_BUDGET,
                closure_bytes: 1 << 30,
                encoding: encoding(),
                strategy: strategy.version(),
            },
            strategy.profile(),
        );
        let known = ["git", "jq", "htop"].map(|name| (package_name(name), package(name)));
        let absent = ["cacert", "iana-etc"].map(|name| (package_name(name), KnownPackage::Absent));
        Self { set, known: known.into_iter().chain(absent).collect() }
    }

    /// The image of a name.
    ///
    /// # Panics
    /// If it cannot be composed.
    pub fn image(&self, name: &str) -> Image {
        let name = name.parse().expect("an image name");
        compose(&name, &self.set, |name| self.known.get(name)).expect("it can be composed")
    }

    /// The keys and bytes of all records.
    pub fn records(&self) -> Vec<(String, Vec<u8>)> {
        let key = package_set_key(&token());
        let packages = self.known.iter().map(|(name, known)| {
            let key = package_key(&token(), Platform::Amd64, name);
            (key.to_string(), known.encode(&key).expect("a closure"))
        });
        packages.chain([(key.to_string(), self.set.encode(&key))]).collect()
    }

    /// The content of all layers.
    pub fn layers(&self) -> Vec<Vec<u8>> {
        let layers = self.known.values().flat_map(KnownPackage::layers);
        layers.map(|(key, _)| key.as_bytes().to_vec()).collect()
    }

    /// Puts all records and pointers that an answer needs into KV.
    pub async fn put_into_kv(&self, planet: &impl AsRef<Planet>) {
        for (key, bytes) in self.records() {
            planet.as_ref().put("kv", &key, bytes, None).await;
        }
        point(planet).await;
    }
}

/// Makes KV say that `latest` names the package set.
pub async fn point(planet: &impl AsRef<Planet>) {
    point_tag(planet, &Tag::default()).await;
}

/// The same for another tag.
pub async fn point_tag(planet: &impl AsRef<Planet>, tag: &Tag) {
    let pointer = TagPointer { package_set: token(), previous: None, moved: 0, checked: 0, failed: None };
    let json = serde_json::to_vec(&pointer).expect("texts and numbers serialise");
    planet.as_ref().put("kv", &TagPointer::key(tag).to_string(), json, None).await;
}
