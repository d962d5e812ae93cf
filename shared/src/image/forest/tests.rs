use super::*;
use crate::{
    archive::{Content, Permissions},
    nix::listing::tests::Sketch,
};
use proptest::prelude::*;

fn store_path(letter: char) -> StorePath {
    format!("/nix/store/{}-{letter}", letter.to_string().repeat(32)).parse().expect("a store path")
}

/// Packages for a forest.
#[derive(Default)]
struct Packages(Vec<(StorePath, Listing)>);

impl Packages {
    fn new(listings: impl IntoIterator<Item = Listing>) -> Self {
        Self(listings.into_iter().map(|listing| (listing.roots()[0].path.clone(), listing)).collect())
    }

    fn trees(&self) -> Vec<PackageFiles<'_>> {
        self.0.iter().map(|(path, listing)| PackageFiles { path, listing }).collect()
    }

    fn forest(&self) -> Result<Forest, ForestError> {
        Forest::new(&self.trees(), Fixtures::default())
    }

    /// The conflicts, and the forest as text, without the entries that every image has.
    fn text(&self) -> (Vec<String>, Vec<String>) {
        let base = Forest::new(&[], Fixtures::default()).expect("a forest").entries;
        let forest = self.forest().expect("a forest");
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
        let conflicts = forest.conflicts.iter().map(|c| format!("{} {}", c.path, c.dropped.name()));
        (entries.collect(), conflicts.collect())
    }

    fn check(&self, expect: &[&str], conflicts: &[&str]) {
        let (entries, found) = self.text();
        assert_eq!(entries, expect);
        assert_eq!(found, conflicts);
    }
}

/// Packages `a`, `b`, … with these files.
fn packages(files: &[&str]) -> Packages {
    Packages::new(('a'..).zip(files).map(|(letter, files)| package(letter, files)))
}

fn package(letter: char, files: &str) -> Listing {
    Sketch::default().path(&store_path(letter), files).listing(&[])
}

#[test]
fn links_files_and_whole_directories() {
    let check =
        |files: &[&str], expect: &[&str], conflicts: &[&str]| packages(files).check(expect, conflicts);
    check(&["bin/git"], &["bin/git -> a:/bin/git"], &[]);
    check(
        &["share/git/x; share/man/y"],
        &["share/", "share/git -> a:/share/git", "share/man -> a:/share/man"],
        &[],
    );
    check(
        &["share/man/man1/a", "share/man/man1/b; share/man/man8/c"],
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
    // Two packages have the same file; the first one's is kept.
    check(&["bin/x", "bin/x"], &["bin/x -> a:/bin/x"], &["/bin/x b"]);
    // One package has a file where the other has a directory, in both orders.
    check(&["lib/x", "lib/x/y"], &["lib/", "lib/x -> a:/lib/x"], &["/lib/x b"]);
    check(&["lib/x/y", "lib/x"], &["lib/", "lib/x -> a:/lib/x"], &["/lib/x b"]);
    // A file at the root, and an empty directory.
    check(&["README; lib/empty/"], &["README -> a:/README", "lib/", "lib/empty -> a:/lib/empty"], &[]);
}

#[test]
fn what_the_image_needs_wins() {
    packages(&["etc/passwd; tmp/x; nix/store/y; nix-support/z; proc/1; etc/git"])
        .check(&["etc/git -> a:/etc/git"], &["/etc/passwd a", "/nix a", "/proc a", "/tmp a"]);
}

/// These are the names that buildenv leaves out, and whiteouts, which would delete `/nix` when a client unpacks the
/// layer.
#[test]
fn some_names_are_left_out() {
    packages(&[
        "share/info/dir; share/info/x; lib/perllocal.pod; lib/nix-support/x; share/propagated-build-inputs",
        "share/info/dir; lib/y; .wh.nix; lib/.wh..wh..opq; bin/.wh.x/y",
    ])
    .check(
        &["lib/", "lib/y -> b:/lib/y", "share/", "share/info/", "share/info/x -> a:/share/info/x"],
        &["/.wh.nix b", "/bin/.wh.x b", "/lib/.wh..wh..opq b"],
    );
}

#[test]
fn links_to_directories_are_directories() {
    let b = || Sketch::default().path(&store_path('b'), "bin/x; share/man/y; share/b/z");
    // Links at the root of the output, and an output that is a link.
    let through = |files: &str| b().path(&store_path('a'), files).listing(&[]);
    Packages::new([through("bin -> b:bin; share -> b:share")])
        .check(&["bin/x -> a:/bin/x", "share/", "share/b -> a:/share/b", "share/man -> a:/share/man"], &[]);
    Packages::new([b().link_to(&store_path('a'), "b:").listing(&[])])
        .check(&["bin/x -> a:/bin/x", "share/", "share/b -> a:/share/b", "share/man -> a:/share/man"], &[]);
    // Another package has the directory itself, in both orders. buildenv resolves the first package's link.
    Packages::new([through("share -> b:share"), package('c', "share/man/c")]).check(
        &[
            "share/",
            "share/b -> b:/share/b",
            "share/man/",
            "share/man/c -> c:/share/man/c",
            "share/man/y -> b:/share/man/y",
        ],
        &[],
    );
    Packages::new([package('c', "share/man/c"), through("share -> b:share")]).check(
        &[
            "share/",
            "share/b -> a:/share/b",
            "share/man/",
            "share/man/c -> c:/share/man/c",
            "share/man/y -> a:/share/man/y",
        ],
        &[],
    );
    // The same file by two paths is no conflict; another file is.
    Packages::new([through("bin -> b:bin"), b().listing(&[]), package('c', "bin/x")]).check(
        &["bin/x -> b:/bin/x", "share/", "share/b -> b:/share/b", "share/man -> b:/share/man"],
        &["/bin/x c"],
    );
}

#[test]
fn what_leads_nowhere_gives_way() {
    packages(&["lib/x -> ?; lib/y -> ?; lib/z -> ?; bin/w -> ?", "lib/x; lib/y/1; lib/z -> ?"]).check(
        &["bin/w -> a:/bin/w", "lib/", "lib/x -> b:/lib/x", "lib/y -> b:/lib/y", "lib/z -> a:/lib/z"],
        &["/lib/x a", "/lib/y a", "/lib/z b"],
    );
    let forest = packages(&["bin/w -> ?; bin/v"]).forest().expect("a forest");
    assert!(forest.has("bin/v") && !forest.has("bin/w"), "what leads nowhere is no program");
}

#[test]
fn loops_end() {
    let own = "lib/d/; lib/self -> a:lib; lib/x";
    let lone = ["lib/", "lib/d -> a:/lib/d", "lib/self -> a:/lib/self", "lib/x -> a:/lib/x"];
    packages(&[own]).check(&lone, &[]);
    // Each package has a loop of its own: one of one link, and one of two.
    let packages = packages(&["self -> a:; bin/a", "dir/self -> b:; self -> dir; bin/b"]);
    let (entries, conflicts) = packages.text();
    assert!(entries.len() < 20, "{entries:#?}");
    assert_eq!(conflicts, ["/self/self b"], "{entries:#?}");
}

/// Links can double the number of paths with each step. With one package they cost nothing; with two they are an error.
#[test]
fn link_bombs_go_off_nowhere() {
    let lines: String = (1..200).map(|i| format!("d{i}/a -> d{}; d{i}/b -> d{}; ", i - 1, i - 1)).collect();
    let lines = format!("d0/x; {lines}");
    let lone = packages(&[&lines]);
    assert!(lone.forest().expect("a forest").entries.len() < 1000);
    let both = packages(&[&lines, &lines]);
    assert_eq!(both.forest(), Err(ForestError::TooLarge));
    // A wide graph instead of a deep one: few directories, each with many links to all others.
    let wide: String = (0..40).map(|i| format!("w/d{i}/; ")).collect();
    let links: String =
        (0..40).flat_map(|i| (0..40).map(move |j| format!("w/d{i}/l{j} -> w/d{j}; "))).collect();
    let wide = format!("{wide}{links}");
    assert_eq!(packages(&[&wide]).forest().map(|forest| forest.entries.len() < 1000), Ok(true));
    let (again, loops) = (packages(&[&wide, &wide]).forest(), ForestError::TooLarge);
    assert_eq!(again, Err(loops));
}

/// The directories are nested deeper than a stack would allow, and then deeper than Linux allows.
#[test]
fn depth_has_no_bottom_but_linux() {
    let deep = "d/".repeat(2000);
    let both = packages(&[&deep, &deep]).forest().expect("a forest");
    assert!(both.entries.len() > 2000);
    crate::archive::pack(both.entries).expect("a layer");
    let deeper = "d/".repeat(10_000);
    assert!(packages(&[&deeper]).forest().is_ok());
    assert_eq!(packages(&[&deeper, &deeper]).forest(), Err(ForestError::TooDeep));
}

#[test]
fn what_packages_propagate_comes_last() {
    let sketch = |c: &str| {
        Sketch::default()
            .path(&store_path('d'), "bin/d; bin/x; bin/last")
            .path(&store_path('c'), c)
            .path(&store_path('a'), "bin/a; bin/x")
    };
    let (c, d) = (store_path('c'), store_path('d'));
    let a = sketch("bin/c; bin/x; bin/last").listing(&[&c, &d]);
    Packages::new([a.clone(), package('b', "bin/b; bin/x")]).check(
        &[
            "bin/a -> a:/bin/a",
            "bin/b -> b:/bin/b",
            "bin/c -> c:/bin/c",
            "bin/d -> d:/bin/d",
            "bin/last -> c:/bin/last",
            "bin/x -> a:/bin/x",
        ],
        &["/bin/last d", "/bin/x b", "/bin/x c", "/bin/x d"],
    );
    // A package that is requested and also propagated counts once, at its place as requested.
    Packages::new([package('d', "bin/d; bin/x; bin/last"), a]).check(
        &[
            "bin/a -> a:/bin/a",
            "bin/c -> c:/bin/c",
            "bin/d -> d:/bin/d",
            "bin/last -> d:/bin/last",
            "bin/x -> d:/bin/x",
        ],
        &["/bin/last c", "/bin/x a", "/bin/x c"],
    );
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
    let bare = Forest::new(&[], Fixtures::default()).expect("a forest");
    assert!(!bare.has("bin/sh") && !bare.has("usr") && !bare.has("etc/ssl"));
    let fixtures = Fixtures { sh: Some(&bash), env: Some(&coreutils), ..Fixtures::default() };
    let full = Forest::new(&[], fixtures).expect("a forest");
    assert!(full.has("bin/sh") && full.has("usr/bin/env"));
    let own = store_path('a');
    let listing = package('a', "bin/sh");
    let fixtures = Fixtures { sh: Some(&bash), ..Fixtures::default() };
    let kept = Forest::new(&[PackageFiles { path: &own, listing: &listing }], fixtures).expect("a forest");
    assert_eq!(content(&kept, "bin/sh"), Some(Content::Symlink(format!("{own}/bin/sh").into())));
}

#[test]
fn the_ca_bundle_has_its_three_names() {
    let cacert = store_path('a');
    let forest = packages(&["etc/ssl/certs/ca-bundle.crt"]).forest().expect("a forest");
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

#[test]
fn derived_images_add_to_real_directories() {
    let check = |files: &str, expect: &[&str]| packages(&[files]).check(expect, &[]);
    check(
        "etc/app/a.conf; etc/app/conf.d/x; etc/app/empty/",
        &[
            "etc/app/",
            "etc/app/a.conf -> a:/etc/app/a.conf",
            "etc/app/conf.d/",
            "etc/app/conf.d/x -> a:/etc/app/conf.d/x",
            "etc/app/empty/",
        ],
    );
    check(
        "var/lib/app/x; usr/local/share/app/x; usr/local/bin/x; usr/share/app/x; opt/app/lib/x; srv/www/x",
        &[
            "opt/",
            "opt/app/",
            "opt/app/lib/",
            "opt/app/lib/x -> a:/opt/app/lib/x",
            "srv/",
            "srv/www/",
            "srv/www/x -> a:/srv/www/x",
            "usr/",
            "usr/local/",
            "usr/local/bin/",
            "usr/local/bin/x -> a:/usr/local/bin/x",
            "usr/local/share/",
            "usr/local/share/app -> a:/usr/local/share/app",
            "usr/share/",
            "usr/share/app -> a:/usr/share/app",
            "var/lib/",
            "var/lib/app/",
            "var/lib/app/x -> a:/var/lib/app/x",
        ],
    );
    // Names that only begin like these have no special meaning.
    check(
        "etcetera/a/x; usrlocal/b/x",
        &["etcetera/", "etcetera/a -> a:/etcetera/a", "usrlocal/", "usrlocal/b -> a:/usrlocal/b"],
    );
}

#[test]
fn the_image_says_what_it_is_unless_a_package_does() {
    let forest = Forest::new(&[], Fixtures::default()).expect("a forest");
    let Some(Content::File(Permissions::FILE, text)) = content(&forest, "etc/os-release") else {
        panic!("every image has a file")
    };
    let text = String::from_utf8(text.to_vec()).expect("text");
    assert!(text.lines().any(|line| line == "ID=firn"), "{text}");
    packages(&["etc/os-release"]).check(&["etc/os-release -> a:/etc/os-release"], &[]);
}

#[test]
fn time_zones_are_where_libraries_look() {
    let (tzdata, own) = (store_path('z'), store_path('a'));
    let fixtures = Fixtures { zoneinfo: Some(&tzdata), ..Fixtures::default() };
    let forest = Forest::new(&[], fixtures).expect("a forest");
    let target = Some(Content::Symlink(format!("{tzdata}/share/zoneinfo").into()));
    for path in ["etc/zoneinfo", "usr/share/zoneinfo"] {
        assert_eq!(content(&forest, path), target, "{path}");
    }
    let listing = package('a', "usr/share/app/x; etc/zoneinfo");
    let forest = Forest::new(&[PackageFiles { path: &own, listing: &listing }], fixtures).expect("a forest");
    let kept = Some(Content::Symlink(format!("{own}/etc/zoneinfo").into()));
    assert_eq!(content(&forest, "etc/zoneinfo"), kept, "what a package has, stays");
    assert!(forest.has("usr/share/app"));
    assert_eq!(content(&forest, "usr/share/zoneinfo"), target);
}

#[test]
fn of_some_packages_single_files_show() {
    let (iana, own) = (store_path('i'), store_path('a'));
    let (iana_listing, own_listing) =
        (package('i', "etc/services; etc/protocols; etc/rpc"), package('a', "etc/services"));
    let tree = PackageFiles { path: &iana, listing: &iana_listing };
    let files = ["etc/services", "etc/protocols", "etc/missing"].map(|path| (path, tree));
    let fixtures = Fixtures { files: &files, ..Fixtures::default() };
    let forest =
        Forest::new(&[PackageFiles { path: &own, listing: &own_listing }], fixtures).expect("a forest");
    let link = |to: &StorePath, path: &str| Some(Content::Symlink(format!("{to}/{path}").into()));
    assert_eq!(content(&forest, "etc/services"), link(&own, "etc/services"));
    assert_eq!(content(&forest, "etc/protocols"), link(&iana, "etc/protocols"));
    assert!(!forest.has("etc/rpc") && !forest.has("etc/missing"));
    assert_eq!(forest.conflicts, []);
}

proptest! {
    #[test]
    fn is_sorted_complete_and_without_repetition(
        files in proptest::collection::vec("([abc]/){0,3}[abcd](; ([abc]/){0,3}[abcd]){0,6}", 0..5)
    ) {
        // A name cannot be both a file and a directory, so `d` is always a file and the others are always directories.
        let files: Vec<String> = files
            .iter()
            .map(|files| files.split("; ").map(|f| if f.ends_with('d') { f.into() } else { format!("{f}/; ") }).collect::<Vec<_>>().join("; "))
            .collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let forest = packages(&files).forest().expect("a forest");
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
