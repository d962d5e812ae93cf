//! Independent programs read the same layers: gzip with many members and zstd with many frames, which the RFCs allow
//! but few programs write.
//!
//! The clients that pull are tested in `clients.rs`. These tests use git's own store path, which is larger than any
//! window or buffer.

use firn_tests::{backend::command, nix, package_set, program::Program, tree};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Shell commands that print the tar of a layer on standard input.
const GZIP: [(&str, &str); 7] = [
    ("GNU gzip", "gzip -dc"),
    ("pigz", "unpigz -c"),
    ("busybox", "busybox gunzip -c"),
    ("libarchive", "bsdcat"),
    (
        "Python",
        "python3 -c 'import gzip, shutil, sys
shutil.copyfileobj(gzip.open(sys.stdin.buffer), sys.stdout.buffer)'",
    ),
    ("Node.js", r#""$node" node -e 'process.stdout.write(zlib.gunzipSync(fs.readFileSync(0)))'"#),
    (
        "Node.js, streaming",
        r#""$node" node -e 'process.stdin.pipe(zlib.createGunzip()).pipe(process.stdout)'"#,
    ),
];

/// The same for zstd. python-zstandard's `decompress` reads one frame; its streaming functions read all.
const ZSTD: [(&str, &str); 5] = [
    ("zstd", "zstd -dc"),
    ("libarchive", "bsdcat"),
    (
        "python-zstandard",
        "/usr/bin/python3 -c 'import sys, zstandard
zstandard.ZstdDecompressor().copy_stream(sys.stdin.buffer, sys.stdout.buffer)'",
    ),
    ("Node.js", r#""$node" node -e 'process.stdout.write(zlib.zstdDecompressSync(fs.readFileSync(0)))'"#),
    (
        "Node.js, streaming",
        r#""$node" node -e 'process.stdin.pipe(zlib.createZstdDecompress()).pipe(process.stdout)'"#,
    ),
];

/// Shell commands that unpack such a layer into the current directory.
const GZIPPED_TAR: [(&str, &str); 3] =
    [("GNU tar", "tar -xzpf -"), ("bsdtar", "bsdtar -xpf -"), ("busybox tar", "busybox tar -xzpf -")];
const ZSTD_TAR: [(&str, &str); 3] = [
    ("GNU tar", "tar --zstd -xpf -"),
    ("bsdtar", "bsdtar -xpf -"),
    ("busybox tar", "zstd -dc | busybox tar -xpf -"),
];

fn git() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| nix::build(package_set::bundled(), &["git"]).remove(0).into())
}

/// Packs a path. Returns the JSON that Firn prints about the layer.
fn pack(path: &Path, compression: &str, layer: &Path) -> Value {
    let options = ["pack", "--json", "--compression", compression];
    let said = command(&options).args(["--output".as_ref(), layer, path]).run().succeeded();
    serde_json::from_str(&said).expect("JSON")
}

/// Runs a line of bash in a directory, with the layer on standard input. Returns its output.
fn on(layer: &Path, dir: &Path, line: &str) -> String {
    let line = format!("set -o pipefail; {{ {line}; }} <\"$0\"");
    // Node.js with zstd is among the tools of the Worker.
    let node = concat!(env!("CARGO_MANIFEST_DIR"), "/../setup/wasm");
    let bash = Program::new("bash").args(["-c".as_ref(), line.as_ref(), layer.as_os_str()]);
    bash.env("node", node).in_dir(dir).run().succeeded()
}

/// Every program finds the tar with the config's digest, and in it git as in the Nix store.
fn all_read(compression: &str, decompressors: &[(&str, &str)], tars: &[(&str, &str)]) {
    let dir = TempDir::new().expect("a temporary directory");
    let layer = dir.path().join("layer");
    let packed = pack(git(), compression, &layer);
    for (name, line) in decompressors {
        let digest = on(&layer, dir.path(), &format!("{line} | sha256sum"));
        assert_eq!(format!("sha256:{}", digest.replace("  -", "")), packed["diff_id"], "{name}");
    }
    let expect = tree::read(git());
    for (name, line) in tars {
        let out = TempDir::new_in(dir.path()).expect("a temporary directory");
        on(&layer, out.path(), line);
        let unpacked = out.path().join(git().strip_prefix("/").expect("absolute"));
        tree::assert_same(name, &expect, &tree::read(&unpacked));
    }
}

#[test]
fn of_gzip() {
    all_read("gzip", &GZIP, &GZIPPED_TAR);
}

#[test]
fn of_zstd() {
    all_read("zstd", &ZSTD, &ZSTD_TAR);
}

/// `firn build` writes a layout without a registry. umoci makes a container of it, whose files are exactly the
/// closure. umoci 0.4.7 does not support zstd, and says so.
#[test]
fn umoci_unpacks_what_build_writes() {
    let dir = TempDir::new().expect("a temporary directory");
    let set = package_set::bundled().display().to_string();
    let data = dir.path().join("data").display().to_string();
    let unpack = |compression: &str| {
        let layout = dir.path().join(compression).display().to_string();
        let options = ["--pkgs-path", &set, "--data", &data, "--compression", compression];
        let build = ["build", "shell/git", "--output", &format!("oci:{layout}")];
        command(&[build.as_slice(), &options].concat()).run().succeeded();
        let bundle = format!("{layout}-bundle");
        Program::new("umoci").args(["unpack", "--image", &format!("{layout}:latest"), &bundle]).run()
    };
    unpack("gzip").succeeded();
    let root = dir.path().join("gzip-bundle/rootfs");
    let packages = ["git", "bash", "coreutils", "moreutils", "nano", "cacert", "iana-etc"];
    let closure = nix::closure(&nix::build(package_set::bundled(), &packages));
    assert_eq!(root.join("nix/store").read_dir().expect("a directory").count(), closure.len());
    for path in &closure {
        let unpacked = root.join(&path[1..]);
        tree::assert_same(path, &tree::read(Path::new(path)), &tree::read(&unpacked));
    }
    let config = fs::read(dir.path().join("gzip-bundle/config.json")).expect("a bundle has a config");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    assert_eq!(config["process"]["args"][0], "/bin/bash");

    let said = unpack("zstd").failed();
    assert!(said.contains("not correct mediatype: application/vnd.oci.image.layer.v1.tar+zstd"), "{said}");
}

/// One byte more than 8 GiB, too large for a classic header, and nearly all of it a hole. Holes are not read, and GNU
/// tar sees a file of that size. `contents.rs` compares the contents of such a file.
#[test]
fn of_a_file_that_is_nearly_all_hole() {
    const SIZE: u64 = (8 << 30) + 1;
    eprintln!("packing and listing 8.6 GB, half a minute");
    let dir = TempDir::new().expect("a temporary directory");
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).expect("mkdir");
    let file = File::create(tree.join("large")).expect("a file");
    file.write_all_at(b"x", SIZE - 1).expect("a byte at the end");
    fs::write(tree.join("small"), "after it").expect("a file");

    // The kernel adds to the shell's counter what its children have read, once they have ended.
    let line = format!(
        "{} pack --compression zstd --output layer tree >/dev/null && sed -n 's/^rchar: //p' /proc/$$/io",
        firn_tests::backend::firn().display()
    );
    let read = Program::new("bash").args(["-c", &line]).in_dir(dir.path()).run().succeeded();
    let read: u64 = read.parse().expect("a number");
    assert!(read < 1 << 20, "{read} bytes were read");

    let listed = on(&dir.path().join("layer"), dir.path(), "zstd -dc | tar -tvf -");
    let sizes: Vec<_> = listed.lines().filter(|line| line.starts_with('-')).collect();
    assert!(sizes.len() == 2 && sizes[0].contains(&format!(" {SIZE} ")), "{listed}");
    assert!(sizes[1].contains(" 8 "), "{listed}");
}
