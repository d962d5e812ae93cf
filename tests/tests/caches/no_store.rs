//! A server without a Nix store: in a container whose root has none, and where the store is read-only.

use crate::{backend, from_store};
use firn_tests::{
    backend::{Backend, firn},
    binary_cache::{Cache, CacheDir, Compression},
    dockerd::Dockerd,
    image::Image,
    nix, package_set,
    program::{Program, find},
};
use std::path::Path;
use tempfile::TempDir;

/// The variables of a backend that a container gets, too.
const VARIABLES: [&str; 8] = [
    "FIRN_BUILD",
    "FIRN_CACHES",
    "FIRN_CACHE_KEYS",
    "FIRN_GRACE",
    "FIRN_LOG",
    "FIRN_METRICS_TOKEN",
    "FIRN_SURVEY",
    "NIX_CONFIG",
];

/// Makes an image whose root has nothing but links to where programs and libraries are mounted. It has no `/nix`.
fn import_root(dockerd: &Dockerd) {
    let root = TempDir::new().expect("a temporary directory");
    for name in ["bin", "lib", "lib64", "sbin"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), root.path().join(name)).expect("a link");
    }
    let tar = root.path().join("root.tar");
    Program::new("tar")
        .args(["--create", "--file"])
        .args([&tar])
        .args(["--directory"])
        .args([root.path()])
        .args(["bin", "lib", "lib64", "sbin"])
        .run()
        .succeeded();
    dockerd.docker(&["import", tar.to_str().expect("UTF-8"), "no-store"]).succeeded();
}

/// What precedes `firn serve …` so that it runs in a container of that image.
fn in_container(dockerd: &Dockerd) -> Vec<String> {
    // A Nix that needs nothing outside its own directory.
    let [.., nix] = nix::versions();
    let program = firn();
    let read_only = |path: &Path| format!("--volume={0}:{0}:ro", path.display());
    let docker = find("docker").display().to_string();
    let mut command: Vec<String> =
        [&docker, "--host", &dockerd.host(), "run", "--rm", "--read-only", "--network=host"]
            .map(str::to_owned)
            .to_vec();
    command.extend([
        read_only(Path::new("/usr")),
        read_only(Path::new("/etc/passwd")),
        read_only(Path::new("/etc/ssl")),
        read_only(program.parent().expect("a directory")),
        read_only(package_set::bundled()),
        read_only(nix.parent().expect("a directory")),
        // Where the test keeps the server's data.
        format!("--volume={0}:{0}", std::env::temp_dir().display()),
        format!("--env=PATH={}:/usr/bin:/bin", nix.display()),
        "--env=HOME=/root".to_owned(),
    ]);
    command.extend(VARIABLES.map(|name| format!("--env={name}")));
    command.push("no-store".to_owned());
    command
}

/// The store paths of outputs that are below a directory.
fn outputs_below(dir: &Path, outputs: &[String]) -> Vec<String> {
    let all = Program::new("find").args([dir]).run().text();
    let named =
        |output: &&String| all.lines().any(|line| line.ends_with(output.trim_start_matches("/nix/store/")));
    outputs.iter().filter(named).cloned().collect()
}

#[test]
fn a_container_without_a_store_serves_images() {
    let dockerd = Dockerd::start();
    import_root(&dockerd);
    let cache = Cache::bundled(Compression::Zstd);
    let within = in_container(&dockerd);
    let has_store =
        [&within[1..], &["bash".to_owned(), "-c".to_owned(), "! test -e /nix".to_owned()]].concat();
    dockerd.docker(&has_store[2..].iter().map(String::as_str).collect::<Vec<_>>()).succeeded();

    let backend = backend(&[&cache.url()], &[cache.key()])
        .within(&within.iter().map(String::as_str).collect::<Vec<_>>())
        .start();
    let image = format!("{}/shell/git/hello", backend.address());
    dockerd.pull(&image);
    let said = dockerd.run(&[], &image, &["bash", "-c", "git --version; hello"]).succeeded();
    assert!(said.starts_with("git version ") && said.ends_with("Hello, world!"), "{said}");
    let expect = Image::pull(&from_store().registry(), "shell/git/hello");
    assert_eq!(Image::pull(&backend.registry(), "shell/git/hello").digests(), expect.digests());
    // Its own store has expressions only.
    let outputs = CacheDir::bundled(Compression::Zstd).outputs().to_vec();
    assert_eq!(outputs_below(&backend.data(), &outputs), Vec::<String>::new());
}

#[test]
fn a_read_only_store_is_enough() {
    let script = "mount -t tmpfs -o ro firn-test /nix && exec \"$@\"";
    let within = ["unshare", "--mount", "--propagation=private", "bash", "-c", script, "read-only"];
    let cache = Cache::bundled(Compression::Xz);
    let backend: Backend = backend(&[&cache.url()], &[cache.key()]).within(&within).start();
    let expect = Image::pull(&from_store().registry(), "hello");
    assert_eq!(Image::pull(&backend.registry(), "hello").digests(), expect.digests());
}
