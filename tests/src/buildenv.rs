//! Nix's own `builtin:buildenv`, the reference for the root of an image.

use crate::nix;
use serde::Deserialize;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Builds environments, each from these store paths in the order of their priority. None for an environment that
/// `buildenv` refuses to build.
///
/// Nix evaluates and realises all of them at once. It finds those of an earlier run in the store.
///
/// # Panics
/// If Nix cannot evaluate them.
pub fn environments(environments: &[Vec<String>]) -> Vec<Option<PathBuf>> {
    #[derive(Deserialize)]
    struct Environment {
        drv: String,
        out: PathBuf,
    }
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let (list, expression) = (dir.path().join("environments.json"), dir.path().join("environments.nix"));
    std::fs::write(&list, serde_json::to_vec(environments).expect("texts serialise")).expect("written");
    std::fs::write(&expression, EXPRESSION).expect("written");
    let evaluated = nix::program("nix-instantiate")
        .args(["--eval", "--strict", "--json", "--read-write-mode", "--argstr", "list"])
        .args([list, expression])
        .run()
        .succeeded();
    let evaluated: Vec<Environment> = serde_json::from_str(&evaluated).expect("a list of derivations");
    // This fails for the environments that buildenv refuses, with long messages.
    nix::program("nix-store")
        .args(["--realise", "--keep-going", "--quiet", "--option", "fsync-metadata", "false"])
        .args(evaluated.iter().map(|environment| &environment.drv))
        .run();
    // The partial output of a failed build stays in the store, but is not valid.
    let invalid = nix::program("nix-store")
        .args(["--check-validity", "--print-invalid"])
        .args(evaluated.iter().map(|environment| &environment.out))
        .run()
        .succeeded();
    let invalid: HashSet<&Path> = invalid.lines().map(Path::new).collect();
    let built = |out: PathBuf| (!invalid.contains(&*out)).then_some(out);
    evaluated.into_iter().map(|environment| built(environment.out)).collect()
}

/// Every package has a different priority: `buildenv` fails if two of one priority have the same file.
const EXPRESSION: &str = r#"
{ list }:
let
  environment = outputs: derivation {
    name = "environment";
    system = "builtin";
    builder = "builtin:buildenv";
    manifest = builtins.toFile "manifest.nix" "[ ]";
    derivations = builtins.concatLists (builtins.genList
      (i: [ "true" (toString (i + 1)) "1" (builtins.storePath (builtins.elemAt outputs i)) ])
      (builtins.length outputs));
  };
in
map (outputs: let made = environment outputs; in { drv = made.drvPath; out = made.outPath; })
  (builtins.fromJSON (builtins.readFile list))
"#;
