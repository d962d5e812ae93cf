use super::super::files::{Disk, Trees};
use super::*;
use crate::{packing::DiskTree, store_paths::PathTree};
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use tempfile::TempDir;

/// A Nix store of packages `a`, `b`, ….
struct NixStore(TempDir);

fn store_path(letter: char) -> StorePath {
    format!("/nix/store/{}-{letter}", letter.to_string().repeat(32)).parse().expect("a store path")
}

impl NixStore {
    fn new() -> Self {
        Self(TempDir::new().expect("a directory"))
    }

    fn root(&self) -> PathBuf {
        self.0.path().canonicalize().expect("a path")
    }

    fn place(&self, letter: char) -> PathBuf {
        self.root().join(store_path(letter).base_name())
    }

    /// Adds files and links to a package; `b:lib` in a target is in another.
    fn add(&self, letter: char, files: &[&str]) -> &Self {
        for file in files {
            let (file, target) = match file.split_once(" -> ") {
                Some((file, target)) => (file, Some(target)),
                None => (*file, None),
            };
            let path = if file.is_empty() { self.place(letter) } else { self.place(letter).join(file) };
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            match target.map(|target| target.split_once(':')) {
                Some(Some((other, below))) => {
                    let other = other.chars().next().expect("a letter");
                    symlink(self.place(other).join(below), path).expect("linked");
                }
                Some(None) => symlink(target.expect("a target"), path).expect("linked"),
                None if file.ends_with('/') => fs::create_dir_all(path).expect("made"),
                None => fs::write(path, "").expect("written"),
            }
        }
        self
    }

    fn read(&self, outputs: &[char], closure: &[char]) -> Result<Listing, ReadListingError> {
        self.read_within(LIMITS, outputs, closure)
    }

    fn read_within(
        &self,
        limits: ListingLimits,
        outputs: &[char],
        closure: &[char],
    ) -> Result<Listing, ReadListingError> {
        let [outputs, closure] =
            [outputs, closure].map(|letters| letters.iter().copied().map(store_path).collect::<Vec<_>>());
        let root = self.root();
        let members = || outputs.iter().chain(&closure);
        let listing = read_within(limits, &outputs, &Links::new(&Disk, &root, members()));
        // What was recorded of the same files says the same.
        let tree = |path: &StorePath| {
            let tree = PathTree::read(Box::new(DiskTree::new(root.join(path.base_name())))).ok()?;
            Some((path.clone(), Arc::new(tree)))
        };
        let trees = Trees::new(&root, members().filter_map(tree));
        let recorded = read_within(limits, &outputs, &Links::new(&trees, &root, members()));
        assert_eq!(recorded.as_ref().ok().map(text), listing.as_ref().ok().map(text));
        listing
    }
}

/// A listing as text: a link is an arrow to what it leads to, and what it leads to is entered only where it is.
fn text(listing: &Listing) -> Vec<String> {
    let mut all = Vec::new();
    // Not by recursion, because directories may be deep.
    let roots = listing.roots().iter().rev();
    let mut next: Vec<(Node, String)> = roots.map(|root| (root.node, root.path.name().to_owned())).collect();
    while let Some((node, at)) = next.pop() {
        match node {
            Node::File => all.push(at),
            Node::Dangling => all.push(format!("{at} -> ?")),
            Node::Link(index) => {
                let Target { directory, path, below } = listing.target(index);
                let below: Vec<_> = below.iter().map(FileName::to_string).collect();
                let names: Vec<_> = listing.directory(*directory).keys().map(FileName::to_string).collect();
                all.push(format!("{at} -> {}:{} [{}]", path.name(), below.join("/"), names.join(" ")));
            }
            Node::Directory(index) => {
                let entries = listing.directory(index).iter().rev();
                next.extend(entries.map(|(name, node)| (*node, format!("{at}/{name}"))));
                all.push(format!("{at}/"));
            }
        }
    }
    all
}

#[test]
fn tells_links_to_directories_from_others() {
    let store = NixStore::new();
    store.add('b', &["lib/y", "share/"]).add('c', &["z"]).add(
        'a',
        &[
            "bin/x",
            "lib/empty/",
            "sbin -> bin",
            "out -> /",
            "lib/up -> ..",
            "dangling -> missing",
            "bin/y -> x",
            "share -> b:share",
            "via -> share",
            "file -> b:lib/y",
            "foreign -> c:z",
            "self -> self",
        ],
    );
    let listing = store.read(&['a'], &['a', 'b']).expect("a listing");
    assert_eq!(
        text(&listing),
        [
            "a/",
            "a/bin/",
            "a/bin/x",
            "a/bin/y",
            "a/dangling -> ?",
            "a/file",
            "a/foreign -> ?",
            "a/lib/",
            "a/lib/empty/",
            "a/lib/up -> a: [bin dangling file foreign lib out sbin self share via]",
            "a/out",
            "a/sbin -> a:bin [x y]",
            "a/self -> ?",
            "a/share -> b:share []",
            "a/via -> b:share []",
        ]
    );
    // Each directory once: the root, bin, lib, lib/empty, and share of b.
    assert_eq!((listing.directories().len(), listing.targets().len()), (5, 3));
}

#[test]
fn outputs_are_anything() {
    let store = NixStore::new();
    // Without a name, the store path itself is meant.
    store.add('b', &["bin/x"]).add('f', &[""]).add('d', &[" -> /nowhere/at/all"]).add('l', &[" -> b:"]);
    let listing = store.read(&['f', 'l', 'd'], &['b', 'd', 'f', 'l']).expect("a listing");
    assert_eq!(text(&listing), ["f", "l -> b: [bin]", "d"]);
}

#[test]
fn propagated_packages_are_those_of_the_closure() {
    let store = NixStore::new();
    let propagate = |letter: char, text: &str| {
        store.add(letter, &["bin/x"]);
        let place = store.place(letter).join("nix-support");
        fs::create_dir_all(&place).expect("made");
        fs::write(place.join("propagated-user-env-packages"), text).expect("written");
    };
    let place = |letter: char| store.place(letter).display().to_string();
    let below = format!("{}/bin", place('b'));
    propagate(
        'a',
        &format!("{} {}\n\n{below} {} /etc relative\n{}", place('c'), place('b'), place('z'), place('c')),
    );
    propagate('b', &place('a'));
    store.add('c', &["lib/y"]);
    let listing = store.read(&['a'], &['a', 'b', 'c']).expect("a listing");
    let roots: Vec<_> = listing
        .roots()
        .iter()
        .map(|root| (root.path.name(), root.propagated.iter().map(StorePath::name).collect::<Vec<_>>()))
        .collect();
    assert_eq!(roots, [("a", vec!["c", "b"]), ("c", vec![]), ("b", vec!["a"])]);
}

/// Two directories that link to each other at each step: a listing of 2^64 paths, if it were one of paths.
#[test]
fn link_bombs_are_small() {
    let store = NixStore::new();
    let files: Vec<String> = (1..64)
        .flat_map(|i| ["a", "b"].map(|name| format!("d{i}/{name} -> ../d{}", i - 1)))
        .chain(["d0/x".to_owned()])
        .collect();
    store.add('a', &files.iter().map(String::as_str).collect::<Vec<_>>());
    let listing = store.read(&['a'], &['a']).expect("a listing");
    assert_eq!(listing.directories().len(), 65);
    let json = serde_json::to_string(&listing).expect("listings serialise");
    assert!(json.len() < 10_000, "{}", json.len());
}

/// What a package can have too much of: files, links through long paths, and long paths.
#[test]
fn there_are_limits() {
    let store = NixStore::new();
    store.add('a', &["d/e"]);
    let check = |limits: ListingLimits, fits: bool| {
        let read = store.read_within(limits, &['a'], &[]);
        assert_eq!(read.is_ok(), fits, "{limits:?}: {read:?}");
        assert!(fits || matches!(read, Err(ReadListingError::TooLarge)), "{read:?}");
    };
    check(ListingLimits { files: 2, ..LIMITS }, true);
    check(ListingLimits { files: 1, ..LIMITS }, false);
    // 20 links, of which each leads through 500 names and the one before: 100,000 names in all.
    let long = "./d/../".repeat(500);
    for i in 0..20 {
        let target = if i == 0 { long.clone() } else { format!("{long}link-{}", i - 1) };
        symlink(target, store.place('a').join(format!("link-{i}"))).expect("linked");
    }
    check(LIMITS, true);
    check(ListingLimits { steps: 5_000, ..LIMITS }, false);
    check(ListingLimits { path_bytes: 50, ..LIMITS }, false);
}

#[test]
fn depth_is_no_matter() {
    let store = NixStore::new();
    store.add('a', &[&"d/".repeat(1900)]);
    let listing = store.read(&['a'], &['a']).expect("a listing");
    assert_eq!(listing.directories().len(), 1901);
}
