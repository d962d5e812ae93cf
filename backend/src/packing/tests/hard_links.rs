//! Equal files of a store path are stored once in the layer.

use super::*;
use crate::packing::{FileContent, twins::Compared};
use std::sync::Arc;

/// Type, name and link target of everything in the tree.
fn entries(trees: Vec<FileTree>) -> Vec<String> {
    let (_, bytes) = pack(&packer("gzip", 2), trees).expect("packs");
    let tar = decompress(Encoder::GZIP, &bytes);
    let mut archive = tar::Archive::new(tar.as_slice());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let entries = archive.entries().expect("an archive").map(|entry| {
        let entry = entry.expect("an entry");
        let name = text(&entry.path_bytes());
        match (entry.header().entry_type(), entry.link_name_bytes()) {
            (tar::EntryType::Regular, _) => format!("{name} {}", entry.size()),
            (tar::EntryType::Link, Some(target)) => format!("{name} = {}", text(&target)),
            _ => name,
        }
    });
    entries.filter(|entry| !entry.ends_with('/')).collect()
}

fn write(path: PathBuf, bytes: &[u8], mode: u32) {
    fs::create_dir_all(path.parent().expect("in a directory")).expect("mkdir");
    fs::write(&path, bytes).expect("write");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

#[test]
fn equal_files_are_links_to_the_first() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path();
    let program = noise(200_000, 1);
    write(root.join("bin/git"), &program, 0o755);
    write(root.join("libexec/git-add"), &program, 0o555);
    write(root.join("libexec/git-am"), &program, 0o700);
    write(root.join("share/data"), &program, 0o644);
    write(root.join("share/same"), &program, 0o444);
    let mut other = program.clone();
    other[199_999] ^= 1;
    write(root.join("share/of-the-same-size"), &other, 0o644);
    assert_eq!(
        entries(vec![tree("/a", root)]),
        [
            "a/bin/git 200000",
            "a/libexec/git-add = a/bin/git",
            "a/libexec/git-am = a/bin/git",
            "a/share/data 200000",
            "a/share/of-the-same-size 200000",
            "a/share/same = a/share/data",
        ]
    );
}

#[test]
fn only_large_files_are_compared() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, size) in [("a", 65_535), ("b", 65_535), ("c", 65_536), ("d", 65_536), ("e", 0), ("f", 0)] {
        write(directory.path().join(name), &text(size, 1), 0o644);
    }
    let expect = ["p/a 65535", "p/b 65535", "p/c 65536", "p/d = p/c", "p/e 0", "p/f 0"];
    assert_eq!(entries(vec![tree("/p", directory.path())]), expect);
}

/// The layer of a store path does not depend on the other paths in it.
#[test]
fn paths_are_not_linked_with_each_other() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("file");
    write(file.clone(), &text(100_000, 1), 0o644);
    assert_eq!(entries(vec![tree("/a", &file), tree("/b", &file)]), ["a 100000", "b 100000"]);
}

/// Each file is compared with at most four others, so that thousands of files of one size are read only a few times.
#[test]
fn files_are_compared_to_few() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for seed in 0..6 {
        for copy in ["x", "y"] {
            write(directory.path().join(format!("{seed}{copy}")), &noise(70_000, seed), 0o644);
        }
    }
    let seen = entries(vec![tree("/p", directory.path())]);
    let links: Vec<_> = seen.iter().filter(|entry| entry.contains('=')).collect();
    assert_eq!(links, ["p/0y = p/0x", "p/1y = p/1x", "p/2y = p/2x", "p/3y = p/3x"]);
}

#[test]
fn optimising_the_store_changes_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (copies, links) = (directory.path().join("copies"), directory.path().join("links"));
    for (name, size) in [("small", 10), ("large", 100_000)] {
        for root in [&copies, &links] {
            write(root.join(name), &text(size, 1), 0o444);
        }
        fs::copy(copies.join(name), copies.join(format!("{name}-again"))).expect("copy");
        fs::hard_link(links.join(name), links.join(format!("{name}-again"))).expect("link");
    }
    let digest = |root: &Path| pack(&packer("gzip", 1), as_store_path(root)).expect("packs").0.digest;
    assert_eq!(digest(&copies), digest(&links));
}

#[test]
fn a_file_that_cannot_be_compared_is_an_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (first, second) = (directory.path().join("first"), directory.path().join("second"));
    write(first.clone(), &noise(100_000, 1), 0o644);
    write(second.clone(), &noise(100_000, 1), 0o644);
    let metadata = |path: &Path| fs::symlink_metadata(path).expect("there");
    let source = |path: &Path| Arc::new(SourceFile::new(path.into(), &metadata(path)));
    let at = |name: &str| ImagePath::parse(format!("/{name}")).expect("absolute");
    let mut twins = Twins::new(&Path::new("/nowhere").into());
    let (first_file, second_file) = (source(&first), source(&second));
    let earlier = |twins: &mut Twins, name: &str, file: &Arc<SourceFile>| {
        let content = FileContent::File(Arc::clone(file));
        Ok(match twins.compare(&at(name), Permissions::STORE_FILE, content)? {
            Compared::Equal(earlier) => Some(earlier),
            Compared::New(_) => None,
        })
    };
    assert_eq!(earlier(&mut twins, "first", &first_file).expect("compares"), None);
    assert_eq!(earlier(&mut twins, "second", &second_file).expect("compares"), Some(at("first")));
    fs::write(&second, noise(100_001, 1)).expect("write");
    let changed = earlier(&mut twins, "second", &second_file);
    assert!(matches!(&changed, Err(PackingError::Changed { path }) if *path == second), "{changed:?}");
    fs::write(&second, b"short").expect("write");
    let changed = earlier(&mut twins, "second", &second_file);
    assert!(matches!(&changed, Err(PackingError::Changed { path }) if *path == second), "{changed:?}");
    fs::remove_file(&first).expect("rm");
    let gone = earlier(&mut twins, "second", &second_file);
    assert!(matches!(&gone, Err(PackingError::Read { path, .. }) if *path == first), "{gone:?}");
}
