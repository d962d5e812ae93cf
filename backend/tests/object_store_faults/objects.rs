//! The contents of an object store.

use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All objects and their bytes, without those whose content is a time.
pub(crate) async fn copy(from: &InMemory) -> Arc<InMemory> {
    let to = InMemory::new();
    let objects: Vec<ObjectMeta> = from.list(None).try_collect().await.expect("listed");
    for object in objects {
        let bytes = from.get(&object.location).await.expect("there").bytes().await.expect("read");
        to.put(&object.location, bytes.into()).await.expect("written");
    }
    Arc::new(to)
}

/// Deletes all objects of these folders.
pub(crate) async fn delete_all(store: &InMemory, folders: &[&str]) {
    for folder in folders {
        let objects: Vec<ObjectMeta> =
            store.list(Some(&Path::from(*folder))).try_collect().await.expect("listed");
        for object in objects {
            store.delete(&object.location).await.expect("deleted");
        }
    }
}

/// All objects of a folder. The value changes with every write.
pub(crate) async fn written(store: &InMemory, folder: &str) -> BTreeMap<Path, Option<String>> {
    let objects: Vec<ObjectMeta> = store.list(Some(&Path::from(folder))).try_collect().await.expect("listed");
    objects.into_iter().map(|object| (object.location, object.e_tag)).collect()
}
