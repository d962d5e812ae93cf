//! A newer version of Firn on the storage of an older one.

use firn_tests::{backend::Backend, image::Image, package_set, tree};
use std::fs;
use tempfile::TempDir;

/// The keys of records contain the version that wrote them, so another version does not find them. It does find
/// blobs: an image that was pulled once can be pulled by its digest, and layers are reused.
#[test]
fn old_digests_can_be_pulled_and_old_layers_are_used_again() {
    let set = package_set::small("upgraded");
    let data = TempDir::with_prefix("firn-test-upgrading-").expect("a temporary directory");
    let start = || Backend::serving_expression(&set).data(data.path()).start();
    let before = Image::pull(&start().registry(), "greeting");
    let storage = data.path().join("storage");
    for kind in ["images", "packages", "composition"] {
        fs::remove_dir_all(storage.join(kind)).expect("there were such records");
    }
    let blobs = || tree::read(&storage.join("blobs")).len();
    let count = blobs();

    let new = start();
    let registry = new.registry();
    let answer = registry.get(&format!("/v2/greeting/manifests/{}", before.digest));
    assert_eq!(
        Image::from_answer(&registry, "greeting", &answer).layers(&registry).len(),
        before.layer_digests().len()
    );
    let after = Image::pull(&registry, "greeting");
    assert_eq!(after.layer_digests()[0], before.layer_digests()[0]);
    assert_eq!(blobs(), count);
}
