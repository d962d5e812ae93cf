//! The size of the Worker: all of it is parsed when an isolate starts, and the free plan allows 3 MB.

use flate2::{Compression, write::GzEncoder};
use std::io::Write;
use std::path::Path;

/// In bytes, compressed as Cloudflare counts. It was 333,365 when composing learned of links between store paths.
const MAX_GZIPPED: usize = 400_000;

#[test]
fn the_worker_is_small() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../edge/build/index_bg.wasm");
    let wasm = std::fs::read(path).expect("the Worker has been built: make worker");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&wasm).expect("memory");
    let gzipped = encoder.finish().expect("memory").len();
    println!("wasm: {} bytes, {gzipped} gzipped", wasm.len());
    assert!(gzipped <= MAX_GZIPPED, "{gzipped} bytes");
}
