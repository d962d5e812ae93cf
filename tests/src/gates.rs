//! Packages whose builders go on when a test lets them, so that it need not hope to be quicker than they are.

use crate::package_set::bundled;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

/// How many steps a builder takes; it says each of them, as `step 1 of 5`.
pub const STEPS: usize = 5;

/// Where builders look whether they may go on. They fail when it is gone.
pub struct Gates {
    dir: TempDir,
}

impl Gates {
    /// With all of them closed.
    ///
    /// # Panics
    /// When no directory can be made.
    #[allow(clippy::new_without_default)] // it makes a directory and may fail
    pub fn new() -> Self {
        let dir = TempDir::with_prefix("firn-test-gates-").expect("a temporary directory");
        // Nix may build as another user.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("permissions");
        Self { dir }
    }

    /// The bundled set with `gated-1` to `gated-201`, which nobody has ever built.
    pub fn package_set(&self) -> String {
        format!(
            r#"{{ system, config, ... }}:
let
  gated = name: derivation {{
    inherit system;
    name = "${{name}}-1.0";
    builder = "/bin/bash";
    PATH = "/usr/bin:/bin";
    args = [ "-e" "-c" ''
      for i in {{1..{STEPS}}}; do
        until [[ -e {dir}/${{name}}.$i ]]; do test -d {dir}; sleep 0.02; done
        echo "step $i of {STEPS}"
      done
      mkdir -p $out/share
      echo ${{name}} > $out/share/${{name}}
      exit 0
    '' ];
  }};
  names = builtins.genList (n: "gated-${{toString (n + 1)}}") 201;
in
import {bundled} {{ inherit system config; }}
// builtins.listToAttrs (map (name: {{ inherit name; value = gated name; }}) names)
"#,
            dir = self.dir.path().display(),
            bundled = bundled().display(),
        )
    }

    /// The directory, which is among the arguments of the builders.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Lets a package's builder take the steps up to this one.
    ///
    /// # Panics
    /// When that cannot be written down.
    pub fn open(&self, package: &str, step: usize) {
        for step in 1..=step {
            fs::write(self.dir.path().join(format!("{package}.{step}")), "").expect("written");
        }
    }

    /// Lets a package's builder come to its end.
    pub fn open_all(&self, package: &str) {
        self.open(package, STEPS);
    }
}
