//! Packages that Nix cannot build: which of them would fail again, and which may succeed at the next attempt.

use firn_tests::{backend::Backend, image::Image, program::find, random::Random, tmpfs::Tmpfs};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

/// A package set of this package and of one that builds.
fn set(attributes: &str, script: &str) -> String {
    let salt = Random::seeded("packages that fail").number();
    format!(
        r#"{{ system, ... }}: let make = attributes: derivation ({{
  name = "p-{salt}"; inherit system; builder = "/bin/bash"; PATH = "/usr/bin:/bin"; }} // attributes); in {{
  good = make {{ name = "good-{salt}"; args = [ "-c" "echo x > $out; exit 0" ]; }};
  bad = make ({{ args = [ "-c" ''{script}'' ]; }} // {{ {attributes} }});
}}"#
    )
}

/// The output's hash is fixed, so that the builder may use the network.
const FIXED: &str = r#"outputHashMode = "flat"; outputHashAlgo = "sha256";
    outputHash = builtins.hashString "sha256" "what it should be";"#;

#[test]
fn what_would_fail_again_is_a_404_and_remembered() {
    let check = |attributes: &str, script: &str, says: &str| {
        let backend = Backend::serving_expression(&set(attributes, script)).start();
        let registry = backend.registry();
        let answer = registry.settled("bad", "latest");
        let (code, message) = answer.error();
        assert!(answer.status == 404 && message.contains(says), "{script}: {} {message}", answer.status);
        assert_eq!(code, "MANIFEST_UNKNOWN", "{script}");
        let before = backend.nix_processes();
        assert_eq!(registry.settled("bad", "latest").error(), (code, message), "{script}");
        assert_eq!(backend.nix_processes(), before, "{script}: it is not tried again at once");
        // What is asked for with it is had, by itself.
        assert_eq!(registry.settled("good/bad", "latest").status, 404, "{script}");
        assert_eq!(registry.settled("good", "latest").status, 200, "{script}");
    };
    check("", "exit 3", "its builder fails");
    check("", "kill -9 $$", "its builder fails");
    check("", "exit 0", "does not make what it promises");
    check(FIXED, "echo something else > $out; exit 0", "its builder fails");
    check(
        r#"allowedReferences = [ ]; other = make { name = "other"; args = [ "-c" "echo x > $out; exit 0" ]; };"#,
        "echo $other > $out; exit 0",
        "does not make what it promises",
    );
    check(r#"system = "sparc-linux";"#, "exit 0", "no machine that builds for");
}

#[test]
fn what_may_succeed_the_next_time_is_a_503() {
    let check = |attributes: &str, script: &str, disk: Option<&Tmpfs>| {
        let backend = Backend::serving_expression(&set(attributes, script));
        let backend = match disk {
            Some(disk) => backend.env("TMPDIR", &disk.path().display().to_string()),
            None => backend,
        };
        let backend = backend.start();
        let answer = backend.registry().settled("bad", "latest");
        let (code, message) = answer.error();
        assert_eq!((answer.status, code.as_str()), (503, "UNAVAILABLE"), "{script}: {message}");
        assert!(message.contains("for want of space or network"), "{script}: {message}");
        assert!(answer.header("retry-after").is_some(), "{script}");
        let before = backend.nix_processes();
        assert_eq!(backend.registry().settled("bad", "latest").status, 503);
        assert!(backend.nix_processes() > before, "{script}: it is tried again");
    };
    // Nix tells by its exit code, whatever the builder says.
    check(FIXED, "echo the host is gone; exit 6", None);
    let disk = Tmpfs::new(9);
    check("", "head -c 20M /dev/zero 2>/dev/null > $TMPDIR/file; exit 1", Some(&disk));
    // Nix sees free bytes, and no more than that.
    check("", "echo 'cannot create file: No space left on device'; exit 1", None);
}

/// What the system ends for want of memory, or a person by hand, is no package's fault: it is neither remembered nor
/// is the image made without what may be left out.
#[test]
fn who_was_interrupted_has_not_answered() {
    let (dir, random) = (TempDir::new().expect("a directory"), Random::seeded("who_was_interrupted"));
    let (program, interrupts) = (dir.path().join("nix-instantiate"), dir.path().join("interrupts"));
    // Interrupted by the signal in the file whenever `nano` is asked about.
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
