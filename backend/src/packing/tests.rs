//! Packs layers from real directories, and reads them with other programs.

mod errors;
mod hard_links;
mod in_memory;
mod independent_readers;
mod properties;
mod streams;

use super::source_file::SourceFile;
use super::twins::Twins;
use super::{Encoder, FileTree, PackedLayer, Packer, PackingError};
use firn_shared::archive::{ImagePath, Permissions};
use firn_shared::{DiffId, Digest, oci::media_type::LayerCompression};
use std::fs;
use std::io::Read as _;
use std::num::NonZeroUsize;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

const STORE_PATH: &str = "/nix/store/3pmppdlqjx4i0ww255kg6wjzlvg8shdc-git-2.39.5";

fn packer(encoder: &str, threads: usize) -> Packer {
    let threads = NonZeroUsize::new(threads).expect("not zero");
    Packer::new(encoder.parse().expect("an encoder"), threads).expect("threads start")
}

/// The directory as the only store path of a layer.
fn as_store_path(directory: &Path) -> Vec<FileTree> {
    vec![FileTree::relocated(ImagePath::parse(STORE_PATH).expect("absolute"), directory.into())]
}

fn pack(packer: &Packer, trees: Vec<FileTree>) -> Result<(PackedLayer, Vec<u8>), PackingError> {
    let mut bytes = Vec::new();
    let layer = packer.pack(trees, &mut bytes)?;
    assert_eq!(layer.digest, Digest::of(&bytes));
    assert_eq!(layer.size, bytes.len() as u64);
    Ok((layer, bytes))
}

fn decompress(encoder: Encoder, bytes: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    let read = match encoder.compression() {
        LayerCompression::Zstd => zstd::Decoder::new(bytes).expect("zstd").read_to_end(&mut tar),
        LayerCompression::Gzip => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut tar),
    };
    read.expect("compressed data");
    tar
}

/// Bytes that look random to any compressor, the same in every run.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(length);
    bytes
}

pub(super) fn text(length: usize, seed: u64) -> Vec<u8> {
    noise(length, seed).into_iter().map(|byte| b"etaoin shrdlu\n\0,"[usize::from(byte >> 4)]).collect()
}

/// Everything that a store path can contain, several blocks long.
fn specimen() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path();
    let long = "long-name-".repeat(20);
    fs::create_dir_all(root.join("bin")).expect("mkdir");
    fs::create_dir_all(root.join("empty/inner")).expect("mkdir");
    fs::create_dir_all(root.join(&long).join(&long)).expect("mkdir");
    fs::write(root.join("bin/tool"), text(3_000_000, 1)).expect("write");
    fs::set_permissions(root.join("bin/tool"), fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::write(root.join("bin.txt"), text(1000, 2)).expect("write");
    fs::write(root.join("noise"), noise(2_500_000, 3)).expect("write");
    fs::write(root.join("zero"), b"").expect("write");
    fs::write(root.join("block"), text(512, 4)).expect("write");
    fs::write(root.join(&long).join(&long).join("deep"), text(513, 5)).expect("write");
    fs::write(root.join("twin"), text(3_000_000, 1)).expect("write");
    fs::set_permissions(root.join("twin"), fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::write(root.join("sp ace\n\"quote\\"), b"odd name").expect("write");
    symlink(format!("{STORE_PATH}/bin/tool"), root.join("absolute")).expect("symlink");
    symlink(format!("{long}/../nowhere"), root.join("dangling")).expect("symlink");
    directory
}

fn tree(at: &str, from: &Path) -> FileTree {
    FileTree::relocated(ImagePath::parse(at).expect("absolute"), from.into())
}

fn names(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().expect("an archive");
    entries
        .map(|entry| String::from_utf8_lossy(&entry.expect("an entry").path_bytes()).into_owned())
        .collect()
}

#[test]
fn encoders_parse_and_print() {
    for (given, expect) in [
        ("gzip", Some("gzip:2")),
        ("gzip:12", Some("gzip:12")),
        ("zstd", Some("zstd:2")),
        ("zstd:19", Some("zstd:19")),
    ]
    .into_iter()
    .chain(
        ["", "gz", "gzip:", "gzip:0", "gzip:13", "zstd:20", "zstd:-1", "zstd:3 ", "GZIP"]
            .map(|bad| (bad, None)),
    ) {
        let parsed = given.parse::<Encoder>().ok().map(|encoder| encoder.to_string());
        assert_eq!(parsed.as_deref(), expect, "{given:?}");
    }
    let identity = |text: &str| text.parse::<Encoder>().expect("valid").identity();
    assert_ne!(identity("gzip:3"), identity("gzip:4"));
    assert_ne!(identity("gzip:3"), identity("zstd:3"));
}

#[test]
fn bytes_do_not_depend_on_threads_or_company() {
    let directory = specimen();
    for encoder in ["gzip", "zstd", "gzip:1"] {
        let (layer, bytes) = pack(&packer(encoder, 1), as_store_path(directory.path())).expect("packs");
        let tar = decompress(encoder.parse().expect("valid"), &bytes);
        assert_eq!(layer.diff_id, DiffId::of(&tar));
        assert_eq!(layer.uncompressed, tar.len() as u64);
        for threads in [2, 3, 8] {
            let packer = packer(encoder, threads);
            std::thread::scope(|scope| {
                let layers: Vec<_> = (0..6)
                    .map(|_| scope.spawn(|| pack(&packer, as_store_path(directory.path())).expect("packs")))
                    .collect();
                for packed in layers {
                    assert!(
                        packed.join().expect("no panic") == (layer, bytes.clone()),
                        "{encoder} {threads}"
                    );
                }
            });
        }
    }
}

/// Clients cache layers by these digests. If an update of a compression library changes them, raise `FORMAT` in
/// `encoder.rs` and update the digests here.
#[test]
fn bytes_are_pinned() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("text"), text(1_500_000, 1)).expect("write");
    fs::write(directory.path().join("noise"), noise(1_500_000, 2)).expect("write");
    fs::write(directory.path().join("twin"), noise(1_500_000, 2)).expect("write");
    let check = |encoder, digest: &str, diff_id: &str| {
        let (layer, _) = pack(&packer(encoder, 2), as_store_path(directory.path())).expect("packs");
        assert_eq!(
            (layer.digest.hex().as_str(), layer.diff_id.hex().as_str()),
            (digest, diff_id),
            "{encoder}"
        );
    };
    let tar = "bf33e212b6d93cc21b6a0ce4c40fdd8bbed370fc5d461571939b050b31894a0a";
    check("gzip", "30cde3f60fbc7ac0a4ca90d10789bd275ffd5504de13db0cb9dc9b22caf94b10", tar);
    check("zstd", "63dd6d9db05dc6de1b914dbebde92ff0c748518398ff3ad2d15e647363e8291c", tar);
}

#[test]
fn directories_that_lead_to_paths_come_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("file");
    fs::write(&file, b"content").expect("write");
    let trees = vec![tree("/nix/store/b", &file), tree("/nix/store/a", &file), tree("/nix/var/c", &file)];
    let (_, bytes) = pack(&packer("gzip", 1), trees).expect("packs");
    let tar = decompress(Encoder::GZIP, &bytes);
    assert_eq!(names(&tar), ["nix/", "nix/store/", "nix/store/a", "nix/store/b", "nix/var/", "nix/var/c"]);
}

#[test]
fn no_paths_make_an_empty_archive() {
    let (layer, bytes) = pack(&packer("gzip", 1), vec![]).expect("packs");
    assert_eq!(decompress(Encoder::GZIP, &bytes), [0; 1024]);
    assert_eq!(layer.uncompressed, 1024);
}

#[test]
fn what_does_not_compress_is_stored() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("noise"), noise(8 << 20, 7)).expect("write");
    for encoder in ["gzip", "zstd"] {
        let (layer, _) = pack(&packer(encoder, 2), as_store_path(directory.path())).expect("packs");
        assert!(layer.size < layer.uncompressed + layer.uncompressed / 1000, "{encoder}: {layer:?}");
    }
}

#[test]
fn holes_are_zeros() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("sparse");
    let length = 5 << 20;
    let mut expect = vec![0; length];
    let sparse = fs::File::create(&path).expect("create");
    sparse.set_len(length as u64).expect("truncate");
    for (offset, size) in [(100_000, 5000), (1 << 20, 4096), (3 << 20, 1 << 20)] {
        let data = noise(size, offset as u64);
        std::os::unix::fs::FileExt::write_all_at(&sparse, &data, offset as u64).expect("write");
        expect[offset..offset + size].copy_from_slice(&data);
    }
    let (_, bytes) = pack(&packer("gzip", 2), as_store_path(&path)).expect("packs");
    let tar = decompress(Encoder::GZIP, &bytes);
    // The file's bytes precede the two blocks that end the archive.
    let end = tar.len() - 1024;
    assert!(tar[end - length..end] == expect);
}
