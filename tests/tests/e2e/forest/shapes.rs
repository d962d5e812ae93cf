//! Packages that have the same name in every possible way, in all combinations.

use super::{BUILDERS, HIDDEN, NAMES, NOWHERE, Node, OWN_FILES, REAL, RESERVED, Table, build, known};
use firn_shared::naming::image_name::ImageName;
use firn_tests::{backend::Backend, package_set};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The kind of a shape, as far as buildenv distinguishes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A directory, or a link to one. All of them have some files with equal names and some with different ones.
    Directory,
    /// A directory that also contains a link to itself.
    Endless,
    /// A file, or a link to one.
    File,
    /// A link to nothing.
    Nowhere,
    /// A link to itself.
    Loop,
}

/// What a package can have under a name. `shapes.py` creates them.
const SHAPES: [(&str, Kind); 17] = [
    ("directory", Kind::Directory),
    ("deep", Kind::Directory),
    ("empty", Kind::Directory),
    ("special", Kind::Directory),
    ("unusual", Kind::Directory),
    ("nested-loop", Kind::Endless),
    ("link-inside", Kind::Directory),
    ("link-other", Kind::Directory),
    ("link-relative", Kind::Directory),
    ("link-chain", Kind::Directory),
    ("link-common", Kind::Directory),
    ("file", Kind::File),
    ("link-file", Kind::File),
    ("link-common-file", Kind::File),
    ("link-out", Kind::File),
    ("dangling", Kind::Nowhere),
    ("loop", Kind::Loop),
];

/// The shapes of single-name packages, which are in the set as `a-…` and `b-…`.
const SINGLES: [&str; 7] = ["dangling", "directory", "file", "link-chain", "link-out", "loop", "nested-loop"];

const ROOTS: [&str; 8] = [
    "root-chain",
    "root-file",
    "root-links",
    "root-output-link",
    "root-plain",
    "root-propagates",
    "root-propagates-on",
    "root-same",
];

fn kind(shape: &str) -> Kind {
    SHAPES.iter().find(|(name, _)| *name == shape).expect("a shape").1
}

/// Whether buildenv fails at a name that packages have in these ways, in this order.
fn ends(kinds: &[Kind]) -> bool {
    // How many directories there are so far, and how many of those are endless; or whether there is a file.
    let (mut directories, mut endless, mut file) = (0, 0, false);
    for kind in kinds {
        match kind {
            Kind::Nowhere => {}
            Kind::Loop => return true,
            // A link to one directory stays when a file follows; a real directory does not.
            Kind::File if directories > 1 => return true,
            Kind::File => file |= directories == 0,
            Kind::Directory | Kind::Endless if file => return true,
            Kind::Directory | Kind::Endless => {
                directories += 1;
                endless += usize::from(*kind == Kind::Endless);
                if endless > 1 {
                    return true;
                }
            }
        }
    }
    false
}

/// All triples of shapes at which buildenv does not fail.
fn triples() -> Vec<[&'static str; 3]> {
    let mut triples = Vec::new();
    for (a, first) in SHAPES {
        for (b, second) in SHAPES {
            for (c, third) in SHAPES {
                if !ends(&[first, second, third]) {
                    triples.push([a, b, c]);
                }
            }
        }
    }
    triples
}

/// The set of packages, and a registry that serves it.
pub(super) fn backend() -> &'static (Backend, PathBuf) {
    static BACKEND: OnceLock<(Backend, PathBuf)> = OnceLock::new();
    BACKEND.get_or_init(|| {
        let set = firn_tests::service::scratch("shapes").join("set");
        package_set::write(
            &set,
            "import ./packages.nix { product = { p1 = ./p1; p2 = ./p2; p3 = ./p3; }; script = ./shapes.py; }",
        );
        let mut names = [const { String::new() }; 3];
        for triple in triples() {
            for (shape, lines) in triple.iter().zip(&mut names) {
                writeln!(lines, "{} {shape}", triple.join("_")).expect("texts take more");
            }
        }
        let write = |file: &str, text: &str| std::fs::write(set.join(file), text).expect("written");
        for (package, lines) in ["p1", "p2", "p3"].into_iter().zip(&names) {
            write(package, lines);
        }
        write("packages.nix", include_str!("packages.nix"));
        write("shapes.py", include_str!("shapes.py"));
        (Backend::serving(&set).start(), set)
    })
}

fn image(name: &str) -> ImageName {
    name.parse().expect("an image name")
}

/// All pairs and triples of shapes, in every order, at once. Each triple has its own name.
#[test]
fn all_shapes_at_one_name() {
    let (backend, set) = backend();
    let known = known(set, &["p1", "p2", "p3"]);
    let names = ["p1", "p1/p2", "p1/p2/p3"].map(image);
    let mut table = Table::default();
    for (name, (expect, actual)) in names.iter().zip(build(&backend.registry(), &names, &known)) {
        table.compare(&name.to_string(), expect.unwrap_or_else(|| panic!("{name}: buildenv ends")), &actual);
    }
    println!("{} of {} triples of shapes", triples().len(), SHAPES.len().pow(3));
    table.check(names.len(), &[OWN_FILES, REAL, HIDDEN, NAMES, NOWHERE]);
}

/// If buildenv fails, the image has the first one that does not dangle.
#[test]
fn combinations_where_buildenv_fails() {
    let (backend, set) = backend();
    let mut combinations = Vec::new();
    for a in SINGLES {
        for b in SINGLES {
            combinations.push((format!("a-{a}/b-{b}"), vec![a, b]));
            combinations.push((format!("a-{a}/b-{b}/c-file"), vec![a, b, "file"]));
        }
    }
    let attributes: Vec<String> = SINGLES
        .iter()
        .flat_map(|shape| [format!("a-{shape}"), format!("b-{shape}")])
        .chain(["c-file".into()])
        .collect();
    let known = known(set, &attributes.iter().map(String::as_str).collect::<Vec<_>>());
    let names: Vec<_> = combinations.iter().map(|(name, _)| image(name)).collect();
    let (mut table, mut ended) = (Table::default(), 0);
    for ((name, shapes), (expect, actual)) in
        combinations.iter().zip(build(&backend.registry(), &names, &known))
    {
        let kinds: Vec<_> = shapes.iter().map(|shape| kind(shape)).collect();
        assert_eq!(expect.is_none(), ends(&kinds), "{name}: whether buildenv ends");
        if let Some(expect) = expect {
            table.compare(name, expect, &actual);
            continue;
        }
        ended += 1;
        let leads = |kind: &Kind| !matches!(kind, Kind::Nowhere | Kind::Loop);
        let first = kinds.iter().position(leads).unwrap_or(0);
        let (owner, place) = (["a", "b", "c"][first], Path::new("share/names/name"));
        let output = &known[&format!("{owner}-{}", shapes[first])][0];
        match &actual[place] {
            Node::Symlink(target) => {
                assert_eq!(String::from_utf8_lossy(target), format!("{output}/share/names/name"), "{name}");
            }
            Node::Directory => {
                let directories = kinds.iter().filter(|kind| matches!(kind, Kind::Directory | Kind::Endless));
                assert!(directories.count() > 1, "{name}");
            }
            Node::File => panic!("{name}: the image has no files of its own there"),
        }
    }
    println!("buildenv ends at {ended} of {}", combinations.len());
    table.check(combinations.len() - ended, &[OWN_FILES, NOWHERE]);
    assert!(ended > 20, "{ended}");
}

/// Outputs that are links, outputs whose directories are links, outputs that are files, and outputs that propagate
/// others.
#[test]
fn whole_outputs() {
    let (backend, set) = backend();
    let known = known(set, &ROOTS);
    let mut names = Vec::new();
    for (i, a) in ROOTS.iter().enumerate() {
        names.push((*a).to_owned());
        for (j, b) in ROOTS.iter().enumerate().skip(i + 1) {
            names.push(format!("{a}/{b}"));
            names.extend(ROOTS.iter().skip(j + 1).map(|c| format!("{a}/{b}/{c}")));
        }
    }
    let names: Vec<_> = names.iter().map(|name| image(name)).collect();
    let mut table = Table::default();
    for (name, (expect, actual)) in names.iter().zip(build(&backend.registry(), &names, &known)) {
        table.compare(&name.to_string(), expect.unwrap_or_else(|| panic!("{name}: buildenv ends")), &actual);
    }
    table.check(names.len(), &[OWN_FILES, REAL, RESERVED, BUILDERS, HIDDEN]);
}
