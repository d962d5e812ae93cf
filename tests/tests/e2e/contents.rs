//! An image contains the closure of its packages, the symlinks to them, a few files of its own, and nothing else. Nix
//! computes the closure; skopeo and umoci show what the image contains.

use crate::backend;
use firn_tests::{
    image::Image,
    layer::Layer,
    nix, package_set, skopeo,
    tree::{self, Node, Tree},
};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const SHELL: [&str; 4] = ["bash", "coreutils", "moreutils", "nano"];

/// The image's own directories and files, besides the symlinks into the packages.
pub(crate) const OWN: [&str; 23] = [
    "bin",
    "etc",
    "etc/group",
    "etc/nsswitch.conf",
    "etc/os-release",
    "etc/passwd",
    "etc/pki",
    "etc/pki/tls",
    "etc/pki/tls/certs",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/ssl",
    "etc/ssl/certs",
    "etc/ssl/certs/ca-certificates.crt",
    "home",
    "home/user",
    "root",
    "tmp",
    "usr",
    "usr/bin",
    "usr/bin/env",
    "var",
    "var/empty",
    "var/tmp",
];

/// The only visible files of `iana-etc`, if the image's name does not mention it.
pub(crate) const SERVICES: [&str; 2] = ["etc/protocols", "etc/services"];

/// Names in a package that are reserved for Nix or the container runtime.
const RESERVED: [&str; 6] = ["nix", "nix-support", "proc", "sys", "dev", "tmp"];

/// An unpacked image.
struct Unpacked {
    name: &'static str,
    root: PathBuf,
    outputs: Vec<String>,
    /// The store path of `iana-etc`.
    services: String,
    _dir: TempDir,
}

fn unpack(name: &'static str, shell: bool, attributes: &[&str]) -> Unpacked {
    let dir = TempDir::with_prefix("firn-test-contents-").expect("a temporary directory");
    let layout = dir.path().join("layout");
    skopeo::copy(backend().address(), name, &format!("oci:{}:it", layout.display()));
    let root = skopeo::unpack(&layout, "it", dir.path());
    let implied = if shell { &SHELL[..] } else { &[] };
    let attributes: Vec<&str> = attributes.iter().chain(implied).chain(&["cacert"]).copied().collect();
    let outputs = nix::build(package_set::bundled(), &attributes);
    let services = nix::build(package_set::bundled(), &["iana-etc"]).remove(0);
    Unpacked { name, root, outputs, services, _dir: dir }
}

impl Unpacked {
    fn holds_the_closure(&self) {
        let all: Vec<String> = self.outputs.iter().chain([&self.services]).cloned().collect();
        let closure = nix::closure(&all);
        let store = self.root.join("nix/store");
        let names = store
            .read_dir()
            .expect("the image has a store")
            .map(|entry| entry.expect("an entry").file_name());
        let held: BTreeSet<String> =
            names.map(|name| format!("/nix/store/{}", name.to_str().expect("a store path's name"))).collect();
        assert_eq!(held, closure, "{}: exactly the closure", self.name);
        assert_eq!(
            self.root.join("nix").read_dir().expect("a directory").count(),
            1,
            "{}: nothing else",
            self.name
        );
        for path in &closure {
            let in_image = self.root.join(&path[1..]);
            tree::assert_same(path, &tree::read(Path::new(path)), &tree::read(&in_image));
        }
    }

    /// Everything outside the store belongs to the image itself, or to a known package.
    fn has_nothing_else(&self) {
        let everything = tree::read(&self.root);
        for (path, node) in everything.iter().filter(|(path, _)| !path.starts_with("nix")) {
            let own = path.as_os_str().is_empty() || OWN.iter().any(|own| Path::new(own) == path);
            let from_package = match node {
                Node::Symlink(target) => {
                    let services = SERVICES.iter().any(|services| Path::new(services) == path);
                    let mut outputs = self.outputs.iter().chain(services.then_some(&self.services));
                    outputs.any(|output| {
                        String::from_utf8_lossy(target) == format!("{output}/{}", path.display())
                    })
                }
                Node::Directory(_) => self.outputs.iter().any(|output| Path::new(output).join(path).is_dir()),
                Node::File(..) => false,
            };
            assert!(own || from_package || path == Path::new("bin/sh"), "{}: {path:?}: {node:?}", self.name);
        }
        for (path, node) in &everything {
            if let Node::Symlink(target) = node
                && !path.starts_with("nix")
            {
                let leads = tree::resolve(&self.root, path).is_some_and(|target| target.exists());
                assert!(leads, "{}: {path:?} -> {} dangles", self.name, String::from_utf8_lossy(target));
            }
        }
    }

    /// Every file of every package is visible from the root, unless another package has it too.
    fn shows_every_package(&self) {
        let mut trees: Vec<(&String, Tree)> =
            self.outputs.iter().map(|output| (output, tree::read(Path::new(output)))).collect();
        let mut services = tree::read(Path::new(&self.services));
        services.retain(|path, _| SERVICES.iter().any(|services| Path::new(services) == path));
        assert_eq!(services.len(), SERVICES.len());
        trees.push((&self.services, services));
        for (output, files) in &trees {
            for path in files.keys().filter(|path| !path.as_os_str().is_empty()) {
                let first = path.iter().next().expect("a name");
                if RESERVED.iter().any(|reserved| first == *reserved) {
                    continue;
                }
                // The target of a package's own link is visible where the link is.
                let expect = tree::resolve(&self.root, &Path::new(output).join(path));
                let actual = tree::resolve(&self.root, path);
                let others = trees.iter().filter(|(other, _)| other != output);
                let contested = others.into_iter().any(|(_, files)| {
                    path.ancestors().any(|path| {
                        !path.as_os_str().is_empty()
                            && matches!(files.get(path), Some(Node::File(..) | Node::Symlink(_)))
                    })
                });
                let is_directory = expect.as_ref().is_some_and(|expect| expect.is_dir());
                assert!(
                    actual.is_some() || expect.is_none(),
                    "{}: {output}/{} is not shown",
                    self.name,
                    path.display()
                );
                assert!(
                    contested || is_directory || actual == expect,
                    "{}: {} leads to {actual:?}, not {expect:?}",
                    self.name,
                    path.display()
                );
            }
        }
    }

    fn has_fixed_times_and_owners(&self) {
        let mut next = vec![self.root.join("nix/store")];
        while let Some(place) = next.pop() {
            for entry in place.read_dir().expect("a directory") {
                let path = entry.expect("an entry").path();
                let meta = path.symlink_metadata().expect("metadata");
                assert_eq!((meta.mtime(), meta.uid(), meta.gid()), (1, 0, 0), "{}", path.display());
                if meta.is_dir() {
                    next.push(path);
                }
            }
        }
    }

    fn check(&self) {
        self.holds_the_closure();
        self.has_nothing_else();
        self.shows_every_package();
        self.has_fixed_times_and_owners();
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path))
            .unwrap_or_else(|error| panic!("{}: {path}: {error}", self.name))
    }
}

#[test]
fn contents_of_one_package() {
    let image = unpack("hello", false, &["hello"]);
    image.check();
    // There is no shell, and no link to one.
    for absent in ["bin/sh", "usr/bin/env"] {
        assert!(image.root.join(absent).symlink_metadata().is_err(), "{absent}");
    }
}

#[test]
fn contents_of_a_development_environment() {
    let image = unpack("shell/git/curl", true, &["git", "curl"]);
    image.check();
    for (program, name) in [("bin/sh", "sh"), ("usr/bin/env", "env")] {
        let program = tree::resolve(&image.root, Path::new(program)).expect("it leads somewhere");
        assert!(
            program.starts_with(image.root.join("nix/store")) && program.is_file(),
            "{name}: {program:?}"
        );
    }
    let names = |path: &str| {
        image
            .text(path)
            .lines()
            .map(|line| line.split(':').next().expect("a name").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names("etc/passwd"), ["root", "nobody", "user"]);
    assert_eq!(names("etc/group"), ["root", "nobody", "user"]);
    assert!(image.text("etc/nsswitch.conf").contains("hosts:"));
}

#[test]
fn contents_of_packages_with_several_outputs() {
    unpack("openssl/python3/nginx", false, &["openssl", "python3", "nginx"]).check();
}

/// Long and unusual names, empty directories, hard links, dangling links: in the closure, each is as in the Nix
/// store. The forest links to their directories, so dangling links stay inside the store.
#[test]
fn contents_of_difficult_packages() {
    let image = unpack(
        "empty-directory/hardlink/long-names/setuid/unusual-names/file-output",
        false,
        &["empty-directory", "hardlink", "long-names", "setuid", "unusual-names", "file-output"],
    );
    image.check();
    for empty in ["share/empty-directory/empty", "share/empty-directory/nested/empty"] {
        let place = tree::resolve(&image.root, Path::new(empty)).expect("it is there");
        assert_eq!(place.read_dir().expect("a directory").count(), 0, "{empty}");
    }
    let links = unpack("odd-links", false, &["odd-links"]);
    links.holds_the_closure();
    links.has_fixed_times_and_owners();
}

/// Files of a package at paths that the image itself owns are left out.
#[test]
fn packages_do_not_replace_files_of_the_image() {
    let image = unpack("image-paths", false, &["image-paths"]);
    image.holds_the_closure();
    assert!(!image.text("etc/passwd").contains("mallory"));
    assert!(!image.text("etc/group").contains("mallory"));
    assert!(image.root.join("tmp").read_dir().expect("a directory").next().is_none());
    assert!(image.root.join("dev/null").symlink_metadata().is_err());
}

/// Paths that two packages have: one is kept, the build does not fail, and everything else of both is there.
#[test]
fn conflicts_are_resolved() {
    let image = unpack("conflict-b/conflict-a", false, &["conflict-a", "conflict-b"]);
    image.holds_the_closure();
    assert_eq!(image.text("etc/group").lines().count(), 3);
    let read = |name: &str| {
        let path =
            tree::resolve(&image.root, Path::new(&format!("share/conflict/{name}"))).expect("it is there");
        fs::read_to_string(path).expect("a text")
    };
    assert_eq!((read("a"), read("b"), read("file")), ("a\n".into(), "b\n".into(), "a\n".into()));
    Image::pull(&backend().registry(), "conflict-file/conflict-directory/conflict-link");
}

/// More than 8 GiB do not fit into a classic tar header. This takes 4 KB on disk; it is streamed, never unpacked.
#[test]
fn contents_of_a_file_of_more_than_8_gib() {
    const SIZE: u64 = 8_590_000_007;
    eprintln!("packing and reading 8.6 GB, about a minute");
    let registry = backend().registry();
    let image = Image::pull(&registry, "sparse-file");
    let layers: Vec<Layer> = image.layers(&registry);
    let file = layers.iter().flat_map(|layer| &layer.entries).find(|entry| entry.path.ends_with(b"/sparse"));
    let file = file.expect("the file is in a layer");
    assert_eq!(file.size, SIZE);
    // The digest of 8,590,000,000 zero bytes and "the end".
    assert_eq!(
        file.content.as_deref(),
        Some("sha256:4d3f8f1b43d6edfe66411bd681e340566a31a78c67497f35596484bf12908e19")
    );
    let transferred: u64 = layers.iter().map(|layer| layer.size).sum();
    assert!(transferred < SIZE / 100, "{transferred} bytes for nothing but zeros");
}
