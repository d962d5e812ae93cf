//! Reads and checks a backend's storage.

use firn_tests::{backend::command, image::Image, registry::Registry, wait::until};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Runs `firn fsck` on a data directory. Returns whether it succeeded, and its report.
pub(crate) fn fsck(data: &Path, arguments: &[&str]) -> (bool, Value) {
    let data = data.display().to_string();
    let finished = command(&[&["fsck", "--json", "--data", &data], arguments].concat()).run();
    assert!(matches!(finished.status, 0 | 1), "{finished:?}");
    let report = serde_json::from_slice(&finished.stdout).unwrap_or_else(|e| panic!("{e}: {finished:?}"));
    (finished.status == 0, report)
}

/// The names of the problems in a report.
pub(crate) fn problems(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().expect("a list");
    let mut problems: Vec<_> =
        findings.iter().map(|finding| finding["problem"].as_str().expect("a text").to_owned()).collect();
    problems.sort();
    problems
}

/// Checks that `firn fsck` finds no problem.
pub(crate) fn is_clean(data: &Path) {
    let (clean, report) = fsck(data, &[]);
    assert!(clean && problems(&report).is_empty(), "{report:#}");
}

/// Runs `firn gc` on a data directory.
pub(crate) fn gc(data: &Path, arguments: &[&str]) -> Value {
    let data = data.display().to_string();
    let printed = command(&[&["gc", "--json", "--data", &data], arguments].concat()).run().succeeded();
    serde_json::from_str(&printed).expect("JSON")
}

/// Pulls an image completely, and compares every digest.
pub(crate) fn pull(registry: &Registry, name: &str) -> Image {
    let image = Image::pull(registry, name);
    image.layers(registry);
    image
}

/// Pulls an image of which another process has deleted something. A server that has just answered with the manifest
/// may do so for some seconds more before it checks again.
pub(crate) fn pull_again(registry: &Registry, name: &str) -> Image {
    until(&format!("{name} is made again"), Duration::from_secs(60), || {
        let manifest = registry.built(name, "latest").json();
        let layers = manifest["layers"].as_array().expect("a list");
        let is_there = |blob: &Value| {
            let digest = blob["digest"].as_str().expect("a text");
            registry.head(&format!("/v2/{name}/blobs/{digest}")).status == 200
        };
        layers.iter().chain([&manifest["config"]]).all(is_there).then_some(())
    });
    pull(registry, name)
}

/// All files below a directory.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return found };
    for entry in entries {
        let path = entry.expect("an entry").path();
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => found.extend(files(&path)),
            _ => found.push(path),
        }
    }
    found
}

/// The path of a blob.
pub(crate) fn blob(data: &Path, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").expect("a digest");
    data.join("storage/blobs/sha256").join(&hex[..2]).join(hex)
}

/// Checks that no dead server has left unfinished files.
pub(crate) fn nothing_is_unfinished(data: &Path, running: usize) {
    let (locks, others): (Vec<_>, Vec<_>) = ["storage/staging", "staging", "gcroots"]
        .iter()
        .flat_map(|folder| files(&data.join(folder)))
        .partition(|path| path.ends_with("lock"));
    assert_eq!(others, [] as [PathBuf; 0], "unfinished");
    // One lock per running server and folder.
    assert!(locks.len() <= 2 * running, "{locks:?}");
    let temporary = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy();
        name.starts_with(".tmp") || name.contains('#')
    };
    let left: Vec<_> = files(data).into_iter().filter(temporary).collect();
    assert_eq!(left, [] as [PathBuf; 0], "temporary files");
}

/// Sets the time of every file in a folder of the storage.
pub(crate) fn set_times(data: &Path, folder: &str, time: SystemTime) {
    for path in files(&data.join("storage").join(folder)) {
        let file = fs::File::options().write(true).open(&path).expect("a file");
        file.set_modified(time).expect("the time can be set");
    }
}
