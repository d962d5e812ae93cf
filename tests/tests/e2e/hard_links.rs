//! Equal files of a store path are one file with two names in a layer, and in every client afterwards. If a container
//! writes to one name, the other does not change, except in stores that are plain directories.
//!
//! git has several such files: programs are in `bin` and in `lib/git-core`.

use firn_tests::{
    backend::Backend,
    containerd::Containerd,
    dockerd::Dockerd,
    image::Image,
    nix, package_set,
    podman::Podman,
    program::{Finished, Program},
    skopeo,
};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;
use tempfile::TempDir;

const IMAGE: &str = "shell/git";

/// Few layers: stores without an overlay copy everything for each layer.
const BUDGET: &str = "6";

/// Pairs of names in git's store path that are the same file. One is run by both names, one is removed by its first
/// name, and one is written to by its first name.
const PAIRS: [[&str; 2]; 3] = [
    ["bin/.git-wrapped", "lib/git-core/git"],
    ["bin/scalar", "lib/git-core/scalar"],
    ["bin/git-shell", "lib/git-core/git-shell"],
];

fn serving(compression: &str) -> Backend {
    let backend = Backend::serving(package_set::bundled());
    let backend = backend.env("FIRN_LAYER_BUDGET", BUDGET).env("FIRN_COMPRESSION", compression).start();
    // containerd does not come back after a 429.
    backend.registry().built(IMAGE, "latest");
    backend
}

/// Layers in gzip.
fn gzip() -> &'static Backend {
    static BACKEND: OnceLock<Backend> = OnceLock::new();
    BACKEND.get_or_init(|| serving("gzip"))
}

/// Layers in zstd.
fn zstd() -> &'static Backend {
    static BACKEND: OnceLock<Backend> = OnceLock::new();
    BACKEND.get_or_init(|| serving("zstd"))
}

fn reference(backend: &Backend) -> String {
    format!("{}/{IMAGE}:latest", backend.address())
}

fn git() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| nix::build(package_set::bundled(), &["git"]).remove(0))
}

/// A script that runs git by both its names. For each pair it prints whether both are the same file, and their
/// hashes.
fn looks() -> String {
    let pairs =
        PAIRS.map(|[one, other]| format!("stat --format='%i %h' {one} {other} && sha256sum {one} {other}"));
    let [one, other] = PAIRS[0];
    format!("cd {} && git --version && {one} --version && {other} --version && {}", git(), pairs.join(" && "))
}

/// The hash of each pair's contents in the Nix store.
fn contents() -> [String; 3] {
    PAIRS.map(|[one, _]| {
        Program::new("sha256sum").args([Path::new(git()).join(one)]).run().succeeded()[..64].to_owned()
    })
}

/// In a container, git runs by both its names, and each pair is one file with the content from the Nix store.
fn links_are_kept(run: impl Fn(&[&str]) -> Finished) {
    let seen = run(&["bash", "-c", &looks()]).succeeded();
    let mut lines = seen.lines();
    let versions = [(); 3].map(|()| lines.next().unwrap_or_default());
    assert!(versions.iter().all(|version| version.starts_with("git version 2.")), "{seen}");
    let lines: Vec<_> = lines.collect();
    assert_eq!(lines.len(), 4 * PAIRS.len(), "{seen}");
    for (lines, content) in lines.chunks(4).zip(contents()) {
        assert!(lines[0] == lines[1] && lines[0].ends_with(" 2"), "two names of one file: {lines:?}");
        assert!(lines[2].starts_with(&content) && lines[3].starts_with(&content), "{lines:?}");
    }
}

/// In a container's own layer, one of two names is removed, and one of two is written to. The other names do not
/// change.
fn changes_stay_where_they_are() -> String {
    let [_, [removed, keeps], [written, stays]] = PAIRS;
    let [_, kept, stayed] = contents();
    format!(
        "cd {} && rm {removed} && echo new >{written} && test ! -e {removed} &&
         echo '{kept}  {keeps}' | sha256sum --check --quiet && echo '{stayed}  {stays}' | sha256sum --check --quiet &&
         test \"$(cat {written})\" = new && git --version",
        git()
    )
}

/// The layers themselves, read without a client.
#[test]
fn are_in_the_layers() {
    let image = Image::pull(&gzip().registry(), IMAGE);
    let layers = image.layers(&gzip().registry());
    let entries: Vec<_> = layers.iter().flat_map(|layer| &layer.entries).collect();
    for [one, other] in PAIRS {
        let path = |name: &str| format!("{}/{name}", &git()[1..]).into_bytes();
        let link = entries.iter().find(|entry| entry.path == path(other)).expect("it is in a layer");
        assert_eq!((link.kind, link.target.as_ref()), (tar::EntryType::Link, Some(&path(one))), "{other}");
    }
}

#[test]
fn in_docker() {
    let image = reference(gzip());
    let docker = Dockerd::start();
    docker.pull(&image);
    links_are_kept(|command| docker.run(&[], &image, command));
    docker.run(&[], &image, &["bash", "-c", &changes_stay_where_they_are()]).succeeded();

    // Through an archive of layers. Docker recreates the layers from the unpacked files, and they must be the same.
    let dir = TempDir::new().expect("a temporary directory");
    let file = |name: &str| dir.path().join(name).display().to_string();
    let id = ["image", "inspect", "--format", "{{.Id}}", &image];
    let before = docker.docker(&id).succeeded();
    docker.docker(&["save", "--output", &file("image.tar"), &image]).succeeded();
    docker.docker(&["rmi", "--force", &image]).succeeded();
    docker.docker(&["load", "--input", &file("image.tar")]).succeeded();
    assert_eq!(docker.docker(&id).succeeded(), before);
    links_are_kept(|command| docker.run(&[], &image, command));

    // Through an archive of a container's files.
    docker.docker(&["create", "--name", "exported", "--network=none", &image]).succeeded();
    docker.docker(&["export", "--output", &file("container.tar"), "exported"]).succeeded();
    docker.docker(&["rm", "exported"]).succeeded();
    fs::create_dir(file("root")).expect("mkdir");
    Program::new("tar").args(["-xf", &file("container.tar"), "-C", &file("root")]).run().succeeded();
    are_one_file(&dir.path().join("root"));

    // In an image derived from it, whose layer is read again when it is run.
    fs::create_dir(file("context")).expect("mkdir");
    let script = changes_stay_where_they_are();
    let dockerfile = format!("FROM {image}\nRUN {}\n", script.replace('\n', " "));
    fs::write(dir.path().join("context/Dockerfile"), dockerfile).expect("a file");
    docker.docker(&["build", "--network=none", "--tag", "derived", &file("context")]).succeeded();
    let [_, [_, keeps], [_, stays]] = PAIRS;
    let [_, kept, stayed] = contents();
    let sums =
        docker.run(&[], "derived", &["bash", "-c", &format!("cd {} && sha256sum {keeps} {stays}", git())]);
    let sums = sums.succeeded();
    let sums: Vec<_> = sums.lines().map(|line| &line[..64]).collect();
    assert_eq!(sums, [kept, stayed]);
    // The base image has not changed.
    links_are_kept(|command| docker.run(&[], &image, command));
}

/// In an unpacked image, the names of each pair are one file with the content from the Nix store.
fn are_one_file(root: &Path) {
    for ([one, other], content) in PAIRS.into_iter().zip(contents()) {
        let [one, other] = [one, other].map(|name| root.join(&git()[1..]).join(name));
        let [a, b] = [&one, &other].map(|path| path.metadata().expect("it is there"));
        assert!(a.ino() == b.ino() && a.nlink() == 2, "{}", one.display());
        let sum = Program::new("sha256sum").args([&other]).run().succeeded();
        assert!(sum.starts_with(&content), "{}", other.display());
    }
}

fn podman_keeps_them(podman: &Podman, image: &str) {
    podman.pull(image);
    links_are_kept(|command| podman.run(&[], image, command));
    podman.run(&["--user", "0"], image, &["bash", "-c", &changes_stay_where_they_are()]).succeeded();
    links_are_kept(|command| podman.run(&[], image, command));
}

#[test]
fn in_podman() {
    let podman = Podman::new();
    podman_keeps_them(&podman, &reference(gzip()));
}

#[test]
fn in_podman_from_zstd() {
    let podman = Podman::new();
    podman_keeps_them(&podman, &reference(zstd()));
}

#[test]
fn in_podman_without_root() {
    let podman = Podman::rootless();
    podman_keeps_them(&podman, &reference(gzip()));
}

fn containerd_keeps_them(image: &str, snapshotters: &[&str]) {
    let containerd = Containerd::start();
    for &snapshotter in snapshotters {
        let option = ["--snapshotter", snapshotter];
        let pull = [&["images", "pull", "--plain-http"], option.as_slice(), &[image]].concat();
        containerd.ctr(&pull).succeeded();
        let run = |command: &[&str]| containerd.run(&option, image, command);
        links_are_kept(run);
        // The native snapshotter copies directories: in a container's own copy, a write to one name changes both.
        let change = match snapshotter {
            "overlayfs" => changes_stay_where_they_are(),
            _ => {
                format!("cd {} && echo new >{} && test \"$(cat {})\" = new", git(), PAIRS[2][0], PAIRS[2][1])
            }
        };
        run(&["bash", "-c", &change]).succeeded();
        links_are_kept(run);
    }
}

#[test]
fn in_containerd() {
    containerd_keeps_them(&reference(gzip()), &["overlayfs", "native"]);
}

#[test]
fn in_containerd_from_zstd() {
    containerd_keeps_them(&reference(zstd()), &["overlayfs"]);
}

/// skopeo verifies what it copies; umoci unpacks it.
#[test]
fn in_what_skopeo_copies() {
    let dir = TempDir::new().expect("a temporary directory");
    for (name, backend) in [("gzip", gzip()), ("zstd", zstd())] {
        let place = |kind: &str| format!("{kind}:{}/{kind}-{name}", dir.path().display());
        skopeo::copy(backend.address(), IMAGE, &place("dir"));
        skopeo::copy(backend.address(), IMAGE, &format!("{}:it", place("oci")));
    }
    let root = skopeo::unpack(&dir.path().join("oci-gzip"), "it", dir.path());
    are_one_file(&root);
}
