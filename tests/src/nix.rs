//! Nix itself, the reference for the contents of an image.

use crate::program::{Program, cached, find};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Nix's settings on this machine, made by `setup/nix-env.sh`.
pub fn config() -> &'static str {
    static CONFIG: OnceLock<String> = OnceLock::new();
    CONFIG.get_or_init(|| match std::env::var("NIX_CONFIG") {
        Ok(config) => config,
        Err(_) => {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../setup/nix-env.sh");
            Program::new("bash")
                .args(["-c", r#"source "$1"; printf %s "$NIX_CONFIG""#, "-", script])
                .run()
                .succeeded()
        }
    })
}

/// The directories of every Nix with which Firn is tested: this machine's, and those of newer Debian releases.
///
/// # Panics
/// If one of them is missing. The message names the script that installs it.
pub fn versions() -> [PathBuf; 3] {
    let newer = |suite: &str| cached(&format!("nix-{suite}/bin/nix-instantiate"), "setup/newer-nix");
    [find("nix-instantiate"), newer("trixie"), newer("forky")]
        .map(|program| program.parent().expect("programs are in directories").to_owned())
}

/// A program of Nix.
pub fn program(name: &str) -> Program {
    Program::new(name).env("NIX_CONFIG", config()).without_env("NIX_PATH")
}

/// Builds the outputs of these attributes that go into an image. Returns their store paths.
pub fn build(package_set: &Path, attributes: &[&str]) -> Vec<String> {
    let list: String = attributes.iter().map(|attribute| format!("(set.{attribute}) ")).collect();
    let expression = format!(
        "let set = import {} {{ system = builtins.currentSystem; config = {{ }}; }};
             documentation = [ \"man\" \"doc\" \"info\" ];
             wanted = p: builtins.filter (o: !(builtins.elem o documentation)) p.meta.outputsToInstall;
         in builtins.concatMap (p: map (o: p.${{o}}) (wanted p)) [ {list} ]",
        package_set.display()
    );
    let built = program("nix-build").args(["--no-out-link", "--expr", &expression]).run().succeeded();
    built.lines().map(str::to_owned).collect()
}

/// Builds an attribute of a package set that is one small expression. Returns its store paths.
pub fn build_expression(package_set: &Path, attribute: &str) -> Vec<String> {
    build_for(package_set, attribute, None)
}

/// Like [`build_expression`], for another system than this machine's: the builder runs here, as if it were supported.
pub fn build_for(package_set: &Path, attribute: &str, system: Option<&str>) -> Vec<String> {
    let settings = system.map_or_else(String::new, |system| format!("\nextra-platforms = {system}\n"));
    let system = system.map_or_else(|| "builtins.currentSystem".to_owned(), |system| format!("\"{system}\""));
    let expression =
        format!("(import {} {{ system = {system}; config = {{ }}; }}).{attribute}", package_set.display());
    let built = program("nix-build")
        .env("NIX_CONFIG", format!("{}{settings}", config()))
        .args(["--no-out-link", "--expr", &expression])
        .run()
        .succeeded();
    built.lines().map(str::to_owned).collect()
}

/// The outputs of each of these attributes that go into an image. They need not have been built.
pub fn outputs(package_set: &Path, attributes: &[&str]) -> Vec<Vec<String>> {
    let list: String = attributes.iter().map(|attribute| format!("(set.{attribute}) ")).collect();
    let expression = format!(
        "let set = import {} {{ system = builtins.currentSystem; config = {{ }}; }};
             documentation = [ \"man\" \"doc\" \"info\" ];
             wanted = p: builtins.filter (o: !(builtins.elem o documentation))
               (p.meta.outputsToInstall or [ p.outputName ]);
         in map (p: map (o: p.${{o}}.outPath) (wanted p)) [ {list} ]",
        package_set.display()
    );
    let json = program("nix-instantiate")
        .args(["--eval", "--strict", "--json", "--expr", &expression])
        .run()
        .succeeded();
    serde_json::from_str(&json).expect("lists of store paths")
}

/// The closure of these store paths.
pub fn closure(paths: &[String]) -> BTreeSet<String> {
    let requisites = program("nix-store").args(["--query", "--requisites"]).args(paths).run().succeeded();
    requisites.lines().map(str::to_owned).collect()
}
