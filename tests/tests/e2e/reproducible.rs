//! The same request gives the same bytes, whichever backend builds the image, when, and after which others.

use firn_tests::{backend::Backend, image::Image, package_set};

const IMAGES: [&str; 4] =
    ["hello", "shell/git/curl", "long-names/unusual-names/hardlink", "conflict-a/conflict-b"];

fn digests(backend: &Backend) -> Vec<Vec<String>> {
    IMAGES.iter().map(|name| Image::pull(&backend.registry(), name).digests()).collect()
}

#[test]
fn two_empty_stores_come_to_the_same_digests() {
    let first = Backend::start();
    let expect = digests(&first);
    let second = Backend::start();
    // After other images, which share store paths with these.
    for name in ["nginx", "shell/jq", "git"] {
        second.registry().built(name, "latest");
    }
    for (name, expect) in IMAGES.iter().zip(&expect).rev() {
        assert_eq!(&Image::pull(&second.registry(), name).digests(), expect, "{name}");
    }
    // And once more, from the store.
    assert_eq!(digests(&first), expect);
}

/// The other strategy is reproducible too: its ratings must not depend on earlier builds.
#[test]
fn popularity_is_reproducible_too() {
    let start = || {
        Backend::serving(package_set::bundled())
            .args(&["--strategy", "popularity", "--layer-budget", "20"])
            .start()
    };
    let (first, second) = (start(), start());
    second.registry().built("shell/jq", "latest");
    let pull = |backend: &Backend| Image::pull(&backend.registry(), "shell/git/curl");
    let (first, second) = (pull(&first), pull(&second));
    assert_eq!(first.digests(), second.digests());
    assert!(first.layer_digests().len() <= 21, "the budget and the symlinks");
}

#[test]
fn other_names_for_the_same_packages_are_the_same_image() {
    let backend = Backend::start();
    let pull = |name: &str| Image::pull(&backend.registry(), name).digests();
    let expect = pull("jq/hello");
    for name in ["hello/jq", "jq/hello/jq", "hello/hello/jq"] {
        assert_eq!(pull(name), expect, "{name}");
    }
    // The config and the manifest contain these names, but the layers are the same.
    if cfg!(target_arch = "x86_64") {
        assert_eq!(pull("amd64/jq/hello")[2..], expect[2..]);
    }
    // Names in lower case match attributes that have upper case.
    for name in ["helloworld", "python3packages.pyyaml", "nested.deeper.evendeeper", "1password", "7zz"] {
        pull(name);
    }
    // An output is another image than its package.
    assert_ne!(pull("openssl.dev")[2..], pull("openssl")[2..]);
}
