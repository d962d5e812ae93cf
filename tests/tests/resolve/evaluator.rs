//! `nix-instantiate` of one version, with a store of its own: it writes nothing to /nix, and sees no package set,
//! channel or configuration of this machine.

use firn_tests::nix;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

/// The expressions of this repository.
const EXPRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../nix");

pub(crate) struct Evaluator {
    program: PathBuf,
    version: String,
    state: TempDir,
    features: &'static str,
}

/// Every Nix with which the expressions are tested: this machine's, and newer ones.
pub(crate) fn evaluators() -> [Evaluator; 3] {
    nix::versions().map(|programs| Evaluator::new(programs.join("nix-instantiate")))
}

impl Evaluator {
    fn new(program: PathBuf) -> Self {
        let output = Command::new(&program).arg("--version").output();
        let output = output.unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
        let version = String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned();
        assert!(version.contains(" 2."), "{}: {version:?} is no version of Nix", program.display());
        Self { program, version, state: TempDir::new().expect("a temporary directory"), features: "" }
    }

    /// Sets these experimental features. An older version may not know some of them.
    pub(crate) fn with_features(self, features: &'static str) -> Self {
        Self { features, ..self }
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    fn evaluate<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        let state = self.state.path();
        let features = self.features;
        let config =
            format!("build-users-group =\nsubstitute = false\nextra-experimental-features = {features}\n");
        Command::new(&self.program)
            .args(["--eval", "--strict", "--json", "--read-write-mode"])
            .args(["--option", "allow-import-from-derivation", "false"])
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("$PATH is set"))
            .env("HOME", state)
            .env("NIX_REMOTE", state.join("store"))
            .env("NIX_CONFIG", config)
            .output()
            .expect("starts as it did before")
    }

    /// The answer of `resolve.nix`, or the standard error of Nix.
    pub(crate) fn resolve(&self, request: &Value) -> Result<Value, String> {
        json(&self.evaluate_request(request))
    }

    /// The answer of `index.nix`, or the standard error of Nix.
    pub(crate) fn index(&self, request: &Value) -> Result<Value, String> {
        let expression = format!("{EXPRESSIONS}/index.nix");
        json(&self.evaluate([expression.as_str(), "--argstr", "request", &request.to_string()]))
    }

    /// The standard error of Nix when `resolve.nix` succeeds.
    pub(crate) fn trace(&self, request: &Value) -> String {
        let output = self.evaluate_request(request);
        assert!(output.status.success());
        String::from_utf8(output.stderr).expect("UTF-8")
    }

    fn evaluate_request(&self, request: &Value) -> Output {
        let expression = format!("{EXPRESSIONS}/resolve.nix");
        self.evaluate([expression.as_str(), "--argstr", "request", &request.to_string()])
    }

    /// Writes a file in this evaluator's directory. Overwrites a file of the same name.
    pub(crate) fn scratch(&self, name: &str, content: &str) -> PathBuf {
        let path = self.state.path().join(name);
        fs::write(&path, content).expect("writes");
        path
    }
}

fn json(output: &Output) -> Result<Value, String> {
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).expect("Nix prints JSON"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
