//! Packages that cannot be built: which of them would fail again, and which may succeed at the next attempt. Tested
//! with every supported Nix.

use Outcome::{Lasting, Passing};
use firn_tests::{
    backend::{Backend, Starting, command},
    image::Image,
    nix, package_set,
    program::{Program, find},
    random::Random,
    service::{self, Service},
    tmpfs::Tmpfs,
    wait::LONG,
};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// What the client is told.
#[derive(Clone, Copy)]
enum Outcome {
    /// 404 with these words. The same answer, at once, if the client asks again.
    Lasting(&'static str),
    /// 503 with these words. Another attempt if the client asks again.
    Passing(&'static str),
}

/// A package, `make`'s attributes for it, its builder's script, what clients are told, and words in the log.
type Case = (&'static str, &'static str, &'static str, Outcome, &'static str);

const FAILS: Outcome = Lasting("its builder fails");
const REJECTED: Outcome = Lasting("its builder does not make what it promises");
const HASH: Outcome = Lasting("another hash than the package set says");
const SENSELESS: Outcome = Lasting("Nix cannot build what its expression describes");
const NO_MACHINE: Outcome = Lasting("no machine that builds for x86_64-linux");
const NETWORK: Outcome = Passing("for want of network");
const SPACE: Outcome = Passing("for want of space");
const INTERRUPTED: Outcome = Passing("interrupted; pull again");

/// The ways in which builds can fail. `fixed`, `checks`, `other` and `dependency` are in [`set`].
const CASES: [Case; 34] = [
    ("fails", "", "echo it says so; exit 3", FAILS, "it says so"),
    ("crashes", "", "kill -SEGV $$", FAILS, "signal 11"),
    ("nobuilder", r#"builder = "/nonexistent";"#, "", FAILS, "/nonexistent"),
    ("unknownbuiltin", r#"system = "builtin"; builder = "builtin:unknown";"#, "", FAILS, "builtin"),
    ("dependencyfails", "", "exit 0", FAILS, "the dependency says so"),
    ("nothing", "", "exit 0", REJECTED, "failed to produce output path"),
    (
        "cycle",
        r#"outputs = [ "out" "dev" ];"#,
        "echo $dev > $out; echo $out > $dev; exit 0",
        REJECTED,
        "cycle",
    ),
    ("fifo", "", "mkdir $out; mkfifo $out/x; exit 0", REJECTED, "unsupported type"),
    ("isfifo", "", "mkfifo $out; exit 0", REJECTED, "unsupported type"),
    (
        "socket",
        "",
        "mkdir $out; cd $out; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"x\")'; exit 0",
        REJECTED,
        "unsupported type",
    ),
    ("permissions", "", "mkdir $out; chmod 777 $out; exit 0", REJECTED, "suspicious ownership or permission"),
    ("maxsize", "checks = { maxSize = 10; };", "", REJECTED, "is too large at"),
    ("maxclosuresize", "checks = { maxClosureSize = 10; };", "", REJECTED, "is too large at"),
    (
        "disallowed",
        "checks = { disallowedReferences = [ other ]; };",
        "",
        REJECTED,
        "is not allowed to refer to",
    ),
    (
        "disallowedall",
        "checks = { disallowedRequisites = [ other ]; };",
        "",
        REJECTED,
        "is not allowed to refer to",
    ),
    (
        "allowed",
        "allowedReferences = [ ]; inherit other;",
        "echo $other > $out; exit 0",
        REJECTED,
        "to refer to",
    ),
    (
        "allowedall",
        "allowedRequisites = [ ]; inherit other;",
        "echo $other > $out; exit 0",
        REJECTED,
        "to refer to",
    ),
    ("mismatch", "hash = fixed;", "echo something else > $out; exit 0", HASH, "hash mismatch"),
    ("mismatchbelow", "", "exit 0", HASH, "hash mismatch"),
    (
        "flatdirectory",
        "hash = fixed;",
        "mkdir $out; exit 0",
        REJECTED,
        "should be a non-executable regular file",
    ),
    ("foreign", r#"system = "sparc-linux";"#, "exit 0", NO_MACHINE, "sparc-linux"),
    ("feature", r#"requiredSystemFeatures = [ "quantum" ];"#, "exit 0", NO_MACHINE, "quantum"),
    ("badreference", r#"allowedReferences = [ "none" ];"#, "echo x > $out; exit 0", SENSELESS, "none"),
    (
        "badgraph",
        r#"exportReferencesGraph = [ "x" ];"#,
        "echo x > $out; exit 0",
        SENSELESS,
        "odd number of tokens",
    ),
    (
        "contentaddressed",
        r#"__contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256";"#,
        "",
        Lasting("ca-derivations"),
        "ca-derivations",
    ),
    (
        "imports",
        "part = import (make { name = \"part\"; });",
        "",
        Lasting("import from derivation"),
        "allow-import-from-derivation",
    ),
    ("offline", "hash = fixed;", "echo the host is gone; exit 6", NETWORK, "the host is gone"),
    ("offlinebelow", "", "exit 0", NETWORK, "the host is gone"),
    ("offlinebeside", "", "exit 0", NETWORK, "the host is gone"),
    (
        "downloads",
        r#"part = builtins.fetchurl "http://127.0.0.1:1/x";"#,
        "",
        Passing("what the package set downloads cannot be reached"),
        "127.0.0.1:1",
    ),
    (
        "nospace",
        "",
        "echo 'cannot create file: No space left on device'; exit 1",
        SPACE,
        "No space left on device",
    ),
    ("killed", "", "kill -9 $$", INTERRUPTED, "signal 9"),
    // The builder keeps printing: Nix may miss the signal between two reads of a builder's output.
    (
        "nixterminated",
        "",
        "kill -TERM $PPID; for i in {1..3000}; do sleep 0.1; echo x; done; exit 1",
        INTERRUPTED,
        "was ended from outside",
    ),
    ("nixkilled", "", "kill -KILL $PPID; exec sleep 1000", INTERRUPTED, "was ended from outside"),
];

/// The results of builds that reach the time limit.
const SLOW_CASES: [Case; 3] = [
    ("slow", "", "echo it begins; exec sleep 1000", Lasting("took longer than the 4 s"), "it begins"),
    ("slowdownload", "hash = fixed;", "echo it begins; exec sleep 1000", NETWORK, "it begins"),
    ("slownospace", "", "echo 'x: No space left on device'; exec sleep 1000", SPACE, "No space left"),
];

/// A package set of these, and of one that builds. None of them was ever built.
fn set(cases: &[Case], salt: &str) -> String {
    let packages: String = cases
        .iter()
        .map(|(name, attributes, script, ..)| {
            format!("  {name} = make ({{ name = \"{name}-{salt}\"; script = ''{script}''; {attributes} }} // below \"{name}\");\n")
        })
        .collect();
    format!(
        r#"{{ system, ... }}:
let
  # Output checks like these need structured attributes.
  checked = {{ checks ? null, hash ? {{ }}, script, ... }}@attributes:
    if checks == null then {{ args = [ "-c" script ]; }} // hash // removeAttrs attributes [ "hash" "script" ]
    else {{
      __structuredAttrs = true;
      outputChecks.out = checks;
      inherit other;
      args = [ "-c" "source $NIX_ATTRS_SH_FILE; echo $other > \${{outputs[out]}}; exit 0" ];
    }} // removeAttrs attributes [ "checks" "hash" "script" ];
  make = attributes: derivation ({{ inherit system; builder = "/bin/bash"; PATH = "/usr/bin:/bin"; }}
    // checked ({{ script = "echo x > $out; exit 0"; }} // attributes));
  fixed = {{
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = builtins.hashString "sha256" "what it should be {salt}";
  }};
  other = make {{ name = "other-{salt}"; }};
  fails = make {{ name = "below-{salt}"; script = "echo the dependency says so; exit 1"; }};
  offline = make {{ name = "offline-below-{salt}"; hash = fixed; script = "echo the host is gone; exit 6"; }};
  # The dependency of a package.
  below = name: {{
    dependencyfails.part = fails;
    mismatchbelow.part = make {{ name = "part-{salt}"; hash = fixed; script = "echo x > $out; exit 0"; }};
    offlinebelow.part = offline;
    offlinebeside = {{ part = offline; inherit fails; }};
  }}.${{name}} or {{ }};
in
{{
  good = make {{ name = "good-{salt}"; }};
{packages}}}
"#
    )
}

/// A backend that uses the Nix in this directory.
fn backend(set: &str, nix: &Path) -> Starting {
    let path = format!("{}:{}", nix.display(), std::env::var("PATH").expect("$PATH is set"));
    let config = format!("{}\ndownload-attempts = 1\n", nix::config());
    Backend::serving_expression(set).env("PATH", &path).env("NIX_CONFIG", &config)
}

/// Requests a package until the answer is final, and then again.
fn check(backend: &Backend, name: &str, outcome: Outcome, logged: &str, nix: &Path) {
    let (registry, nix) = (backend.registry(), nix.display());
    let (status, code, says) = match outcome {
        Lasting(says) => (404, "MANIFEST_UNKNOWN", says),
        Passing(says) => (503, "UNAVAILABLE", says),
    };
    let before_log = backend.log().len();
    let answer = registry.settled(name, "latest");
    let (found, message) = answer.error();
    let log = backend.log().split_off(before_log);
    assert!(
        answer.status == status && found == code && message.contains(says),
        "{name} with {nix}: {} {found}: {message}\n{log}",
        answer.status
    );
    assert!(!message.contains("/nix/"), "{name} with {nix}: {message}");
    let words: String = log.lines().filter(|line| !line.contains("@nix {")).collect();
    assert!(words.contains(logged), "{name} with {nix}: the log does not say why:\n{log}");
    let before = backend.nix_processes();
    let again = registry.settled(name, "latest");
    assert_eq!(again.status, status, "{name} with {nix}: {}", again.text());
    let is_tried_again = backend.nix_processes() > before;
    match outcome {
        Lasting(_) => {
            assert!(!is_tried_again, "{name} with {nix}: it is not tried again at once");
            assert_eq!(again.error().1, message, "{name} with {nix}");
        }
        Passing(_) => {
            assert!(is_tried_again, "{name} with {nix}: nothing is remembered");
            assert!(answer.header("retry-after").is_some(), "{name} with {nix}");
        }
    }
}

/// Runs the test with every Nix at the same time.
fn with_every_nix(test: &str, work: impl Fn(&Path, &str) + Sync) {
    let random = Random::seeded(test);
    thread::scope(|scope| {
        for (i, nix) in nix::versions().into_iter().enumerate() {
            let (work, mut random) = (&work, random.split(i));
            scope.spawn(move || work(&nix, &format!("{i}-{}", random.number())));
        }
    });
}

#[test]
fn failures_are_remembered_or_tried_again_by_their_cause() {
    with_every_nix("failures_are_remembered_or_tried_again_by_their_cause", |nix, salt| {
        let backend = backend(&set(&CASES, salt), nix).start();
        for (name, _, _, outcome, logged) in CASES {
            check(&backend, name, outcome, logged, nix);
        }
        // A good package that was requested with a bad one is still available by itself.
        let registry = backend.registry();
        assert_eq!(registry.settled("good/fails", "latest").status, 404);
        assert_eq!(registry.settled("good/contentaddressed", "latest").status, 404);
        assert_eq!(registry.settled("good", "latest").status, 200);
    });
}

/// A client of a Nix daemon exits with 1 whatever happened.
#[test]
fn failures_through_a_daemon_are_told_apart_too() {
    const NAMES: [&str; 8] =
        ["fails", "dependencyfails", "nothing", "mismatch", "foreign", "offline", "offlinebeside", "nospace"];
    with_every_nix("failures_through_a_daemon_are_told_apart_too", |nix, salt| {
        let scratch = service::scratch("nix-daemon");
        let socket = scratch.join("socket");
        let variable = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
        let socket_variable = variable("NIX_DAEMON_SOCKET_PATH", socket.to_str().expect("UTF-8"));
        let environment = [socket_variable.clone(), variable("NIX_CONFIG", nix::config())];
        let daemon = [nix.join("nix").into_os_string(), "daemon".into()];
        let daemon = Service::start("nix-daemon", scratch, Duration::ZERO, &environment, daemon);
        daemon.until("the daemon listens", LONG, || socket.exists().then_some(()));
        let backend = backend(&set(&CASES, salt), nix)
            .env("NIX_REMOTE", "daemon")
            .env(&socket_variable.0, socket.to_str().expect("UTF-8"))
            .start();
        for (name, _, _, outcome, logged) in CASES.into_iter().filter(|case| NAMES.contains(&case.0)) {
            check(&backend, name, outcome, logged, nix);
        }
    });
}

/// If the network or a disk makes a build reach its time limit, that says nothing about the package.
#[test]
fn a_timeout_of_the_network_or_a_disk_is_tried_again() {
    with_every_nix("a_timeout_of_the_network_or_a_disk_is_tried_again", |nix, salt| {
        let backend = backend(&set(&SLOW_CASES, salt), nix).args(&["--nix-timeout", "4"]).start();
        for (name, _, _, outcome, logged) in SLOW_CASES {
            check(&backend, name, outcome, logged, nix);
        }
    });
}

/// A full disk that the builder does not mention.
#[test]
fn a_full_disk_says_nothing_about_a_package() {
    let salt = Random::seeded("a_full_disk_says_nothing_about_a_package").number().to_string();
    let cases: [Case; 2] = [
        ("fills", "", "head -c 20M /dev/zero 2>/dev/null > $TMPDIR/file; exit 1", SPACE, "free disk space"),
        (
            "hangs",
            "",
            "head -c 20M /dev/zero 2>/dev/null > $TMPDIR/file; exec sleep 1000",
            SPACE,
            "took longer",
        ),
    ];
    let disk = Tmpfs::new(9);
    let nix = &nix::versions()[0];
    let backend = backend(&set(&cases, &salt), nix)
        .args(&["--nix-timeout", "4"])
        .env("TMPDIR", &disk.path().display().to_string())
        .start();
    for (name, _, _, outcome, logged) in cases {
        check(&backend, name, outcome, logged, nix);
    }
}

/// A binary cache has the only build of a package, for a machine that does not exist. If the cache fails, that says
/// nothing about the package.
#[test]
fn a_binary_cache_that_fails_says_nothing_about_a_package() {
    with_every_nix("a_binary_cache_that_fails", |nix, salt| {
        let cases: [Case; 1] =
            [("foreign", r#"system = "sparc-linux";"#, "exit 0", NO_MACHINE, "sparc-linux")];
        let with = |cache: &str, salt: &str| {
            let config = format!(
                "{}\ndownload-attempts = 1\nsubstitute = true\nrequire-sigs = false\nsubstituters = {cache}\n",
                nix::config()
            );
            // Nix downloads by itself.
            backend(&set(&cases, salt), nix).env("NIX_CONFIG", &config).env("FIRN_CACHES", "").start()
        };
        let dir = TempDir::new().expect("a directory");
        // A cache that works but lacks the package.
        let empty = dir.path().join("empty");
        fs::create_dir(&empty).expect("made");
        fs::write(empty.join("nix-cache-info"), "StoreDir: /nix/store\n").expect("written");
        let there = with(&format!("file://{}", empty.display()), &format!("{salt}-there"));
        check(&there, "foreign", NO_MACHINE, "sparc-linux", nix);
        // A cache that cannot be reached.
        let gone = with("http://127.0.0.1:1", &format!("{salt}-gone"));
        check(&gone, "foreign", NETWORK, "127.0.0.1:1", nix);
        // A cache whose bytes do not have the stated hash.
        let (cache, salt) = (dir.path().join("cache"), format!("{salt}-corrupt"));
        corrupt_cache(&cache, &set(&[], &salt));
        let corrupt = with(&format!("file://{}", cache.display()), &salt);
        check(&corrupt, "good", NETWORK, "some substitutes", nix);
    });
}

/// The reason is in the log, however deep the cause is.
#[test]
fn a_package_set_that_does_not_load_says_why_in_the_log() {
    let set = r#"{ system, ... }:
      let deep = n: if n == 0 then throw "the set says so" else builtins.addErrorContext "step ${toString n}" (1 + deep (n - 1));
      in builtins.seq (deep 200) { }"#;
    with_every_nix("a_package_set_that_does_not_load", |nix, _| {
        let backend = backend(set, nix).start();
        check(&backend, "good", Passing("the package set cannot be loaded"), "the set says so", nix);
    });
}

/// As nixpkgs says it, whose files a Nix that is too old may not even be able to read.
#[test]
fn a_package_set_for_a_newer_nix_says_which() {
    let set = r#"
      let requiredVersion = "9.18"; in
      if !(builtins ? nixVersion) || builtins.compareVersions requiredVersion builtins.nixVersion == 1 then
        abort ''

          This version of Nixpkgs requires Nix >= ${requiredVersion}, please upgrade:

          - If you are running NixOS, `nixos-rebuild' can be used to upgrade your system.
        ''
      else { system, ... }: { }"#;
    with_every_nix("a_package_set_for_a_newer_nix", |nix, _| {
        let backend = backend(set, nix).start();
        check(&backend, "good", Passing("needs Nix 9.18, and this registry has an older one"), "9.18", nix);
    });
    // Whoever asks at the command line is told what to do.
    let dir = TempDir::new().expect("a directory");
    package_set::write(&dir.path().join("set"), set);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let check = command(&["check-config", "--pkgs-path", &path("set"), "--data", &path("data")]).run();
    assert_eq!(check.status, 1, "{check:?}");
    let said = check.all();
    assert!(said.contains("it needs Nix 9.18 or newer: put that on the PATH"), "{said}");
}

/// The message of a command refers to its log too.
#[test]
fn a_command_that_fails_logs_why() {
    let dir = TempDir::new().expect("a directory");
    for command_and_name in [&["layers", "good"][..], &["search", "good"], &["build", "good"]] {
        let set = format!("file://{}", dir.path().join("nowhere").display());
        let data = dir.path().join("data").display().to_string();
        let options = ["--pkgs-repo", &set, "--data", &data];
        let said = command(&[command_and_name, &options[..]].concat()).run().failed();
        let (log, told) = said.trim_end().rsplit_once('\n').expect("a log, and what is told");
        assert!(told.contains("the package repository cannot be reached"), "{command_and_name:?}: {said}");
        assert!(log.contains("nowhere"), "{command_and_name:?}: {said}");
    }
}

/// Makes a binary cache of `good` from a package set, with one wrong byte in it, and deletes `good` from the store.
fn corrupt_cache(cache: &Path, set: &str) {
    let program = |name: &str| Program::new(name).env("NIX_CONFIG", nix::config());
    let expression = format!("(({set}) {{ system = builtins.currentSystem; }}).good");
    let path = program("nix-build").args(["--no-out-link", "--expr", &expression]).run().succeeded();
    let to = format!("file://{}?compression=none", cache.display());
    program("nix").args(["copy", "--to", &to, &path]).run().succeeded();
    program("nix-store").args(["--delete", &path]).run().succeeded();
    let files =
        fs::read_dir(cache.join("nar")).expect("a directory").map(|file| file.expect("a file").path());
    for file in files.collect::<Vec<PathBuf>>() {
        let mut bytes = fs::read(&file).expect("read");
        let content = bytes.windows(2).rposition(|window| window == b"x\n").expect("what `good` holds");
        bytes[content] = b'y';
        fs::write(&file, bytes).expect("written");
    }
}

/// If the system ends a process for lack of memory, or a person does, no package is at fault. The failure is not
/// remembered, and the image is not made without its optional packages.
#[test]
fn an_interrupted_nix_is_not_remembered_as_a_failure() {
    let (dir, random) = (TempDir::new().expect("a directory"), Random::seeded("who_was_interrupted"));
    let (program, interrupts) = (dir.path().join("nix-instantiate"), dir.path().join("interrupts"));
    // Interrupted by the signal in the file whenever it is asked about `nano`.
    let script = r#"#!/bin/bash
[[ -s INTERRUPTS && $* == *'"nano"'* ]] || exec NIX "$@"
signal=$(<INTERRUPTS)
[[ $signal == TERM ]] || kill -"$signal" $$
exec 3< <(exec NIX --eval --json --expr 'let f = n: if n < 2 then 1 else f (n - 1) + f (n - 2); in
  builtins.trace "at it" (builtins.genList (n: f 20) 1000000)' 2>&1 >/dev/null)
grep -q -m 1 "at it" <&3
kill -TERM $!
cat <&3 >&2
exit 1
"#;
    let nix = find("nix-instantiate").display().to_string();
    let script = script.replace("INTERRUPTS", &interrupts.display().to_string()).replace("NIX", &nix);
    fs::write(&program, script).expect("a script");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("permissions");
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").expect("$PATH is set"));
    for signal in ["KILL", "TERM"] {
        let salt = random.clone().number();
        let set = format!(
            r#"{{ system, ... }}: let make = name: derivation {{ name = "${{name}}-{salt}-{signal}"; inherit system;
  builder = "/bin/bash"; PATH = "/usr/bin:/bin";
  args = [ "-c" "mkdir -p $out/bin; echo ${{name}} > $out/bin/${{name}}; exit 0" ]; }}; in {{
  bash = make "bash"; coreutils = make "coreutils"; nano = make "nano"; good = make "good"; }}"#
        );
        let backend = Backend::serving_expression(&set).env("PATH", &path).start();
        let registry = backend.registry();
        fs::write(&interrupts, signal).expect("written");
        let answer = registry.settled("shell/good", "latest");
        assert_eq!((answer.status, answer.error().0.as_str()), (503, "UNAVAILABLE"), "{}", answer.text());
        assert!(answer.header("retry-after").is_some());
        fs::remove_file(&interrupts).expect("removed");
        let expect = Image::pull(&Backend::serving_expression(&set).start().registry(), "shell/good");
        assert_eq!(Image::pull(&registry, "shell/good").digest, expect.digest, "{signal}");
    }
}
