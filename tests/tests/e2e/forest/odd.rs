//! Packages that are found through links, that are nested deeply, or of which no image can be made.

use super::{Node, shapes, top};
use firn_tests::{
    backend::{Backend, command},
    composition::Published,
    image::Image,
};
use std::path::Path;
use tempfile::TempDir;

/// `bin` is a link into another store path. The programs are found, and the main program is the command.
#[test]
fn programs_are_found_through_links() {
    let (backend, _) = shapes::backend();
    let registry = backend.registry();
    let image = Image::pull(&registry, "program-link");
    let command = image.config.config().as_ref().and_then(|config| config.cmd().clone());
    assert_eq!(command, Some(vec!["/bin/program".to_owned()]));
    let tree = top(&registry, "program-link");
    for (path, program) in [("bin/program", "program"), ("bin/sh", "sh"), ("usr/bin/env", "env")] {
        let Some(Node::Symlink(target)) = tree.get(Path::new(path)) else { panic!("{path} is no link") };
        let target = String::from_utf8_lossy(target);
        assert!(target.ends_with(&format!("/bin/{program}")) && Path::new(&*target).is_file(), "{target}");
    }
}

/// The records of deep packages can be read back, so that Nix runs once, and the edge composes images from them.
#[test]
fn depth_is_no_matter() {
    let (backend, set) = shapes::backend();
    let data = TempDir::with_prefix("firn-test-deep-").expect("a temporary directory");
    let start = || Backend::serving(set).data(data.path()).start();
    let first = start();
    for name in ["deep-a", "deep-b"] {
        first.registry().built(name, "latest");
    }
    drop(first);
    let again = start();
    let tree = top(&again.registry(), "deep-a/deep-b");
    assert_eq!(again.nix_processes(), 0, "everything was known");
    let deepest = Path::new("share").join("d/".repeat(1900));
    for name in ["deep-a", "deep-b"] {
        assert!(matches!(tree.get(&deepest.join(name)), Some(Node::Symlink(_))), "{name}");
    }
    backend.registry().built("deep-a/deep-b", "latest");
    compose(backend, &["deep-a/deep-b"]);
}

/// The edge makes the same images from records as the backend.
#[test]
fn the_edge_follows_links_too() {
    let (backend, _) = shapes::backend();
    let names = ["root-chain/root-links/root-plain", "root-propagates-on/root-same", "p1/p2"];
    names.iter().flat_map(|name| name.split('/')).for_each(|name| {
        backend.registry().built(name, "latest");
    });
    compose(backend, &names);
}

fn compose(backend: &Backend, names: &[&str]) {
    let registry = backend.registry();
    let published = Published::by(&registry, "root-plain");
    for name in names {
        let composed = published.compose(&name.parse().expect("a name")).expect("everything is known");
        let built = registry.built(name, "latest");
        assert_eq!(String::from_utf8(composed.oci.bytes).expect("JSON"), built.text(), "{name}");
    }
}

/// If no image can be made, a second request is refused at once.
#[test]
fn what_cannot_be_is_refused_and_remembered() {
    let (backend, _) = shapes::backend();
    let registry = backend.registry();
    for (name, said) in [
        ("whiteout", "-whiteout/share/.wh.nix cannot be in an image"),
        ("needs-whiteout", "-whiteout/share/.wh.nix cannot be in an image"),
        ("root-plain/whiteout", "-whiteout/share/.wh.nix cannot be in an image"),
        ("aufs", "/.wh..wh."),
        ("bomb-a/bomb-b", "too many files, or files with too long names, in directories that they share"),
    ] {
        let answer = registry.settled(name, "latest");
        let (code, message) = answer.error();
        assert_eq!((answer.status, code.as_str()), (404, "MANIFEST_UNKNOWN"), "{name}: {message}");
        assert!(message.contains(said), "{name}: {message}");
        let failed = backend.logged("not built");
        assert_eq!(registry.manifest(name).error(), (code, message), "{name}");
        assert_eq!(backend.logged("not built"), failed, "{name}: it was not tried again");
    }
    // A single bomb is harmless.
    let tree = top(&registry, "bomb-a");
    assert!(tree.len() < 100, "{}", tree.len());
}

/// The files that `firn build` reports as not shown: each path once, and none that leads to the same file as a
/// visible one.
#[test]
fn what_is_not_shown_is_reported() {
    let (_, set) = shapes::backend();
    let reported = |image: &str| {
        let data = TempDir::new().expect("a temporary directory");
        let dir = data.path().to_str().expect("UTF-8");
        let said =
            command(&["build", image, "--pkgs-path", set.to_str().expect("UTF-8"), "--data", dir]).run();
        assert_eq!(said.status, 0, "{said:?}");
        let said = said.stderr.lines().filter_map(|line| {
            Some(line.strip_prefix("firn: ")?.split_once(" of a package is not shown")?.0.to_owned())
        });
        said.collect::<Vec<_>>()
    };
    // Both links lead to the same files.
    assert_eq!(reported("root-chain/root-links"), ["/bin/x"]);
    assert_eq!(
        reported("root-plain/root-same/root-links"),
        ["/README", "/bin/x", "/etc/passwd", "/lib/y", "/share/man/page", "/tmp"]
    );
    assert_eq!(reported("a-loop/b-directory"), ["/share/names/name"]);
}
