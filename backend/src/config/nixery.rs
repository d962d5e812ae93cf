//! Nixery's environment variables, so that its users can swap the binary and keep their configuration.
//!
//! A variable of Nixery takes effect if neither Firn's own variable nor the option is set. Each one that takes effect
//! is logged, with its name in Firn.

use clap::Command;
use std::path::Path;

/// One of Nixery's variables that took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// Nixery's name.
    pub nixery: &'static str,
    /// Firn's name.
    pub firn: &'static str,
}

/// A variable of Nixery and its counterpart in Firn.
struct Variable {
    nixery: &'static str,
    firn: &'static str,
    /// The option's id.
    option: &'static str,
    translate: fn(&str) -> String,
}

const fn variable(
    nixery: &'static str,
    firn: &'static str,
    option: &'static str,
    translate: fn(&str) -> String,
) -> Variable {
    Variable { nixery, firn, option, translate }
}

const VARIABLES: [Variable; 8] = [
    variable("PORT", "FIRN_LISTEN", "listen", |port| format!("0.0.0.0:{port}")),
    variable("NIXERY_CHANNEL", "FIRN_CHANNEL", "channel", str::to_owned),
    variable("NIXERY_PKGS_REPO", "FIRN_PKGS_REPO", "pkgs_repo", str::to_owned),
    variable("NIXERY_PKGS_PATH", "FIRN_PKGS_PATH", "pkgs_path", str::to_owned),
    variable("NIX_TIMEOUT", "FIRN_NIX_TIMEOUT", "nix_timeout", str::to_owned),
    variable("NIX_POPULARITY_URL", "FIRN_POPULARITY_URL", "popularity_url", str::to_owned),
    variable("STORAGE_PATH", "FIRN_STORAGE", "storage", storage_url),
    variable("GCS_BUCKET", "FIRN_STORAGE", "storage", |bucket| format!("gs://{bucket}")),
];

/// Nixery's variables that have an effect, each with Firn's own.
pub fn nixery_variables() -> impl Iterator<Item = (&'static str, &'static str)> {
    VARIABLES.iter().map(|variable| (variable.nixery, variable.firn))
}

fn storage_url(path: &str) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| Path::new(path).to_owned());
    format!("file://{}", absolute.display())
}

/// Makes Nixery's variables the defaults of their options. Returns the changed command and the variables that took
/// effect.
pub fn with_nixery_aliases(
    mut command: Command,
    environment: impl Fn(&str) -> Option<String>,
) -> (Command, Vec<Alias>) {
    let mut used = Vec::new();
    for Variable { nixery, firn, option, translate } in VARIABLES {
        let Some(value) = environment(nixery).filter(|value| !value.is_empty()) else { continue };
        // Each storage backend of Nixery has its own variable, which the other one ignores.
        let backend = environment("NIXERY_STORAGE_BACKEND");
        let is_meant = match nixery {
            "STORAGE_PATH" => backend.is_none_or(|backend| backend == "filesystem"),
            "GCS_BUCKET" => backend.is_some_and(|backend| backend == "gcs"),
            _ => true,
        };
        if environment(firn).is_some() || !is_meant {
            continue;
        }
        let mut applies = false;
        command = command.mut_subcommands(|sub| {
            if sub.get_arguments().any(|arg| arg.get_id() == option) {
                applies = true;
                let value = translate(&value);
                sub.mut_arg(option, |arg| arg.default_value(value))
            } else {
                sub
            }
        });
        if applies {
            used.push(Alias { nixery, firn });
        }
    }
    (command, used)
}
