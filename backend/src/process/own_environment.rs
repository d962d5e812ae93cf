//! Firn's own environment variables, including those that hold secrets.
//!
//! While a process runs, every process of the same user can read its environment in `/proc`, and the children of the
//! server run package code. So a server that finds secrets in its environment restarts itself without them (`exec`:
//! same process, same id). It passes them to itself through a pipe, which is empty once it was read. From then on,
//! they are read from here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

/// Set if the secrets are to be read from standard input.
const HANDED_OVER: &str = "_FIRN_SECRETS_ON_STDIN";

/// Variables that hold secrets, besides those of object stores.
const SECRETS: [&str; 2] = ["FIRN_SECRET", "FIRN_METRICS_TOKEN"];
/// Prefixes of the variables that configure access to object stores.
const OF_STORES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

static HIDDEN: OnceLock<BTreeMap<String, String>> = OnceLock::new();

fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name) || OF_STORES.iter().any(|prefix| name.starts_with(prefix))
}

/// Removes the secrets from the environment of this process. Must be called once, before anything else.
///
/// # Errors
/// If the program cannot be restarted, or cannot read the secrets from the pipe.
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
    // An environment is smaller than a pipe's buffer, so writing does not wait for a reader.
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

/// The value of a variable, whether it was hidden or not.
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
