//! A client that waits for a download is told how far it is.

use crate::backend;
use firn_tests::{
    binary_cache::{Cache, Compression, FaultyCache, Reaction},
    image::Image,
    wait::{LONG, until},
};

#[test]
fn a_waiting_client_learns_what_is_fetched() {
    let slow = FaultyCache::before(Cache::bundled(Compression::Zstd));
    slow.behave(|asked| if asked.is_nar() { Reaction::Stall(100) } else { Reaction::Pass });
    let backend = backend(&[&slow.url()], &[slow.key()]).args(&["--wait", "1"]).start();
    let registry = backend.registry();
    let page = registry.begin("hello");
    let message = until("the message says what is fetched", LONG, || {
        let (_, message) = registry.manifest("hello").error();
        message.contains("store paths").then_some(message)
    });
    // hello, the C library, the certificates and the services.
    assert!(message.contains("fetching ") && message.contains(" of 4 store paths, "), "{message}");
    assert!(message.contains(" MB"), "{message}");
    let shown = registry.get(&page).text();
    assert!(shown.contains(" of 4 store paths"), "{shown}");
    slow.release();
    Image::pull(&registry, "hello").layers(&registry);
}
