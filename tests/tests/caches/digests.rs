//! An image has the same bytes whether its store paths come from a Nix store or from a cache, however that compresses
//! them. Nothing is written to a Nix store for it.

use crate::{backend, stored};
use firn_tests::{
    backend::Backend,
    binary_cache::{Cache, CacheDir, Compression},
    image::Image,
    nix, package_set,
};
use serde_json::Value;
use std::collections::BTreeSet;
use tar::EntryType;

/// Packages that are difficult on purpose (`tests/packages/set/special.nix`): links, names, kinds of files, conflicts.
const SPECIAL: [&str; 17] = [
    "helloworld",
    "1password",
    "nested.camelcase",
    "nested.deeper.evendeeper",
    "empty-directory",
    "hardlink",
    "setuid",
    "long-names",
    "unusual-names",
    "odd-links",
    "file-output",
    "image-paths",
    "conflict-a",
    "conflict-b",
    "conflict-file",
    "conflict-directory",
    "conflict-link",
];

/// The most packages in one image: so few that the image's name is not too long.
const TOGETHER: usize = 8;

/// Image names that have every package of the bundled set that is in its caches.
fn all_images() -> Vec<String> {
    let index = std::fs::read(package_set::bundled().join("index.json")).expect("the set has an index");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    // Names with dots or plus signs cannot be asked for. Their packages are in the closures of others.
    let words = |node: &Value| {
        let parts: Vec<_> =
            node["attribute"].as_array().expect("a path").iter().filter_map(Value::as_str).collect();
        let can_be_asked_for = !parts.iter().any(|part| part.contains(['.', '+']));
        can_be_asked_for.then(|| parts.join(".").to_lowercase())
    };
    let nodes = index["nodes"].as_object().expect("an object").values().filter_map(words);
    let packages: Vec<String> = nodes.chain(SPECIAL.map(str::to_owned)).collect();
    let together = packages.chunks(TOGETHER).map(|packages| packages.join("/"));
    together.chain(["many-paths".to_owned()]).collect()
}

/// The store paths in an image's layers, and how many hard links they have.
fn contents(backend: &Backend, image: &Image) -> (BTreeSet<Vec<u8>>, usize) {
    let layers = image.layers(&backend.registry());
    let entries = || layers.iter().flat_map(|layer| &layer.entries);
    let path = |path: &[u8]| {
        let rest = path.strip_prefix(b"/").unwrap_or(path).strip_prefix(b"nix/store/")?;
        (!rest.is_empty()).then(|| rest.split(|byte| *byte == b'/').next().unwrap_or_default().to_vec())
    };
    let paths = entries().filter_map(|entry| path(&entry.path)).collect();
    (paths, entries().filter(|entry| entry.kind == EntryType::Link).count())
}

#[test]
fn every_package_has_the_same_layers_from_a_store_and_from_caches() {
    let store = crate::from_store();
    let caches = [Compression::Xz, Compression::Zstd].map(Cache::bundled);
    let backends = [0, 1].map(|i| backend(&[&caches[i].url()], &[caches[i].key()]).start());
    let (mut paths, mut links) = (BTreeSet::new(), 0);
    for name in all_images() {
        let expect = Image::pull(&store.registry(), &name);
        for (backend, what) in backends.iter().zip(["xz", "zstd"]) {
            let image = Image::pull(&backend.registry(), &name);
            assert_eq!(image.digests(), expect.digests(), "{name} from the cache compressed with {what}");
        }
        // The bytes, too: a blob that was found under its digest need not have it.
        let (more_paths, more_links) = contents(&backends[0], &expect);
        paths.extend(more_paths);
        links += more_links;
    }
    let (paths, links) = (paths.len(), links);
    println!("{paths} store paths with {links} hard links");
    assert!(paths > 330 && links > 5, "{paths} store paths with {links} hard links");
    for backend in &backends {
        assert_eq!(stored(backend), Vec::<String>::new(), "nothing is written to the Nix store");
    }
}

/// Old caches, and those of people who compress otherwise.
#[test]
fn other_compressions_are_read_too() {
    let expect = Image::pull(&crate::from_store().registry(), "hello");
    let outputs = nix::build(package_set::bundled(), &["hello", "cacert", "iana-etc"]);
    for compression in [Compression::Bzip2, Compression::None] {
        let dir = CacheDir::new(compression, "firn-test", &outputs);
        let cache = Cache::serve(&dir);
        let backend = backend(&[&cache.url()], &[cache.key()]).start();
        let image = Image::pull(&backend.registry(), "hello");
        assert_eq!(image.digests(), expect.digests(), "{compression}");
        image.layers(&backend.registry());
        assert!(cache.nars().len() >= 4, "{:?}", cache.requests());
    }
}
