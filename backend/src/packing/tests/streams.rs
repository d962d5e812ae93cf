//! Trees whose files can be read only once.

use super::in_memory::{in_memory, steps};
use super::*;
use crate::packing::{ContentStream, FileContent, ReadContent, Step};
use bytes::Bytes;

/// Bytes that come in small pieces of different lengths.
struct Trickle {
    bytes: Bytes,
    piece: usize,
}

impl ReadContent for Trickle {
    fn read(&mut self, most: usize) -> Result<Bytes, PackingError> {
        assert!(most > 0 && !self.bytes.is_empty(), "there is more to read");
        self.piece = self.piece * 7 % 65_521 + 1;
        Ok(self.bytes.split_to(self.piece.min(most).min(self.bytes.len())))
    }
}

fn stream(path: &Path) -> FileContent {
    let bytes = Bytes::from(fs::read(path).expect("a file"));
    FileContent::Stream(Box::new(ContentStream::new(bytes.len() as u64, Trickle { bytes, piece: 1 })))
}

/// The layer of a tree whose files are streams, or every other one of them.
fn streamed(root: &Path, packer: &Packer, every: usize) -> (PackedLayer, Vec<u8>) {
    let mut all: Vec<Step> = Vec::new();
    let mut count = 0;
    let mut content = |path: &Path| {
        count += 1;
        match count % every {
            0 => stream(path),
            _ => FileContent::Bytes(fs::read(path).expect("a file").into()),
        }
    };
    steps(root, Vec::new(), &mut content, &mut all);
    pack(packer, in_memory(all)).expect("packs")
}

fn check(root: &Path) {
    for encoder in ["gzip", "zstd"] {
        let packer = packer(encoder, 2);
        let from_disk = pack(&packer, as_store_path(root)).expect("packs");
        for every in [1, 2, 3] {
            assert!(streamed(root, &packer, every) == from_disk, "{encoder} {every}");
        }
    }
}

#[test]
fn a_stream_gives_the_same_layer_as_files() {
    check(specimen().path());
}

/// Equal files become hard links, whether they are small enough to wait in memory or not. Files that are equal at the
/// beginning only are packed with all their bytes.
#[test]
fn equal_files_of_a_stream_are_links() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path();
    let sizes = [65_535, 65_536, 65_537, 131_072, 200_000, (1 << 20) + 1, 3_000_000];
    for size in sizes {
        let bytes = noise(size, 7);
        for (name, differs_at) in [
            ("a", None),
            ("b", None),
            ("c", Some(0)),
            ("d", Some(size / 2)),
            ("e", Some(size - 1)),
            ("f", Some(size - 1)),
            // Too many to be remembered.
            ("g", Some(1)),
            ("h", Some(1)),
            ("i", None),
        ] {
            let mut bytes = bytes.clone();
            if let Some(at) = differs_at {
                bytes[at] ^= 1;
            }
            let path = root.join(format!("{name}{size}"));
            fs::write(&path, bytes).expect("written");
            let is_executable = name == "f";
            let mode = if is_executable { 0o755 } else { 0o644 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
        }
    }
    check(root);
}
