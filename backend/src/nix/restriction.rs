//! Restricted evaluation: what an expression may reach if a caller chose it.
//!
//! With `restrict-eval`, Nix lets an expression read only the paths of its search path, and download only what
//! `allowed-uris` lists. Firn sets the search path to the package set and its own expressions. `allowed-uris` keeps
//! the operator's setting, which is usually empty. Environment variables are empty, and other files do not exist.
//!
//! Tested with Nix 2.8, 2.26 and 2.34; `tests/tests/attacks/secrets.rs` repeats the test with each. Differences:
//!
//! - No version restricts `builtins.getFlake`, and 2.8 does not restrict `builtins.fetchTree`: they read every path
//!   and download. They are experimental, so all experimental features are off.
//! - The search path consists of the arguments, then `NIX_PATH`, then the setting `nix-path`. Firn does not pass
//!   `NIX_PATH` to Nix (`child_environment`), and empties the setting.
//! - 2.8 refuses to read what `builtins.toFile` wrote, and `builtins.storePath`. The others allow it.
//! - 2.8 follows a link that is copied into the store, and refuses targets outside. The others copy the link.
//! - 2.8 and 2.34 name the refused path. 2.26 names the outermost directory.

use super::expressions::Expressions;
use crate::package_set::{PackageSetFiles, Trust};
use std::ffi::OsString;

/// Settings that overrule the operator's.
const SETTINGS: [(&str, &str); 4] = [
    ("restrict-eval", "true"),
    ("nix-path", ""),
    ("experimental-features", ""),
    // `builtins.exec`, which the operator may have allowed.
    ("allow-unsafe-native-code-during-evaluation", "false"),
];

/// Nix's words for everything that it refuses.
const REFUSED: &str = "is forbidden in restricted mode";

/// The arguments for an evaluation of this package set. None if the operator chose it.
pub(super) fn arguments(source: &PackageSetFiles, expressions: &Expressions) -> Vec<OsString> {
    if source.trust() == Trust::Operator {
        return Vec::new();
    }
    let mut arguments: Vec<OsString> = Vec::new();
    let mut set = |name: &str, value: &str| {
        arguments.extend(["--option", name, value].map(OsString::from));
    };
    SETTINGS.iter().for_each(|(name, value)| set(name, value));
    for place in expressions.all().chain([source.as_path().to_owned()]) {
        // The name is one that nothing looks up, so that `<x>` does not find a file x of the package set.
        let mut named = OsString::from("firn=");
        named.push(place);
        arguments.extend(["-I".into(), named]);
    }
    arguments
}

/// Whether an evaluation failed because of its restrictions, or claims so.
pub(super) fn is_refusal(stderr: &[String]) -> bool {
    stderr.iter().any(|line| line.contains(REFUSED))
}
