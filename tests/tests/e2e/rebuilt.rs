//! Store paths that were lost and rebuilt with other bytes. The packages of an image were recorded before and after
//! that, by one backend or by several on one bucket, which take turns at the Nix store as if each had its own.

use firn_shared::composition::disagree;
use firn_tests::{
    backend::Backend,
    composition::Published,
    image::Image,
    layer::sha256,
    nix, package_set,
    registry::Registry,
    s3::{BUCKET, S3},
    wait::{LONG, until},
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use tempfile::TempDir;

/// A package set of `shared`, which has other bytes at each build and is large enough for a layer of its own, and of
/// `a`, `b` and `c`, which refer to it.
struct Unsteady {
    dir: TempDir,
    paths: BTreeMap<String, String>,
}

/// One build of `shared`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Build {
    /// Digest of its NAR in base 16. The smallest one is chosen.
    nar_hash: String,
    /// Digest of the file in it.
    content: String,
}

impl Unsteady {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let salt = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let expression = format!(
            r#"{{ system, ... }}:
let
  make = name: script: derivation {{
    inherit name system;
    builder = "/bin/bash";
    args = [ "-e" "-c" "mkdir -p $out/share; ${{script}}; exit 0" ];
    PATH = "/usr/bin:/bin";
    salt = "{salt}";
  }};
  random = "/proc/sys/kernel/random/uuid";
  shared = make "shared-1.0" "read name < ${{random}}; head -c 8000000 /dev/urandom > $out/share/shared; touch $out/share/$name";
  user = name: make "${{name}}-1.0" "echo ${{shared}} > $out/share/${{name}}";
in
{{ inherit shared; a = user "a"; b = user "b"; c = user "c"; }}
"#
        );
        let dir = TempDir::new().expect("a temporary directory");
        package_set::write(&dir.path().join("set"), &expression);
        let expression = format!(
            "builtins.mapAttrs (_: p: p.outPath) (import {} {{ system = builtins.currentSystem; }})",
            dir.path().join("set").display()
        );
        let evaluation = ["--eval", "--strict", "--json", "--expr", &expression];
        let said = nix::program("nix-instantiate").args(evaluation).run().succeeded();
        let paths = serde_json::from_str(&said).expect("paths");
        Self { dir, paths }
    }

    fn set(&self) -> PathBuf {
        self.dir.path().join("set")
    }

    /// A backend with a data directory of its own, which is kept.
    fn backend(&self, options: &[&str]) -> Backend {
        Backend::serving(&self.set()).data(&self.dir.path().join("data")).args(options).start()
    }

    /// The storage of that backend.
    fn store(&self) -> PathBuf {
        self.dir.path().join("data/storage")
    }

    /// Deletes all packages from the Nix store.
    fn lose(&self) {
        let there: Vec<_> = self.paths.values().filter(|path| Path::new(path).exists()).collect();
        // A backend may be packing some of them for later images.
        until("nothing keeps it", LONG, || {
            let deleted = nix::program("nix-store").args(["--delete"]).args(&there).run();
            (deleted.status == 0).then_some(())
        });
        assert!(self.paths.values().all(|path| !Path::new(path).exists()));
    }

    /// The current build of `shared` in the Nix store.
    fn build(&self) -> Build {
        let path = &self.paths["shared"];
        let dump = nix::program("nix-store").args(["--dump-db", path]).run().succeeded();
        let file = File::open(format!("{path}/share/shared")).expect("it is built");
        Build {
            nar_hash: dump.lines().nth(1).expect("a hash").to_owned(),
            content: sha256(file).expect("its digest"),
        }
    }

    /// Has Nix build a package.
    fn realise(&self, attribute: &str) {
        let set = self.set().display().to_string();
        let arguments = ["--no-out-link", &set, "-A", attribute, "--argstr", "system", SYSTEM];
        nix::program("nix-build").args(arguments).run().succeeded();
    }

    /// Deletes all packages from the Nix store, and rebuilds `shared` until its digest is larger than this build's.
    fn rebuild(&self, winner: &Build) -> Build {
        loop {
            self.lose();
            self.realise("shared");
            let build = self.build();
            if build.nar_hash > winner.nar_hash {
                return build;
            }
        }
    }

    /// Records a first build of `shared` with `a`, and a build with a larger digest with `b`.
    fn record_two(&self, registry: &Registry) -> (Build, Build) {
        registry.built("a", "latest");
        let first = self.build();
        let second = self.rebuild(&first);
        registry.built("b", "latest");
        assert_eq!(content(registry, "a"), first.content);
        assert_eq!(content(registry, "b"), second.content);
        (first, second)
    }
}

/// The platform of the package set.
const SYSTEM: &str = if cfg!(target_arch = "aarch64") { "aarch64-linux" } else { "x86_64-linux" };

/// The digest of the only file of `shared` in an image. Asserts that a store path in two layers has one content, and
/// that links do not dangle.
fn content(registry: &Registry, image: &str) -> String {
    let layers = Image::pull(registry, image).layers(registry);
    let text =
        |path: &[u8]| String::from_utf8(path.to_vec()).expect("UTF-8").trim_start_matches('/').to_owned();
    let mut entries = BTreeMap::new();
    for layer in &layers {
        for entry in &layer.entries {
            let path = text(&entry.path);
            if let Some(other) = entries.insert(path, entry) {
                assert_eq!((other.kind, &other.content), (entry.kind, &entry.content), "{image}");
            }
        }
    }
    for (path, entry) in &entries {
        if let Some(target) =
            entry.target.as_deref().map(text).filter(|target| target.starts_with("nix/store/"))
        {
            assert!(entries.contains_key(&target), "{image}: /{path} leads to /{target}, which is not there");
        }
    }
    let shared = entries.iter().filter(|(path, _)| path.ends_with("-shared-1.0/share/shared"));
    let shared: Vec<_> = shared.map(|(_, entry)| entry.content.clone().expect("a file")).collect();
    assert_eq!(shared.len(), 1, "{image}");
    shared.into_iter().next().expect("one")
}

/// Asserts that all package records in a store have the same content for each path.
fn assert_agree(store: &Path) {
    let mut contents: BTreeMap<String, String> = BTreeMap::new();
    for file in files(&store.join("packages")) {
        let text = std::fs::read_to_string(store.join("packages").join(&file)).expect("a record");
        let json: Value =
            serde_json::from_str(text.lines().nth(1).expect("a header, then JSON")).expect("JSON");
        for info in json["package"]["Ok"]["closure"].as_array().into_iter().flatten() {
            let text = |field: &str| info[field].as_str().expect("a text").to_owned();
            let content = contents.entry(text("path")).or_insert_with(|| text("nar_hash"));
            assert_eq!(*content, text("nar_hash"), "{}", text("path"));
        }
    }
    assert!(!contents.is_empty());
}

/// The rule needs only records. So an edge makes the same image from them, and the backend needs no Nix.
#[test]
fn records_that_disagree_are_settled_by_a_rule() {
    let unsteady = Unsteady::new();
    let backend = unsteady.backend(&[]);
    let registry = backend.registry();
    let (first, _) = unsteady.record_two(&registry);
    let third = {
        unsteady.rebuild(&first);
        registry.built("c", "latest");
        unsteady.build()
    };
    let names = ["a/b", "a/b/c", "b/c"];
    let before = Published::by(&registry, "a");
    let composed = names.map(|name| before.compose(&name.parse().expect("a name")).expect("it is composed"));
    let known = ["a", "b", "c"].map(|package| before.known(package).expect("a record"));
    assert!(disagree(known), "or there is nothing to settle");
    unsteady.lose();

    let processes = backend.nix_processes();
    for (name, composed) in names.iter().zip(composed).take(2) {
        assert_eq!(content(&registry, name), first.content, "{name}");
        assert_eq!(registry.manifest(name).body, composed.oci.bytes, "{name}");
    }
    assert_eq!(backend.nix_processes(), processes);
    assert_ne!(third, first);
    assert_agree(&unsteady.store());
    let after = Published::by(&registry, "a");
    assert!(!disagree(["a", "b", "c"].map(|package| after.known(package).expect("a record"))));
    // All records now have the smallest digest, so no image has another content.
    assert_eq!(content(&registry, "b/c"), first.content);
}

/// Several backends built different contents, and all make images of them at once.
#[test]
fn backends_on_one_bucket_come_to_the_same() {
    let s3 = S3::start();
    let unsteady = Unsteady::new();
    let backends: Vec<Backend> = (0..3)
        .map(|_| {
            let backend = Backend::serving(&unsteady.set()).env("FIRN_STORAGE", &format!("s3://{BUCKET}"));
            s3.environment()
                .into_iter()
                .fold(backend, |backend, (name, value)| backend.env(name, value))
                .start()
        })
        .collect();
    let mut builds = Vec::new();
    for (backend, package) in backends.iter().zip(["a", "b", "c"]) {
        if !builds.is_empty() {
            unsteady.lose();
        }
        backend.registry().built(package, "latest");
        builds.push(unsteady.build());
    }
    let contents: BTreeSet<_> = builds.iter().map(|build| build.content.clone()).collect();
    assert_eq!(contents.len(), 3);
    unsteady.lose();

    let names = ["a/b", "b/c", "a/c", "a/b/c"];
    thread::scope(|scope| {
        for backend in &backends {
            for name in names {
                scope.spawn(move || backend.registry().built(name, "latest"));
            }
        }
    });
    for name in names {
        for backend in &backends {
            let found = content(&backend.registry(), name);
            assert!(contents.contains(&found), "{name}");
        }
    }
    // The order of requests decides which records an image of two packages found. An image of all three has the
    // smallest digest.
    let winner = &builds.iter().min_by_key(|build| &build.nar_hash).expect("three").content;
    let digests = |backend: &Backend| Image::pull(&backend.registry(), "a/b/c").digests();
    for backend in &backends {
        assert_eq!(content(&backend.registry(), "a/b/c"), *winner);
        assert_eq!(digests(backend), digests(&backends[0]));
    }
    // Some records may have been changed to a larger digest last.
    assert_eq!(content(&backends[0].registry(), "user/a/b/c"), *winner);
    assert_agree(&s3.objects());
    for (backend, name) in backends.iter().zip(["user/a/b", "user/b/c", "user/a/c"]) {
        assert_eq!(content(&backend.registry(), name), *winner, "{name}");
    }
    assert_eq!(backends.iter().map(|backend| backend.logged("realising")).sum::<usize>(), 0);
}

/// The chosen content was not packed as needed, and is in no Nix store any more. Then the content in the Nix store is
/// used.
#[test]
fn what_cannot_be_packed_any_more_is_replaced() {
    let unsteady = Unsteady::new();
    // All of an image is in one layer, which no other image has.
    let backend = unsteady.backend(&["--layer-budget", "1"]);
    let registry = backend.registry();
    let (_, second) = unsteady.record_two(&registry);
    // The Nix store has b, and the content with the larger digest.
    assert_eq!(content(&registry, "a/b"), second.content);
    assert_agree(&unsteady.store());
    assert_eq!(backend.logged("realising again"), 1);
    // That decision overrules the records of others. The Nix store loses this content too, so the next one is
    // decided.
    unsteady.lose();
    registry.built("c", "latest");
    let now = unsteady.build().content;
    assert_ne!(now, second.content);
    for image in ["a/c", "b/c", "a/b/c"] {
        assert_eq!(content(&registry, image), now, "{image}");
    }
    assert_agree(&unsteady.store());
}

/// A package's record lists the files of its output. If the image has another content of that output, the list must
/// match that content.
#[test]
fn what_a_package_lists_is_what_its_image_has() {
    let unsteady = Unsteady::new();
    let backend = unsteady.backend(&[]);
    let registry = backend.registry();
    registry.built("a", "latest");
    let first = unsteady.build();
    let second = unsteady.rebuild(&first);
    registry.built("shared", "latest");
    // An edge cannot know the files of the other content.
    let published = Published::by(&registry, "a");
    published.compose(&"a/shared".parse().expect("a name")).expect_err("it takes a Nix store");
    assert_eq!(content(&registry, "a/shared"), second.content);
    assert_agree(&unsteady.store());
    assert_eq!(backend.logged("realising what records disagree about"), 1);
    // The decision is recorded, so b's record is changed to it.
    let third = unsteady.rebuild(&second);
    registry.built("b", "latest");
    assert_eq!(content(&registry, "b"), third.content);
    assert_eq!(content(&registry, "a/b"), second.content);
    assert_eq!(content(&registry, "a/b/shared"), second.content);
    assert_agree(&unsteady.store());
}

/// A layer's key contains the contents of its members. What the Nix store has now is not packed under the key of
/// earlier contents.
#[test]
fn layers_hold_the_contents_that_they_are_known_by() {
    let unsteady = Unsteady::new();
    let second = {
        let backend = unsteady.backend(&[]);
        unsteady.record_two(&backend.registry()).1
    };
    // With another compression, all layers must be packed. The Nix store has a, and the content of b's record.
    unsteady.realise("a");
    let backend = unsteady.backend(&["--compression", "gzip:1"]);
    let registry = backend.registry();
    assert_eq!(content(&registry, "a"), second.content);
    assert_eq!(backend.logged("has another content in the Nix store than on record"), 1);
    registry.built("b", "latest");
    assert_agree(&unsteady.store());
    assert_eq!(content(&registry, "a/b"), second.content);
}

/// The backend is killed while it makes records agree, or before the image is stored. The next backend makes the
/// image.
#[test]
fn a_kill_in_the_middle_costs_nothing() {
    let unsteady = Unsteady::new();
    let options = ["--layer-budget", "1"];
    let backend = unsteady.backend(&options);
    unsteady.record_two(&backend.registry());
    let records = unsteady.store().join("packages");
    let kept = unsteady.dir.path().join("kept");
    copy(&records, &kept);
    let registry = backend.registry();
    let client = thread::spawn(move || registry.try_request("GET", "/v2/a/b/manifests/latest", &[]));
    until("records are made anew", LONG, || (backend.logged("realising again") > 0).then_some(()));
    backend.kill();
    // It does not matter here if the kill came too late.
    let _ = client.join().expect("the client's thread");
    let backend = unsteady.backend(&options);
    let made = content(&backend.registry(), "a/b");
    assert_eq!(made, unsteady.build().content);
    assert_agree(&unsteady.store());

    // Between the writes of two records: for each of them, it is old and the other one is new.
    let is_user =
        |file: &&PathBuf| std::fs::read_to_string(kept.join(file)).expect("a record").contains("-shared-1.0");
    let all = files(&kept);
    let users: Vec<_> = all.iter().filter(is_user).collect();
    assert_eq!(users.len(), 2);
    for (file, name) in users.into_iter().zip(["user/a/b", "a/b/c"]) {
        std::fs::copy(kept.join(file), records.join(file)).expect("a record is put back");
        assert_eq!(content(&backend.registry(), name), made, "{name}");
        assert_agree(&unsteady.store());
    }
}

/// The files below a directory, by relative path.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut next = vec![PathBuf::new()];
    while let Some(at) = next.pop() {
        for entry in std::fs::read_dir(dir.join(&at)).expect("a directory") {
            let entry = entry.expect("an entry");
            let path = at.join(entry.file_name());
            if entry.path().is_dir() { next.push(path) } else { all.push(path) }
        }
    }
    all
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let place = to.join(&file);
        std::fs::create_dir_all(place.parent().expect("a directory")).expect("made");
        std::fs::copy(from.join(&file), place).expect("copied");
    }
}
