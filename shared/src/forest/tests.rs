use super::*;
use proptest::prelude::*;

fn store_path(letter: char) -> StorePath {
    format!("/nix/store/{}-{letter}", letter.to_string().repeat(32)).parse().expect("a store path")
}

/// `"bin/git share/man/"` as a listing; a trailing slash makes an empty directory.
fn listing(paths: &str) -> Listing {
    fn insert(listing: &mut Listing, path: &str) {
        match path.split_once('/') {
            None => {
                listing.insert(name(path), Node::File(()));
            }
            Some((first, rest)) => {
                let node = listing.entry(name(first)).or_insert_with(|| Node::Directory(Listing::new()));
                if let (Node::Directory(below), false) = (node, rest.is_empty()) {
                    insert(below, rest);
                }
            }
        }
    }
    let mut root = Listing::new();
    paths.split_whitespace().for_each(|path| insert(&mut root, path));
    root
}

/// The forest of packages `a`, `b`, … as text: only what the packages brought.
fn forest(packages: &[&str]) -> (Vec<String>, Vec<String>) {
    let base: Vec<_> = Forest::new(&[], Fixtures::default()).entries;
    let owned: Vec<_> =
        ('a'..).zip(packages).map(|(letter, paths)| (store_path(letter), listing(paths))).collect();
    let trees: Vec<_> = owned.iter().map(|(path, listing)| Tree { path, listing }).collect();
    let forest = Forest::new(&trees, Fixtures::default());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let entries = forest.entries.iter().filter(|entry| !base.contains(entry)).map(|entry| {
        let path = text(entry.path.relative());
        match &entry.content {
            Content::Directory(_) => format!("{path}/"),
            Content::File(..) => path,
            Content::Symlink(target) => {
                let target = text(target).replace("/nix/store/", "");
                format!("{path} -> {}:{}", &target[..1], target.get(34..).unwrap_or_default())
            }
        }
    });
    (entries.collect(), forest.conflicts.iter().map(|c| format!("{} {}", c.path, c.dropped.name())).collect())
}

#[test]
fn links_files_and_whole_directories() {
    let check = |packages: &[&str], expect: &[&str], conflicts: &[&str]| {
        assert_eq!(
            forest(packages),
            (expect.iter().map(|s| (*s).into()).collect(), conflicts.iter().map(|s| (*s).into()).collect()),
            "{packages:?}"
        );
    };
    check(&["bin/git"], &["bin/git -> a:/bin/git"], &[]);
    check(
        &["share/git/x share/man/y"],
        &["share/", "share/git -> a:/share/git", "share/man -> a:/share/man"],
        &[],
    );
    check(
        &["share/man/man1/a", "share/man/man1/b share/man/man8/c"],
        &[
            "share/",
            "share/man/",
            "share/man/man1/",
            "share/man/man1/a -> a:/share/man/man1/a",
            "share/man/man1/b -> b:/share/man/man1/b",
            "share/man/man8 -> b:/share/man/man8",
        ],
        &[],
    );
    // The same file twice: the first stays.
    check(&["bin/x", "bin/x"], &["bin/x -> a:/bin/x"], &["/bin/x b"]);
    // A file where another has a directory, both ways.
    check(&["lib/x", "lib/x/y"], &["lib/", "lib/x -> a:/lib/x"], &["/lib/x b"]);
    check(&["lib/x/y", "lib/x"], &["lib/", "lib/x -> a:/lib/x"], &["/lib/x b"]);
    // A file at the root, an empty directory.
    check(&["README lib/empty/"], &["README -> a:/README", "lib/", "lib/empty -> a:/lib/empty"], &[]);
}

#[test]
fn what_the_image_needs_wins() {
    let (entries, conflicts) = forest(&["etc/passwd tmp/x nix/store/y nix-support/z proc/1 etc/git"]);
    assert_eq!(entries, ["etc/git -> a:/etc/git"]);
    assert_eq!(conflicts, ["/etc/passwd a", "/nix a", "/proc a", "/tmp a"]);
}

fn content(forest: &Forest, path: &str) -> Option<Content> {
    forest
        .entries
        .iter()
        .find(|entry| entry.path.relative() == path.as_bytes())
        .map(|entry| entry.content.clone())
}

#[test]
fn fixtures_never_dangle_and_never_displace() {
    let (bash, coreutils) = (store_path('b'), store_path('c'));
    let bare = Forest::new(&[], Fixtures::default());
    assert!(!bare.has("bin/sh") && !bare.has("usr") && !bare.has("etc/ssl"));
    let full = Forest::new(&[], Fixtures { sh: Some(&bash), env: Some(&coreutils) });
    assert!(full.has("bin/sh") && full.has("usr/bin/env"));
    let listing = listing("bin/sh");
    let own = store_path('a');
    let kept =
        Forest::new(&[Tree { path: &own, listing: &listing }], Fixtures { sh: Some(&bash), env: None });
    assert_eq!(content(&kept, "bin/sh"), Some(Content::Symlink(format!("{own}/bin/sh").into())));
}

#[test]
fn the_ca_bundle_has_its_three_names() {
    let cacert = store_path('a');
    let listing = listing("etc/ssl/certs/ca-bundle.crt");
    let forest = Forest::new(&[Tree { path: &cacert, listing: &listing }], Fixtures::default());
    assert_eq!(
        content(&forest, Forest::CA_BUNDLE),
        Some(Content::Symlink(format!("{cacert}/{}", Forest::CA_BUNDLE).into()))
    );
    for alias in base::CA_ALIASES {
        assert_eq!(
            content(&forest, alias),
            Some(Content::Symlink(format!("/{}", Forest::CA_BUNDLE).into())),
            "{alias}"
        );
    }
}

proptest! {
    #[test]
    fn is_sorted_complete_and_without_repetition(
        packages in proptest::collection::vec("([abc]/){0,3}[abc]( ([abc]/){0,3}[abc]){0,6}", 0..5)
    ) {
        let owned: Vec<_> =
            ('a'..).zip(&packages).map(|(letter, paths)| (store_path(letter), listing(paths))).collect();
        let trees: Vec<_> = owned.iter().map(|(path, listing)| Tree { path, listing }).collect();
        let forest = Forest::new(&trees, Fixtures::default());
        for pair in forest.entries.windows(2) {
            prop_assert!(pair[0].path < pair[1].path);
        }
        for entry in &forest.entries {
            if let Some(parent) = entry.path.parent() {
                prop_assert!(forest.entries.iter().any(|entry| entry.path == parent));
            }
        }
    }
}
