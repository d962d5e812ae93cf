//! Nix is used for packages that are not known yet, and for nothing else.

use firn_tests::{backend::Backend, image::Image, nix, package_set, program::find};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

/// A directory of programs that record their arguments and then run Nix.
fn recording_nix(dir: &Path) -> String {
    let bin = dir.join("bin");
    fs::create_dir_all(&bin).expect("a directory");
    for name in ["nix-store", "nix-instantiate", "nix-build", "nix"] {
        let script = format!(
            "#!/bin/bash\nprintf '%s\\n' \"{name} $*\" >>'{}/calls'\nexec '{}' \"$@\"\n",
            dir.display(),
            find(name).display()
        );
        let path = bin.join(name);
        fs::write(&path, script).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
    }
    format!("{}:{}", bin.display(), std::env::var("PATH").expect("$PATH is set"))
}

/// Nix makes no layers, archives or hashes: it only realises the requested packages.
#[test]
fn nix_builds_packages_and_nothing_else() {
    let dir = TempDir::new().expect("a temporary directory");
    let backend = Backend::serving(package_set::bundled()).env("PATH", &recording_nix(dir.path())).start();
    Image::pull(&backend.registry(), "jq/hello").layers(&backend.registry());
    let calls = fs::read_to_string(dir.path().join("calls")).expect("Nix was called");
    let mut built = BTreeSet::new();
    for call in calls.lines() {
        let words: Vec<&str> = call.split(' ').collect();
        match (words[0], words[1]) {
            ("nix-instantiate", _) => assert!(call.contains("allow-import-from-derivation false"), "{call}"),
            ("nix-store", "--realise") => built.extend(
                words.iter().filter_map(|word| word.strip_prefix("/nix/store/")?.split_once(".drv!")).map(
                    |(drv, _)| {
                        drv.split_once('-')
                            .expect("a hash and a name")
                            .1
                            .trim_end_matches(|c: char| !c.is_alphabetic())
                            .to_owned()
                    },
                ),
            ),
            ("nix-store", "--query" | "--dump-db") => {}
            // At the start, for the binary caches that Nix is configured with.
            ("nix", _) => assert!(call.contains("config"), "{call}"),
            _ => panic!("Nix was asked for something else: {call}"),
        }
    }
    let expect = ["cacert", "hello", "iana-etc", "jq"];
    assert!(built.iter().map(String::as_str).eq(expect), "{built:?}");
}

/// A combination of known packages starts no process at all, even after the server was restarted and Nix was removed.
#[test]
fn known_packages_need_no_nix() {
    let data = TempDir::new().expect("a temporary directory");
    let digests = |backend: &Backend, name: &str| Image::pull(&backend.registry(), name).digests();
    let combined;
    {
        let backend = Backend::serving(package_set::bundled()).data(data.path()).start();
        digests(&backend, "shell/jq");
        digests(&backend, "git");
        let before = backend.nix_processes();
        assert!(before > 0, "the counter counts");
        combined = digests(&backend, "git/jq");
        digests(&backend, "shell/git/jq");
        // Another order, or a repeated name, is the same image.
        assert_eq!(digests(&backend, "jq/git/jq"), combined);
        assert_eq!(backend.nix_processes(), before);
    }
    let backend =
        Backend::serving(package_set::bundled()).data(data.path()).env("PATH", "/nonexistent").start();
    assert_eq!(digests(&backend, "git/jq"), combined);
    digests(&backend, "coreutils/jq");
    assert_eq!(backend.nix_processes(), 0);
    // Nix would be needed for this one. That it is missing is not the client's fault.
    assert_eq!(backend.registry().manifest("hello").status, 500);
}

/// Of a second image, only new layers are packed: layers are keyed by their contents.
#[test]
fn layers_are_packed_once() {
    let backend = Backend::start();
    let registry = backend.registry();
    let packed = || backend.logged("layer packed");
    let pull = |name: &str| Image::pull(&registry, name).layer_digests().into_iter().collect::<BTreeSet<_>>();
    let (git, jq) = (pull("git"), pull("shell/jq"));
    let before = packed();
    assert_eq!(before, git.union(&jq).count() - 2, "all but the two symlink layers, each once");
    let both = pull("shell/git/jq");
    assert_eq!(packed(), before, "nothing is packed for a combination");
    let new: Vec<_> = both.iter().filter(|digest| !git.contains(*digest) && !jq.contains(*digest)).collect();
    assert_eq!(new.len(), 1, "only the symlink layer is new");
    pull("tree");
    assert!(packed() > before, "what is new is packed");
}

/// One evaluation per image, whatever the number of packages.
#[test]
fn names_are_resolved_together() {
    // How many processes it takes depends on whether the packages are in the store, and other tests may build them.
    nix::build(package_set::bundled(), &["less", "tree", "which", "file", "bc", "cacert", "iana-etc"]);
    let own = Backend::start();
    own.registry().built("less", "latest");
    let one = own.nix_processes();
    own.registry().built("tree/which/file/bc", "latest");
    assert_eq!(own.nix_processes(), 2 * one);
}

/// Store paths that were collected are made again if a layer needs them, and only then.
#[test]
fn collected_store_paths_are_realised_again() {
    let data = TempDir::new().expect("a temporary directory");
    let set = data.path().join("set");
    let text = format!("collected {}", std::process::id());
    package_set::write(&set, &package_set::small(&text));
    let start =
        |options: &[&str]| Backend::serving(&set).data(&data.path().join("data")).args(options).start();
    let first = {
        let backend = start(&[]);
        Image::pull(&backend.registry(), "greeting").digests()
    };
    let (path, drv) = {
        let expression = format!(
            "with (import {} {{ system = builtins.currentSystem; }}).greeting; \"${{outPath}} ${{drvPath}}\"",
            set.display()
        );
        let said = nix::program("nix-instantiate").args(["--eval", "--expr", &expression]).run().succeeded();
        let (path, drv) = said.trim_matches('"').split_once(' ').expect("two paths");
        (path.to_owned(), drv.to_owned())
    };
    let collect = || {
        nix::program("nix-store").args(["--delete", &path, &drv]).run().succeeded();
        assert!(!Path::new(&path).exists());
    };
    collect();
    // All layers exist, so the store path is not needed.
    let backend = start(&[]);
    assert_eq!(Image::pull(&backend.registry(), "greeting").digests(), first);
    assert_eq!(backend.nix_processes(), 0);
    drop(backend);
    // With another compression, its layer must be packed.
    let check = |compression: &str| {
        let backend = start(&["--compression", compression]);
        let image = Image::pull(&backend.registry(), "greeting");
        let layers = image.layers(&backend.registry());
        let mut entries = layers.iter().flat_map(|layer| &layer.entries);
        assert!(entries.any(|entry| entry.path.ends_with(b"share/greeting")), "the whole of it");
        assert_eq!(backend.logged("realising again"), 1, "{}", backend.log());
        assert!(backend.nix_processes() > 0);
    };
    check("gzip:1");
    // Nix deletes a path from its database before it deletes the files. An interrupted collection leaves files
    // behind.
    collect();
    fs::create_dir_all(Path::new(&path).join("share")).expect("a half-deleted store path");
    check("gzip:3");
}
