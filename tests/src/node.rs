//! Programs for the Node that wrangler runs on.

use crate::program::Program;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The repository.
///
/// # Panics
/// Never: the tests are in it.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are in the repository").to_owned()
}

/// Node with these arguments, in the repository.
pub fn node<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Program {
    let root = repository();
    Program::at(root.join("setup/wasm")).args(["node"]).args(arguments).in_dir(&root)
}

/// Runs files of tests, relative to the repository, with Node's test runner.
///
/// # Panics
/// If a test fails, or if fewer than `least` ran.
pub fn run_tests(files: &[&str], least: usize) {
    let output = node(["--test", "--test-reporter=tap"]).args(files).run().succeeded();
    let passed = output.lines().find_map(|line| line.strip_prefix("# pass ")).expect("a total");
    assert!(passed.parse::<usize>().expect("a number") >= least, "{output}");
}
