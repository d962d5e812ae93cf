//! What comes from a binary cache is what is on the disk.

use super::*;
use crate::packing::{Step, TreeReader, noise};
use fixture::store_path;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use tempfile::TempDir;

/// Everything that a store path may hold.
fn specimen() -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    let root = directory.path();
    let program = noise(1_500_000, 1);
    for dir in ["bin", "libexec/core", "empty/inner", "share/a", "share/a.b"] {
        fs::create_dir_all(root.join(dir)).expect("mkdir");
    }
    for (name, bytes, mode) in [
        ("bin/git", &program[..], 0o555),
        ("libexec/core/git-add", &program, 0o555),
        ("libexec/core/git-data", &program, 0o444),
        ("share/a/zero", b"", 0o444),
        ("share/a/executable-zero", b"", 0o555),
        ("share/a.b/eight", b"12345678", 0o444),
        ("share/a.b/nine", b"123456789", 0o444),
        ("share/small", &program[..65_535], 0o444),
        ("share/large", &program[..65_536], 0o444),
        ("share/large-again", &program[..65_536], 0o444),
        ("share/many-zeros", &[0; 2_500_000], 0o444),
    ] {
        fs::write(root.join(name), bytes).expect("written");
        fs::set_permissions(root.join(name), Permissions::from_mode(mode)).expect("chmod");
    }
    // Of one size, and different at the end only.
    let mut other = program.clone();
    other[1_499_999] ^= 1;
    fs::write(root.join("share/other"), other).expect("written");
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"share/\xff\xfe not UTF-8 ")), b"x").expect("written");
    symlink("../bin/git", root.join("bin/self")).expect("symlink");
    symlink("/nix/store/elsewhere", root.join("share/away")).expect("symlink");
    symlink("x".repeat(1000), root.join("share/long")).expect("symlink");
    directory
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_the_same_as_from_the_disk() {
    let directory = specimen();
    let path = store_path('a', "specimen");
    let nar = nar::of(directory.path());
    let expect = pack_from_disk(&path, directory.path());
    assert_eq!(expect.0.nar_size, nar.len() as u64);
    for compression in ["none", "xz", "zstd", "bzip2", "gzip"] {
        let mut files = CacheFiles::new(40);
        files.add(&path, &nar, compression, &[]);
        let server = Server::start(files.clone()).await;
        let on_disk = TempDir::new().expect("a temporary directory");
        files.write_to(on_disk.path());
        for url in [&server.url, &format!("file://{}", on_disk.path().display())] {
            let caches = caches(&[url]);
            let found = find(&caches, &path).await;
            assert_eq!(found.download_size(), files.0[&found.sources[0].location].len() as u64);
            let fetched = Arc::default();
            let tree = FileTree::new((&path).into(), caches.open_counting(&found, &fetched));
            let packed = tokio::task::spawn_blocking(move || pack_tree(tree)).await.expect("no panic");
            assert!(packed.expect("packs") == expect, "{compression} {url}");
            assert_eq!(fetched.load(std::sync::atomic::Ordering::Relaxed), found.download_size());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_may_be_a_file_or_a_symlink() {
    let directory = TempDir::new().expect("a temporary directory");
    let [file, program, empty, link] =
        ["file", "program", "empty", "link"].map(|name| directory.path().join(name));
    fs::write(&file, noise(100_001, 1)).expect("written");
    fs::write(&program, b"#!/bin/sh").expect("written");
    fs::write(&empty, b"").expect("written");
    fs::set_permissions(&program, Permissions::from_mode(0o555)).expect("chmod");
    symlink("target", &link).expect("symlink");
    let mut files = CacheFiles::new(40);
    let all = [('a', &file), ('b', &program), ('c', &empty), ('d', &link)];
    let all = all.map(|(letter, root)| (store_path(letter, "path"), root));
    for (path, root) in &all {
        files.add(path, &nar::of(root), "zstd", &[]);
    }
    let server = Server::start(files).await;
    let caches = caches(&[&server.url]);
    for (path, root) in &all {
        let packed = pack(&caches, &find(&caches, path).await).await.expect("packs");
        assert!(packed == pack_from_disk(path, root), "{root:?}");
    }
}

/// Many small paths of one layer are downloaded ahead of their turn, and come in any order of use.
#[tokio::test(flavor = "multi_thread")]
async fn many_paths_are_downloaded_ahead() {
    let mut files = CacheFiles::new(40);
    let letters = "0123456789abcdfghijklmnpqrsvwxyz";
    let paths: Vec<_> = letters.chars().map(|letter| store_path(letter, "small")).collect();
    for (seed, path) in paths.iter().enumerate() {
        files.add(path, &nar::of_file(&noise(10_000, seed as u64)), "xz", &[]);
    }
    let server = Server::start(files).await;
    let caches = caches(&[&server.url]);
    let closure = caches.closure(&paths, &NoneKnown, &|_, _| {}).await.expect("closed");
    assert_eq!(closure.paths.len(), paths.len());
    let mut trees: Vec<_> = closure.paths.iter().map(|path| caches.open(path)).collect();
    // Until the first is read, a bounded number has been asked for.
    let asked = || {
        paths
            .iter()
            .filter(|path| !server.requests(&format!("nar/{}.nar.xz", path.hash_part())).is_empty())
            .count()
    };
    while asked() < AHEAD {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(asked(), AHEAD);
    trees.reverse();
    let read = move || {
        for mut tree in trees {
            assert!(matches!(tree.step(), Ok(Some(Step::Enter(..)))));
            assert!(matches!(tree.step(), Ok(None)), "the content is skipped");
            assert!(matches!(tree.step(), Ok(None)));
        }
    };
    tokio::task::spawn_blocking(read).await.expect("reads");
    assert_eq!(asked(), paths.len());
}
