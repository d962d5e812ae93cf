//! Compares the symlinks of an image with those that Nix makes of the same packages: `builtin:buildenv`, which
//! `nix-env` uses. Intended differences are in [`ROWS`], with the reason.

mod odd;
mod shapes;

use crate::{
    backend,
    composition::{PACKAGES, see},
    contents::{OWN, SERVICES},
};
use firn_shared::{
    image::selection::select,
    naming::{
        image_name::ImageName,
        package::{PackageProblem, ProblemKind},
    },
};
use firn_tests::{
    buildenv, composition::combinations, image::Image, layer::Layer, nix, package_set, registry::Registry,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tar::EntryType;

/// The kind of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory,
    File,
    Symlink(Vec<u8>),
}

type Tree = BTreeMap<PathBuf, Node>;

/// A path at which the trees differ.
struct Difference<'a> {
    path: &'a Path,
    /// What buildenv has there. None if nothing.
    expect: Option<&'a Node>,
    /// What the image has there. None if nothing.
    actual: Option<&'a Node>,
}

/// A kind of difference that is meant to be.
struct Row {
    name: &'static str,
    reason: &'static str,
    fits: fn(&Difference<'_>) -> bool,
}

const OWN_FILES: &str = "the image's own files";
const REAL: &str = "real directories";
const RESERVED: &str = "reserved names at the root";
const BUILDERS: &str = "names for Nix's builders";
const HIDDEN: &str = "hidden names";
const NAMES: &str = "log, manifest.nix, manifest.json";
const NOWHERE: &str = "links that lead nowhere";

/// The intended differences. docs/contents.md lists them for users.
const ROWS: [Row; 7] = [
    Row {
        name: OWN_FILES,
        reason: "a container needs users, certificates and temporary directories, and no package replaces them",
        fits: |d| {
            d.actual.is_some_and(|node| *node != Node::Directory || d.expect.is_none()) && is_own(d.path)
        },
    },
    Row {
        name: REAL,
        reason: "derived images add files to them",
        fits: |d| d.actual == Some(&Node::Directory) && leads_to_directory(d.expect) && stays_real(d.path),
    },
    Row {
        name: RESERVED,
        reason: "the container's runtime mounts over them, or layers have the store there",
        fits: |d| {
            let first = d.path.iter().next().map(OsStr::as_bytes);
            d.actual.is_none() && matches!(first, Some(b"nix" | b"proc" | b"sys" | b"dev" | b"tmp"))
        },
    },
    Row {
        name: BUILDERS,
        reason: "buildenv leaves them out of what it merges, and the image merges its real directories too",
        fits: |d| {
            let name = d.path.file_name().map(OsStr::as_bytes);
            let special: [&[u8]; 3] = [b"nix-support", b"propagated-build-inputs", b"perllocal.pod"];
            d.actual.is_none() && (name.is_some_and(|n| special.contains(&n)) || d.path.ends_with("info/dir"))
        },
    },
    Row {
        name: HIDDEN,
        reason: "buildenv leaves them out for the sake of a shell's glob that it replaced; programs read them",
        fits: |d| d.expect.is_none() && d.path.iter().any(|name| name.as_bytes().starts_with(b".")),
    },
    Row {
        name: NAMES,
        reason: "buildenv has files of its own under these names or had once; here they are names like others",
        fits: |d| {
            let special: [&[u8]; 3] = [b"log", b"manifest.nix", b"manifest.json"];
            d.expect.is_none() && d.path.iter().any(|name| special.contains(&name.as_bytes()))
        },
    },
    Row {
        name: NOWHERE,
        reason: "they are the package's, and what they lead to may come with a volume or a derived image",
        fits: |d| {
            let dangles = |node: &Node| matches!(node, Node::Symlink(t) if !host(t).exists());
            d.expect.is_none() && d.actual.is_some_and(dangles)
        },
    },
];

fn host(target: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(target))
}

fn is_own(path: &Path) -> bool {
    OWN.iter().chain(&SERVICES).chain(&["bin/sh"]).any(|own| Path::new(own) == path)
}

fn leads_to_directory(node: Option<&Node>) -> bool {
    matches!(node, Some(Node::Symlink(target)) if host(target).is_dir())
}

/// Whether a directory is real in every image that has it.
fn stays_real(path: &Path) -> bool {
    let prefix = ["usr/local", "usr"].into_iter().find_map(|prefix| path.strip_prefix(prefix).ok());
    let open = ["etc", "home", "opt", "root", "run", "srv", "var"];
    prefix.unwrap_or(path).iter().count() <= 1
        || open.iter().any(|open| path.starts_with(open))
        || is_own(path)
}

/// How often each row was needed.
#[derive(Default)]
struct Table(BTreeMap<&'static str, usize>);

impl Table {
    /// Compares an image with an environment.
    fn compare(&mut self, name: &str, mut expect: Tree, actual: &Tree) {
        // In the order of paths, so that what replaces a link is there before it is compared.
        for (path, node) in actual {
            let expected = expect.get(path).cloned();
            if expected.as_ref() == Some(node) {
                continue;
            }
            self.explain(name, &Difference { path, expect: expected.as_ref(), actual: Some(node) });
            if let (Node::Directory, Some(Node::Symlink(target))) = (node, expected) {
                expect.insert(path.clone(), Node::Directory);
                for entry in host(&target).read_dir().expect("a directory") {
                    let file = entry.expect("an entry").file_name();
                    let target = [&target, &b"/"[..], file.as_bytes()].concat();
                    expect.insert(path.join(file), Node::Symlink(target));
                }
            }
        }
        for (path, node) in expect.iter().filter(|(path, _)| !actual.contains_key(*path)) {
            self.explain(name, &Difference { path, expect: Some(node), actual: None });
        }
    }

    fn explain(&mut self, name: &str, difference: &Difference<'_>) {
        let row = ROWS.iter().find(|row| (row.fits)(difference));
        let Difference { path, expect, actual } = difference;
        let row =
            row.unwrap_or_else(|| panic!("{name}: {path:?} is {actual:?}, and buildenv has {expect:?}"));
        *self.0.entry(row.name).or_default() += 1;
    }

    /// Prints the rows that were needed, which must be these. A row that is never needed would hide accidental
    /// differences.
    fn check(&self, environments: usize, rows: &[&str]) {
        println!("{environments} environments are as buildenv makes them but for:");
        for row in &ROWS {
            if let Some(count) = self.0.get(row.name) {
                println!("{count:7} × {}: {}", row.name, row.reason);
            }
        }
        assert_eq!(self.0.keys().copied().collect::<BTreeSet<_>>(), rows.iter().copied().collect());
    }
}

/// The tree that buildenv has made.
fn environment(place: &Path) -> Tree {
    let tree = firn_tests::tree::read(place).into_iter().filter(|(path, _)| {
        // buildenv adds these itself.
        !path.as_os_str().is_empty() && path != Path::new("manifest.nix")
    });
    let kind = |node| match node {
        firn_tests::tree::Node::Directory(_) => Node::Directory,
        firn_tests::tree::Node::File(..) => Node::File,
        firn_tests::tree::Node::Symlink(target) => Node::Symlink(target),
    };
    tree.map(|(path, node)| (path, kind(node))).collect()
}

/// What an image has outside the store.
fn top(registry: &Registry, name: &str) -> Tree {
    let answer = registry.built(name, "latest");
    let image = Image::from_answer(registry, name, &answer);
    let digest = image.layer_digests().pop().expect("an image has a layer of symlinks");
    let layer = Layer::read(registry.blob(name, &digest)).expect("a layer");
    let entries = layer.entries.into_iter().map(|entry| {
        let node = match entry.kind {
            EntryType::Directory => Node::Directory,
            EntryType::Regular => Node::File,
            EntryType::Symlink => Node::Symlink(entry.target.expect("a link has a target")),
            other => panic!("{name}: {other:?}"),
        };
        (PathBuf::from(OsStr::from_bytes(&entry.path)), node)
    });
    entries.collect()
}

/// The outputs of an image, in the order that decides conflicts.
fn outputs(name: &ImageName, known: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let is_same = |one: &&Vec<String>, other: &&Vec<String>| one == other;
    let selected = select(name, is_same, |package| {
        known.get(package.as_str()).ok_or_else(|| PackageProblem::new(ProblemKind::NotFound, ""))
    });
    let mut seen = BTreeSet::new();
    let outputs = selected.expect("everything is known").into_iter().flat_map(|selected| selected.package);
    outputs.filter(|output| seen.insert(*output)).cloned().collect()
}

/// For each of these attributes, by name, the outputs that go into an image.
fn known(set: &Path, attributes: &[&str]) -> BTreeMap<String, Vec<String>> {
    let outputs = nix::outputs(set, attributes);
    attributes.iter().map(|attribute| attribute.to_lowercase()).zip(outputs).collect()
}

/// Builds images and environments of the same packages. None for an environment that buildenv refuses.
fn build(
    registry: &Registry,
    names: &[ImageName],
    known: &BTreeMap<String, Vec<String>>,
) -> Vec<(Option<Tree>, Tree)> {
    let images: Vec<_> = names.iter().map(|name| top(registry, &name.to_string())).collect();
    // Their packages are in the store now.
    let environments: Vec<_> = names.iter().map(|name| outputs(name, known)).collect();
    let made = buildenv::environments(&environments);
    made.into_iter().map(|made| made.as_deref().map(environment)).zip(images).collect()
}

#[test]
fn combinations_of_real_packages() {
    const IMPLIED: [&str; 6] = ["bash", "coreutils", "moreutils", "nano", "cacert", "bashInteractive"];
    let registry = backend().registry();
    see(&registry, &PACKAGES);
    let attributes: Vec<&str> = PACKAGES
        .into_iter()
        .map(
            |package| {
                if package == "python3packages.requests" { "python3Packages.requests" } else { package }
            },
        )
        .chain(IMPLIED.into_iter().filter(|implied| !PACKAGES.contains(implied)))
        .collect();
    let known = known(package_set::bundled(), &attributes);
    let names: Vec<_> = combinations(&PACKAGES, 8).take(300).collect();
    let mut table = Table::default();
    for (name, (expect, actual)) in names.iter().zip(build(&registry, &names, &known)) {
        let expect = expect.unwrap_or_else(|| panic!("{name}: buildenv ends"));
        table.compare(&name.to_string(), expect, &actual);
    }
    table.check(names.len(), &[OWN_FILES, REAL, HIDDEN, NAMES]);
}
