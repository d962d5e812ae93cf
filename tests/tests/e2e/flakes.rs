//! Flakes as package sets: locked, in a repository or at a path, with each Nix, and without its experimental features.

use firn_tests::{
    backend::{Backend, Starting, command},
    git::Repository,
    image::Image,
    nix, package_set,
    program::{Finished, Program},
    registry::Answer,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use tempfile::TempDir;

/// A repository with a flake, and one with its input.
struct Flake {
    dir: TempDir,
    repository: Repository,
}

/// The expression of a flake. Its package has a word of the input, and its own commit, date and files in it.
fn expression(input: &str, salt: &str) -> String {
    format!(
        r#"{{
  inputs.words = {{ url = "{input}"; }};
  inputs.files = {{ url = "{input}"; flake = false; }};
  outputs = {{ self, words, files }}:
    let
      system = "{system}";
      package = name: script: derivation {{
        inherit name system;
        builder = "/bin/bash";
        args = [ "-e" "-c" "mkdir -p $out/share; ${{script}}; exit 0" ];
        PATH = "/usr/bin:/bin";
        here = ./.;
        inherit self;
        salt = "{salt}";
      }};
      word = "${{words.word}} ${{self.shortRev or "dirty"}} ${{self.lastModifiedDate or "no date"}}";
    in
    {{
      packages.${{system}} = {{
        greeting = package "greeting-1.0" "echo ${{word}} $(cat $here/text ${{files}}/text) > $out/share/greeting";
        default = self.packages.${{system}}.greeting;
      }};
      legacyPackages.${{system}} = {{
        greeting = throw "packages come first";
        nested.other = package "other-1.0" "cp $self/text $out/share/other";
      }};
    }};
}}
"#,
        system = system(),
    )
}

/// Nix's name for this machine's platform.
fn system() -> String {
    format!("{}-linux", std::env::consts::ARCH)
}

impl Flake {
    fn new(salt: &str) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let input = Repository::new(&dir.path().join("input"));
        write(&dir.path().join("input"), "flake.nix", r#"{ outputs = _: { word = "hello"; }; }"#);
        write(&dir.path().join("input"), "text", "of the input\n");
        input.git(&["add", "."]);
        input.git(&["commit", "--quiet", "--message", "An input"]);
        let place = dir.path().join("flake");
        let repository = Repository::new(&place);
        write(&place, "text", "of the flake\n");
        write(&place, "flake.nix", &expression(&format!("git+{}", input.url()), salt));
        repository.git(&["add", "."]);
        Program::new("nix")
            .args(["flake", "lock"])
            .in_dir(&place)
            .env("NIX_CONFIG", features())
            .run()
            .succeeded();
        let flake = Self { dir, repository };
        flake.commit();
        flake
    }

    fn place(&self) -> PathBuf {
        self.dir.path().join("flake")
    }

    fn url(&self) -> String {
        format!("git+{}", self.repository.url())
    }

    /// Commits everything. Returns the commit.
    fn commit(&self) -> String {
        self.repository.git(&["add", "."]);
        self.repository.git(&["commit", "--quiet", "--message", "A flake"]);
        self.repository.git(&["rev-parse", "HEAD"])
    }

    fn serve(&self, nix: &Path) -> Starting {
        with(nix, &["--flake", &self.url()])
    }
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).expect("written");
}

/// Nix's settings for its own commands about flakes.
fn features() -> String {
    format!("{}\nexperimental-features = nix-command flakes\n", nix::config())
}

/// Nix's settings for Firn: no experimental features.
fn plain() -> String {
    format!("{}\nexperimental-features =\n", nix::config())
}

/// A backend that uses this Nix.
fn with(nix: &Path, arguments: &[&str]) -> Starting {
    let path = format!("{}:{}", nix.display(), std::env::var("PATH").expect("$PATH is set"));
    Backend::with(arguments).env("PATH", &path).env("NIX_CONFIG", &plain())
}

fn built(backend: &Backend, name: &str, tag: &str) -> Answer {
    let answer = backend.registry().built(name, tag);
    assert_eq!(answer.status, 200, "{name}:{tag}: {}\n{}", answer.text(), backend.log());
    answer
}

fn label(answer: &Answer, name: &str) -> String {
    answer.json()["annotations"][format!("org.opencontainers.image.{name}")]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// The store path of a file in an image.
fn store_path_of(backend: &Backend, name: &str, answer: &Answer, file: &str) -> String {
    let image = Image::from_answer(&backend.registry(), name, answer);
    let layers = image.layers(&backend.registry());
    let mut paths =
        layers.iter().flat_map(|layer| &layer.entries).map(|entry| String::from_utf8_lossy(&entry.path));
    let path =
        paths.find(|path| path.contains("nix/store/") && path.ends_with(file)).expect("the file is there");
    format!("/{}", path.trim_start_matches('/').trim_end_matches(file).trim_end_matches('/'))
}

/// The store path of an output of the flake, as Nix evaluates it.
fn evaluated(nix: &Path, url: &str, attribute: &str) -> String {
    let url = format!("{url}#{attribute}.outPath");
    Program::at(nix.join("nix")).args(["eval", "--raw", &url]).env("NIX_CONFIG", features()).run().succeeded()
}

#[test]
fn a_flake_is_what_nix_makes_of_it() {
    thread::scope(|scope| {
        for (i, nix) in nix::versions().into_iter().enumerate() {
            scope.spawn(move || is_what_nix_makes_of_it(&nix, &format!("{i} {}", std::process::id())));
        }
    });
}

fn is_what_nix_makes_of_it(nix: &Path, salt: &str) {
    let flake = Flake::new(salt);
    let first = flake.repository.git(&["rev-parse", "HEAD"]);
    flake.repository.git(&["tag", "v1"]);
    write(&flake.place(), "text", "that is newer\n");
    // The same commit is another package set without its flake.
    package_set::write(&flake.place(), &package_set::small("plain"));
    let second = flake.commit();
    let backend = flake.serve(nix).start();
    let latest = built(&backend, "greeting", "latest");
    assert_eq!(label(&latest, "revision"), second);
    assert_eq!(label(&latest, "source"), flake.repository.url());
    let format = "--date=format-local:%Y-%m-%dT%H:%M:%SZ";
    let committed = flake.repository.git(&["show", "--no-patch", "--format=%cd", format, &second]);
    assert_eq!(label(&latest, "created"), committed);
    let path = store_path_of(&backend, "greeting", &latest, "share/greeting");
    assert_eq!(path, evaluated(nix, &flake.url(), &format!("packages.{}.greeting", system())), "{nix:?}");
    let text = fs::read_to_string(format!("{path}/share/greeting")).expect("it was built here");
    let expect = format!(
        "hello {} {} that is newer of the input\n",
        &second[..7],
        committed.replace(|c: char| !c.is_ascii_digit(), "")
    );
    assert_eq!(text, expect);
    // Names in either set, and what `nix build` takes without a name.
    let other = built(&backend, "nested.other", "latest");
    let path = store_path_of(&backend, "nested.other", &other, "share/other");
    assert_eq!(
        path,
        evaluated(nix, &flake.url(), &format!("legacyPackages.{}.nested.other", system())),
        "{nix:?}"
    );
    assert_eq!(built(&backend, "default", "latest").status, 200);

    // Nothing runs for what is known, and the files are not copied again for a new name.
    let before = backend.nix_processes();
    built(&backend, "greeting", "latest");
    assert_eq!(backend.nix_processes(), before);

    // Callers choose branches and tags. Their inputs are downloaded from where the operator's Nix may.
    let refused = backend.registry().settled("greeting", "v1");
    let (code, message) = refused.error();
    assert_eq!((refused.status, &*code), (404, "MANIFEST_UNKNOWN"), "{nix:?} {message}\n{}", backend.log());
    assert!(message.contains("allows only at the revision that the tag latest names"), "{nix:?} {message}");
    let refused = backend.registry().settled("greeting", &first);
    assert!(refused.error().1.contains("but no commits"), "{}", refused.text());
    let input = format!("file://{0}/input git+file://{0}/", flake.dir.path().display());
    let allowing =
        flake.serve(nix).env("NIX_CONFIG", &format!("{}\nallowed-uris = {input}\n", plain())).start();
    let old = built(&allowing, "greeting", "v1");
    assert_eq!(label(&old, "revision"), first);
    assert_ne!(old.header("docker-content-digest"), latest.header("docker-content-digest"));

    // There are no packages for another system, and the message says so.
    let other = if system() == "aarch64-linux" { "amd64" } else { "arm64" };
    let missing = backend.registry().settled(&format!("{other}/greeting"), "latest");
    assert_eq!(missing.status, 404, "{}", missing.text());
    assert!(missing.error().1.contains("the flake has no packages for"), "{}", missing.text());
}

#[test]
fn a_flake_and_another_package_set_of_one_commit_share_nothing() {
    let flake = Flake::new(&format!("shares {}", std::process::id()));
    package_set::write(&flake.place(), &package_set::small("plain"));
    let commit = flake.commit();
    let data = flake.dir.path().join("data");
    let [nix, ..] = nix::versions();
    let digest = |option: &str, url: &str| {
        let backend = with(&nix, &[option, url]).data(&data).start();
        let answer = built(&backend, "greeting", "latest");
        assert_eq!(label(&answer, "revision"), commit);
        answer.header("docker-content-digest").expect("a digest").to_owned()
    };
    let as_flake = digest("--flake", &flake.url());
    assert_ne!(digest("--pkgs-repo", &flake.repository.url()), as_flake);
    assert_eq!(digest("--flake", &flake.url()), as_flake);
}

#[test]
fn a_flake_at_a_path_changes_with_its_files() {
    let flake = Flake::new(&format!("path {}", std::process::id()));
    let url = format!("path:{}", flake.place().display());
    let [nix, ..] = nix::versions();
    let backend = with(&nix, &["--flake", &url]).start();
    let ask = || built(&backend, "greeting", "latest").header("docker-content-digest").map(str::to_owned);
    let first = ask();
    write(&flake.place(), "text", "that is newer\n");
    let second = ask();
    assert_ne!(first, second);
    // What git keeps of its own is not part of it.
    flake.commit();
    assert_eq!(ask(), second);
}

fn check(flake: &Flake, url: &str) -> Finished {
    let data = flake.dir.path().join("data").display().to_string();
    command(&["check-config", "--flake", url, "--data", &data]).env("NIX_CONFIG", plain()).run()
}

#[test]
fn what_is_wrong_with_a_flake_is_said() {
    let flake = Flake::new(&format!("wrong {}", std::process::id()));
    let says = |url: &str, status: i32, text: &str| {
        let said = check(&flake, url);
        assert!(said.status == status && said.all().contains(text), "{url}: {}", said.all());
    };
    says(&flake.url(), 0, "loads at commit");
    says("nixpkgs", 2, "registry of flakes");
    says("https://example.org/flake.tar.gz", 2, "an archive has no branches");
    says(&format!("{}?dir=nowhere", flake.url()), 1, "flake.nix");
    let commit = |name: &str, text: Option<&str>| {
        match text {
            Some(text) => write(&flake.place(), name, text),
            None => fs::remove_file(flake.place().join(name)).expect("it was there"),
        }
        flake.commit();
    };
    let outputs = r#"{ inputs.more.url = "github:o/r"; outputs = _: { packages = { }; }; }"#;
    fs::create_dir_all(flake.place().join("sub")).expect("made");
    commit("sub/flake.nix", Some(&format!(r#"{{ outputs = _: {{ packages.{}.x = 1; }}; }}"#, system())));
    says(&format!("{}?dir=sub", flake.url()), 0, "loads at commit");
    commit("flake.nix", Some(outputs));
    says(&flake.url(), 1, "flake.lock lacks inputs of the flake (more); run: nix flake lock");
    commit("flake.lock", None);
    says(&flake.url(), 1, "the flake has inputs (more) but no flake.lock; run: nix flake lock");
    commit("flake.nix", Some("{ outputs = _: { }; }"));
    says(&flake.url(), 1, "the flake has neither legacyPackages nor packages");
    commit("flake.nix", Some("{ outputs = _: { packages.riscv64-linux = { }; }; }"));
    says(&flake.url(), 1, "the flake has no packages for");
}
