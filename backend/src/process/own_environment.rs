//! Firn's own variables, also those that hold secrets.
//!
//! What stands in a process's environment can be read in `/proc` by every process of the same user for as long as it
//! runs, and the children of the server run package code. So a server that finds secrets in its environment starts
//! itself anew (`exec`: same process, same number) without them, and hands them to itself through a pipe, which is empty
//! once it is read. They are looked up here from then on.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

/// Says that secrets are to be read from standard input.
const HANDED_OVER: &str = "_FIRN_SECRETS_ON_STDIN";

/// Variables that hold secrets, beside those of object stores.
const SECRETS: [&str; 2] = ["FIRN_SECRET", "FIRN_METRICS_TOKEN"];
/// How the names of variables begin by which object stores are reached.
const OF_STORES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

static HIDDEN: OnceLock<BTreeMap<String, String>> = OnceLock::new();

fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name) || OF_STORES.iter().any(|prefix| name.starts_with(prefix))
}

/// Takes the secrets out of the environment of this process. Called first of all, and once.
///
/// # Errors
/// When the program cannot be started anew, or what it handed to itself cannot be read.
pub fn hide_secrets() -> io::Result<()> {
    if std::env::var_os(HANDED_OVER).is_some() {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        let secrets = serde_json::from_str(&text).map_err(io::Error::other)?;
        HIDDEN.set(secrets).expect("called once");
        return Ok(());
    }
    let secrets: BTreeMap<String, String> = texts().filter(|(name, _)| is_secret(name)).collect();
    if secrets.is_empty() {
        return Ok(());
    }
    let (reader, mut writer) = io::pipe()?;
    // Less than a pipe holds, so that nobody has to read meanwhile: environments are shorter than that.
    writer.write_all(&serde_json::to_vec(&secrets).expect("texts serialise"))?;
    drop(writer);
    let mut command = Command::new("/proc/self/exe");
    secrets.keys().for_each(|name| {
        command.env_remove(name);
    });
    if let Some(name) = std::env::args_os().next() {
        command.arg0(name);
    }
    Err(command.args(std::env::args_os().skip(1)).env(HANDED_OVER, "1").stdin(reader).exec())
}

/// A variable, wherever it is.
pub fn variable(name: &str) -> Option<String> {
    let hidden = HIDDEN.get().and_then(|hidden| hidden.get(name).cloned());
    hidden.or_else(|| std::env::var(name).ok())
}

/// All variables whose names and values are text.
pub(crate) fn texts() -> impl Iterator<Item = (String, String)> {
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let hidden = HIDDEN.get().cloned().unwrap_or_default();
    std::env::vars_os().filter_map(text).chain(hidden)
}
