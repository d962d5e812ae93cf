//! Package sets for Firn to serve: the bundled one, and variants of it.

use crate::program::Program;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bundled package set. `setup/package-set` creates it if it does not exist.
pub fn bundled() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let made = || {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../setup/package-set");
            Program::at(script).run().succeeded().into()
        };
        let place = std::env::var_os("FIRN_TEST_PACKAGES").map_or_else(made, PathBuf::from);
        assert!(place.join("default.nix").exists(), "{}: run setup/package-set", place.display());
        place
    })
}

/// An expression for the bundled set in which the slow and failing packages were never built.
pub fn salted() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let time =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    let salt = format!("{time}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    format!(
        "{{ system, config, ... }}: import {} {{ inherit system; config = config // {{ salt = \"{salt}\"; }}; }}\n",
        bundled().display()
    )
}

/// Writes a package set that is one expression.
///
/// # Panics
/// If it cannot be written.
pub fn write(dir: &Path, expression: &str) {
    std::fs::create_dir_all(dir).expect("the directory can be made");
    // Renamed into place, so that a concurrent reader gets either the old or the new one.
    let part = dir.with_extension("part");
    std::fs::write(&part, expression).expect("the package set can be written");
    std::fs::rename(&part, dir.join("default.nix")).expect("the package set can be put in place");
}

/// A small package set of its own, which builds quickly. `greeting` contains a text, which includes `text`.
pub fn small(text: &str) -> String {
    format!(
        r#"{{ system, ... }}: {{
  greeting = derivation {{
    name = "greeting-1.0";
    inherit system;
    builder = "/bin/bash";
    args = [ "-e" "-c" "mkdir -p $out/share; echo $text > $out/share/greeting; exit 0" ];
    PATH = "/usr/bin:/bin";
    text = "{text}";
  }};
}}
"#
    )
}

/// A package set of `count` packages, `p0`, `p1`, …, that were never built. Each has a dependency of its own and one
/// that all share, and takes Nix some hundredths of a second. `seed` goes into their content.
pub fn many(count: usize, seed: u64) -> String {
    format!(
        r#"{{ system, ... }}:
let
  make = name: inputs: derivation {{
    inherit name system inputs;
    builder = "/bin/bash";
    args = [ "-e" "-c" "mkdir -p $out/share; for i in {{1..200}}; do echo $name $inputs {seed} $i; done > $out/share/$name; exit 0" ];
    PATH = "/usr/bin:/bin";
  }};
  base = make "base-{seed}" [ ];
  package = n: {{
    name = "p${{toString n}}";
    value = make "p${{toString n}}-1.0" [ base (make "part${{toString n}}-1.0" [ base ]) ];
  }};
in
builtins.listToAttrs (builtins.genList package {count})
"#
    )
}
