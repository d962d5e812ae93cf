//! A Nix store with nothing in it, for one process and what it starts: a mount of its own over `/nix`.

use std::path::{Path, PathBuf};

/// Runs a program where `/nix` is empty: `bash -c SCRIPT name PROGRAM ARGUMENT…`.
const SCRIPT: &str = "mount -t tmpfs -o mode=755 firn-test /nix && exec \"$@\"";

/// What precedes a program so that its Nix store is empty. The program becomes the process that was started. Needs root
/// and, in a container, `--cap-add SYS_ADMIN`.
pub const WITHIN: [&str; 7] =
    ["unshare", "--mount", "--propagation=private", "bash", "-c", SCRIPT, "empty-store"];

/// Where a process that was started [within](WITHIN) an empty store has its store.
pub fn of_process(process: u32) -> PathBuf {
    Path::new("/proc").join(process.to_string()).join("root/nix/store")
}

/// The names of the store paths in a directory. Nix's own files, which begin with a dot or end in `.lock`, do not count.
///
/// # Panics
/// If it can be read only in part.
pub fn names(store: &Path) -> Vec<String> {
    let Ok(entries) = store.read_dir() else { return Vec::new() };
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> =
        names.filter(|name| !name.starts_with('.') && !name.ends_with(".lock")).collect();
    names.sort();
    names
}
