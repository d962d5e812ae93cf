//! Restricted evaluation: what an expression may reach that a caller chose.
//!
//! Nix's `restrict-eval` lets an expression read the places of its search path alone, and download what `allowed-uris`
//! says. Here the search path is the package set and Firn's own expressions. `allowed-uris` stays what the operator has
//! set for Nix, which is nothing as a rule. Variables of the environment are empty, and what is outside does not exist.
//!
//! Tried with Nix 2.8, 2.26 and 2.34; `tests/tests/attacks/secrets.rs` repeats it with each. What differs:
//!
//! - `builtins.getFlake` keeps to nothing of this with any of them, nor does `builtins.fetchTree` of 2.8: both read every
//!   path and download. They are experimental, so no experimental feature is on.
//! - The search path is what stands in the arguments, then in `NIX_PATH`, then in the setting `nix-path`. Nix gets no
//!   `NIX_PATH` from Firn (`child_environment`), and the setting is emptied.
//! - 2.8 refuses to read what `builtins.toFile` has written and `builtins.storePath`; the others do not.
//! - 2.8 follows a link that is copied into the store and refuses what is outside. The others copy the link.
//! - 2.8 and 2.34 name the path that is refused. 2.26 names the outermost directory.

use super::expressions::Expressions;
use crate::package_set::{Source, Trust};
use std::ffi::OsString;

/// What is set, whatever the operator has set for Nix.
const SETTINGS: [(&str, &str); 4] = [
    ("restrict-eval", "true"),
    ("nix-path", ""),
    ("experimental-features", ""),
    // `builtins.exec`, where somebody has allowed it.
    ("allow-unsafe-native-code-during-evaluation", "false"),
];

/// What Nix says of everything that is refused.
const REFUSED: &str = "is forbidden in restricted mode";

/// The arguments for an evaluation of this package set, which are none where the operator chose it.
pub(super) fn arguments(source: &Source, expressions: &Expressions) -> Vec<OsString> {
    if source.trust() == Trust::Operator {
        return Vec::new();
    }
    let mut arguments: Vec<OsString> = Vec::new();
    let mut set = |name: &str, value: &str| {
        arguments.extend(["--option", name, value].map(OsString::from));
    };
    SETTINGS.iter().for_each(|(name, value)| set(name, value));
    for place in expressions.all().chain([source.place().to_owned()]) {
        // With a name that nothing looks up, so that `<x>` is not a file x of the package set.
        let mut named = OsString::from("firn=");
        named.push(place);
        arguments.extend(["-I".into(), named]);
    }
    arguments
}

/// Whether an evaluation failed because of its restrictions, or says so.
pub(super) fn is_refusal(stderr: &[String]) -> bool {
    stderr.iter().any(|line| line.contains(REFUSED))
}
