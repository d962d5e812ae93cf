//! The environment of the programs that Firn starts, as lists of allowed variables.
//!
//! Firn's own variables hold secrets: the one shared with the edge, and the keys of buckets. Package code can read
//! variables (`builtins.getEnv`), and clients are shown what an expression throws. nixpkgs also takes settings from
//! variables (`NIXPKGS_ALLOW_UNFREE`), and these must not overrule Firn's. So a program gets only the variables
//! listed here.

use std::ffi::{OsStr, OsString};

/// Variables for every program: where programs are, the locale, where temporary files go, and how to reach the
/// network.
const ALL: [&str; 18] = [
    "PATH",
    "TMPDIR",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    "LOCALE_ARCHIVE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NIX_SSL_CERT_FILE",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// Variables from which Nix takes its settings (Nix manual, "Common Environment Variables").
const NIX: [&str; 11] = [
    "NIX_CONFIG",
    "NIX_CONF_DIR",
    "NIX_USER_CONF_FILES",
    "NIX_REMOTE",
    "NIX_DAEMON_SOCKET_PATH",
    "NIX_STORE_DIR",
    "NIX_STATE_DIR",
    "NIX_DATA_DIR",
    "NIX_LOG_DIR",
    "NIX_LOCALSTATE_DIR",
    "NIX_BUILD_HOOK",
];

/// Variables from which git, ssh and credential helpers take their settings, besides those that begin with `GIT_`.
const GIT: [&str; 12] = [
    "HOME",
    "USER",
    "LOGNAME",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "SSH_ASKPASS",
    "GNUPGHOME",
    "CURL_CA_BUNDLE",
];

/// Variables that git sets for the hooks that it runs. If git started Firn, they describe the wrong repository.
/// (`git rev-parse --local-env-vars`, without the variables that hold settings.)
const NOT_INHERITED: [&str; 12] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// The variables of this process that git may see.
pub(crate) fn for_git() -> impl Iterator<Item = (OsString, OsString)> {
    let is_of_git = |name: &OsStr| name.as_encoded_bytes().starts_with(b"GIT_");
    let own = std::env::vars_os()
        .filter(move |(name, _)| is_of_git(name) && !NOT_INHERITED.iter().any(|not| name == *not));
    only(std::env::vars_os(), &GIT).chain(own)
}

/// The variables of this process that Nix may see.
pub(crate) fn for_nix() -> impl Iterator<Item = (OsString, OsString)> {
    only(std::env::vars_os(), &NIX)
}

fn only(
    variables: impl Iterator<Item = (OsString, OsString)>,
    names: &'static [&'static str],
) -> impl Iterator<Item = (OsString, OsString)> {
    let is_listed = move |name: &OsStr| ALL.iter().chain(names).any(|listed| name == *listed);
    variables.filter(move |(name, _)| is_listed(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_settings_of_nixpkgs_stay_here() {
        let set = [
            "PATH",
            "NIX_CONFIG",
            "https_proxy",
            "HOME",
            "NIX_PATH",
            "FIRN_SECRET",
            "AWS_SECRET_ACCESS_KEY",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "AZURE_STORAGE_KEY",
            "NIXPKGS_ALLOW_UNFREE",
            "NIXPKGS_CONFIG",
            "SSH_AUTH_SOCK",
            "CREDENTIALS_DIRECTORY",
        ];
        let variables = set.map(|name| (OsString::from(name), OsString::from("x")));
        let passed: Vec<_> = only(variables.into_iter(), &NIX).map(|(name, _)| name).collect();
        assert_eq!(passed, ["PATH", "NIX_CONFIG", "https_proxy"]);
    }
}
