//! How layers are packed. Layers are read with flate2 and the tar crate, and compared with the manifest and the
//! config, and with figures from the start of the project.

use crate::backend;
use firn_tests::{
    backend::{Backend, command},
    image::Image,
    layer::Entry,
    package_set,
    program::Program,
};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use tar::EntryType;

#[test]
fn all_layers_are_gzip_with_the_right_digests() {
    let registry = backend().registry();
    for name in ["hello", "shell/git/curl", "nginx"] {
        // This also compares digests of both kinds, sizes and media types.
        let image = Image::pull(&registry, name);
        let layers = image.layers(&registry);
        assert!(layers.len() > 1 && layers.len() <= 95, "{name}: {} layers", layers.len());
        for blob in image.digests() {
            assert!(blob.starts_with("sha256:"), "{blob}");
        }
        let distinct: HashSet<_> = image.layer_digests().into_iter().collect();
        assert_eq!(distinct.len(), layers.len(), "{name}: no layer twice");
        assert_eq!(image.config.history().as_ref().map(Vec::len), Some(layers.len()), "{name}");
    }
}

#[test]
fn tars_have_absolute_store_paths_and_fixed_metadata() {
    let registry = backend().registry();
    let image = Image::pull(&registry, "shell/git/curl");
    let mut layers = image.layers(&registry);
    let top = layers.pop().expect("the symlink layer");
    let mut seen: BTreeMap<&[u8], &Entry> = BTreeMap::new();
    for layer in &layers {
        let mut before: Option<&Entry> = None;
        for entry in &layer.entries {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            let parent = matches!(path.as_str(), "nix" | "nix/store" | "/nix" | "/nix/store");
            let below = path.trim_start_matches('/').starts_with("nix/store/");
            assert!(parent || below, "{path}: the image's root has the store where Nix has it");
            if let Some(other) = seen.insert(&entry.path, entry) {
                let facts =
                    |entry: &Entry| (entry.kind, entry.mode, entry.target.clone(), entry.content.clone());
                assert_eq!(facts(other), facts(entry), "{path} is in two layers");
            }
            assert_eq!((entry.owner, entry.mtime), ((0, 0), 1), "{path}");
            let (kind, mode) = (entry.kind, entry.mode);
            match kind {
                EntryType::Directory => assert!(matches!(mode, 0o555 | 0o755), "{path}: {mode:o}"),
                EntryType::Regular => assert!(matches!(mode, 0o444 | 0o555), "{path}: {mode:o}"),
                EntryType::Symlink => assert_eq!(mode, 0o777, "{path}"),
                EntryType::Link => {}
                other => panic!("{path}: {other:?}"),
            }
            if let Some(before) = before {
                let components =
                    |entry: &Entry| entry.path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
                assert!(components(before) < components(entry), "{path} is not in order");
            }
            before = Some(entry);
        }
        let directories: HashSet<_> = layer
            .entries
            .iter()
            .filter(|entry| entry.kind == EntryType::Directory)
            .map(|entry| &entry.path)
            .collect();
        for entry in &layer.entries {
            let parent = entry.path.rsplitn(2, |b| *b == b'/').nth(1);
            let named =
                parent.is_none_or(|parent| parent.is_empty() || directories.contains(&parent.to_vec()));
            assert!(named, "{}: its directory is not in the layer", String::from_utf8_lossy(&entry.path));
        }
    }
    let outside = top.entries.iter().filter(|entry| !entry.path.starts_with(b"nix"));
    assert_eq!(outside.count(), top.entries.len(), "the symlink layer holds no store path");
}

/// Noise does not compress, but it must not grow either.
#[test]
fn incompressible_content_stays_small() {
    let registry = backend().registry();
    let image = Image::pull(&registry, "incompressible");
    let transferred: u64 = image.layers(&registry).iter().map(|layer| layer.size).sum();
    assert!(transferred < (129 << 20), "{transferred} bytes for 128 MiB");
}

/// Whatever the closure, an image has at most as many layers as the budget allows, and one for symlinks.
#[test]
fn large_closures_stay_within_the_budget() {
    let registry = backend().registry();
    let image = Image::pull(&registry, "many-paths");
    let layers = image.layers(&registry);
    assert!(layers.len() <= 95, "{} layers", layers.len());
    let held = layers.iter().flat_map(|layer| &layer.entries).filter(|entry| {
        let path = entry.path.strip_prefix(b"/").unwrap_or(&entry.path);
        path.starts_with(b"nix/store/") && path.iter().filter(|b| **b == b'/').count() == 2
    });
    assert_eq!(held.count(), 199 + 2, "all paths, the certificates and the services");
}

/// Two images that share most layers are built at the same time.
#[test]
fn concurrent_builds_pack_a_shared_layer_once() {
    let backend = Backend::serving(package_set::bundled()).env("FIRN_LOG", "firn_backend=debug").start();
    let registry = backend.registry();
    let images = std::thread::scope(|scope| {
        let builds = ["shell/git", "git/curl", "shell/git/curl"]
            .map(|name| scope.spawn(|| Image::pull(&backend.registry(), name)));
        builds.map(|build| build.join().expect("a pull"))
    });
    let mut packed = HashSet::new();
    for image in &images {
        let mut layers = image.layer_digests();
        layers.pop().expect("the symlink layer");
        packed.extend(layers);
    }
    let shared = images.iter().map(|image| image.layers(&registry).len() - 1).sum::<usize>();
    assert!(shared > packed.len() + 20, "{shared} layers, of which {} differ", packed.len());
    // The log may also have layers that other images need.
    let log = backend.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("layer packed")).collect();
    for digest in &packed {
        assert_eq!(lines.iter().filter(|line| line.contains(digest.as_str())).count(), 1, "{digest}");
    }
}

/// If packing fails, it leaves nothing, not even an empty output file.
#[test]
fn an_error_in_the_middle_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (tree, out) = (dir.path().join("tree"), dir.path().join("out"));
    fs::create_dir_all(&tree).expect("mkdir");
    fs::create_dir(&out).expect("mkdir");
    fs::write(tree.join("large"), vec![b'x'; 40 << 20]).expect("write");
    Program::new("mkfifo").args([tree.join("pipe")]).run().succeeded();
    let layer = out.join("layer");
    let arguments = ["pack".as_ref(), tree.as_os_str(), "--output".as_ref(), layer.as_os_str()];
    let said = command(&arguments.map(|argument| argument.to_str().expect("UTF-8"))).run().failed();
    assert!(said.contains("pipe is neither a file, a directory nor a symlink"), "{said}");
    assert_eq!(fs::read_dir(&out).expect("a directory").count(), 0);
}
