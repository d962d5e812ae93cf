//! An object store that reports missing objects late.

use crate::{
    faulty::{Fault, Faulty},
    objects::{copy, delete_all, written},
    site::{Site, image},
};
use firn_backend::store::Store;
use firn_shared::naming::image_name::ImageName;
use object_store::{ObjectStore, memory::InMemory};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A builder looks for a layer that does not exist yet. When it starts, another one has made the layer. It does not
/// make it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_another_builder_made_meanwhile_is_not_made_again() {
    let site = Site::new("a_layer_that_another_builder_made_meanwhile_is_not_made_again", 3);
    let [two, three]: [ImageName; 2] = ["p0/p1", "p0/p1/p2"].map(|name| name.parse().expect("a name"));
    let known = Arc::new(InMemory::new());
    let staging = site.staging();
    let store = Store::on(Arc::clone(&known) as Arc<dyn ObjectStore>, &staging).expect("a store");
    image(&site.builder(store), &two).await.expect("an image");
    let layers = written(&known, "layers").await.len();

    for (folder, first, second, lookups) in [("layers", &two, &three, layers), ("images", &two, &two, 1)] {
        let objects = copy(&known).await;
        delete_all(&objects, &["blobs", "layers", "images", "tags"]).await;
        let late = Faulty::new(objects, Fault::Late(folder), 0, &site.random);
        let builder = site.builder(late.store(&staging));
        let (name, asked) = (first.clone(), Arc::clone(&builder));
        let early = tokio::spawn(async move { image(&asked, &name).await });
        while late.untold.load(Ordering::SeqCst) < lookups {
            assert!(!early.is_finished(), "it looks in {folder} for {lookups} objects");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        late.heal();
        image(&builder, second).await.expect("an image");
        let made = written(&late.objects, folder).await;
        late.later.close();
        early.await.expect("no panic").expect("an image");
        let mut after = written(&late.objects, folder).await;
        after.retain(|location, _| made.contains_key(location));
        assert_eq!(after, made, "{folder}");
        assert!(made.len() >= lookups, "{folder}");
    }
}
