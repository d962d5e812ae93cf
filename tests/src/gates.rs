//! Packages whose builders wait for a test's permission, so that the test need not be faster than they are.

use crate::package_set::bundled;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

/// The number of steps of a builder. It prints each one, as `step 1 of 5`.
pub const STEPS: usize = 5;

/// The directory in which builders look for permission. They fail when it is deleted.
pub struct Gates {
    dir: TempDir,
}

impl Gates {
    /// All gates are closed.
    ///
    /// # Panics
    /// If no directory can be created.
    #[allow(clippy::new_without_default)] // it creates a directory and may fail
    pub fn new() -> Self {
        let dir = TempDir::with_prefix("firn-test-gates-").expect("a temporary directory");
        // Nix may build as another user.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("permissions");
        Self { dir }
    }

    /// The bundled set with `gated-1` to `gated-201`, which were never built.
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

    /// The directory. It is among the arguments of the builders.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Lets a package's builder continue up to this step.
    ///
    /// # Panics
    /// If the permission cannot be written.
    pub fn open(&self, package: &str, step: usize) {
        for step in 1..=step {
            fs::write(self.dir.path().join(format!("{package}.{step}")), "").expect("written");
        }
    }

    /// Lets a package's builder finish.
    pub fn open_all(&self, package: &str) {
        self.open(package, STEPS);
    }
}
