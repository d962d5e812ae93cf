//! `firn pack` as a person or a script uses it.

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn firn(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_firn"))
        .args(args)
        .current_dir(directory)
        .env_remove("FIRN_COMPRESSION")
        .output()
        .expect("firn starts")
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn packs_and_reports() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(directory.path().join("tree")).expect("mkdir");
    fs::write(directory.path().join("tree/file"), "content").expect("write");
    let mut digests = Vec::new();
    for options in [&["--threads", "1"][..], &["--threads", "3"], &["--compression", "zstd:1"]] {
        let args = [&["pack", "tree/", "--output", "layer", "--json"], options].concat();
        let output = firn(directory.path(), &args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let layer = fs::read(directory.path().join("layer")).expect("a layer");
        assert_eq!(result["digest"], firn_shared::Digest::of(&layer).to_string());
        assert_eq!(result["size"], layer.len());
        assert!(result["diff_id"].as_str().expect("text").starts_with("sha256:"));
        assert!(result["uncompressed"].as_u64().expect("bytes") > 2048);
        assert!(result["seconds"].as_f64().expect("seconds") > 0.0);
        digests.push((result["digest"].clone(), result["diff_id"].clone()));
    }
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[0].0, digests[2].0);
    assert_eq!(digests[0].1, digests[2].1);
    let mode = fs::metadata(directory.path().join("layer")).expect("a layer").permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    assert_eq!(entries(directory.path()), ["layer", "tree"]);
}

#[test]
fn leaves_nothing_behind_when_it_fails() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("file"), "content").expect("write");
    let check = |args: &[&str], code, expect: &str| {
        let output = firn(directory.path(), args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(expect), "{args:?}: {stderr}");
        assert_eq!(entries(directory.path()), ["file"], "{args:?}");
    };
    check(&["pack", "file", "missing", "--output", "layer"], 1, "missing");
    check(&["pack", "file", "--output", "nowhere/layer"], 1, "nowhere/layer");
    check(&["pack", "file", "../file", "--output", "layer"], 2, "canonical");
    check(&["pack", "--output", "layer"], 2, "PATH");
    check(&["pack", "file"], 2, "--output");
    check(&["pack", "file", "--output", "layer", "--compression", "lzma"], 2, "gzip[:1-12] or zstd[:1-19]");
    check(&["pack", "file", "--output", "layer", "--threads", "0"], 2, "--threads");
}
