//! `firn simulate` on Debian's dependency graph: what layering is measured by.

use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/layering").join(name)
}

fn simulate(arguments: &[&str], workloads: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firn"));
    command.args(["simulate", "--graph"]).arg(data("debian-graph.json.gz")).args(arguments);
    for workload in workloads {
        command.arg("--images").arg(data(workload));
    }
    command.output().expect("firn starts")
}

/// One result for each workload.
fn scores(arguments: &[&str], workloads: &[&str]) -> Vec<Value> {
    let output = simulate(&[arguments, &["--json"]].concat(), workloads);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let scores: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(scores.len(), workloads.len());
    scores
}

fn number(score: &Value, key: &str) -> f64 {
    score[key].as_f64().unwrap_or_else(|| panic!("{key} in {score}"))
}

#[test]
fn sharing_fetches_little_in_vain() {
    // At most: bytes fetched by content, by chain, and layers on average.
    let table = [
        ("images-1.txt", 1.03, 2.4, 48.0),
        ("images-2.txt", 1.03, 2.4, 48.0),
        ("images-3.txt", 1.03, 2.4, 48.0),
        // Lines of the above put together until an image has 300 paths.
        ("large-1.txt", 1.08, 2.5, 94.0),
        ("large-2.txt", 1.08, 2.5, 94.0),
        ("large-3.txt", 1.08, 2.5, 94.0),
        // The same line of all three.
        ("together.txt", 1.08, 3.3, 86.0),
        // Drawn anew until an image has 300 paths; 358 on average.
        ("drawn.txt", 1.2, 3.5, 94.0),
    ];
    let workloads: Vec<&str> = table.iter().map(|row| row.0).collect();
    for ((workload, content, chain, layers), score) in table.into_iter().zip(scores(&[], &workloads)) {
        assert!(number(&score, "ratio") <= content, "{workload}: {score}");
        assert!(number(&score, "chain_ratio") <= chain, "{workload}: {score}");
        assert!(number(&score, "layers_mean") <= layers, "{workload}: {score}");
        assert!(number(&score, "layers_max") <= 94.0, "{workload}: {score}");
    }
}

#[test]
fn scores_other_strategies() {
    let score = |arguments: &[&str]| scores(arguments, &["images-1.txt"]).remove(0);
    let alone = score(&["--without-profile"]);
    let one = score(&["--budget", "1", "--without-profile"]);
    let popularity = score(&["--strategy", "popularity"]);
    for score in [&alone, &one, &popularity] {
        assert_eq!(score["images"], 200);
        assert_eq!(score["distinct_bytes"], alone["distinct_bytes"]);
    }
    // The prototype that the design was made with: every path alone, however small.
    assert!((number(&alone, "ratio") - 1.082).abs() < 0.001, "{alone}");
    assert!(number(&alone, "layers_mean") < 80.0, "{alone}");
    // All bytes of all images are 5.22; a few of the images are the same.
    assert!((number(&one, "chain_ratio") - 5.183).abs() < 0.001, "{one}");
    assert_eq!(one["chain_ratio"], one["ratio"]);
    assert_eq!(number(&one, "layers_mean"), 1.0);
    assert!(number(&popularity, "ratio") > 1.5 && number(&popularity, "chain_ratio") > 3.5, "{popularity}");
}

#[test]
fn holds_up_when_the_revision_changes() {
    let updates = ["--update", "leaves:5", "--update", "library:libssl3"];
    let score = scores(&updates, &["images-1.txt"]).remove(0);
    let after = |update: usize, data: &str, key: &str| number(&score["updates"][update][data], key);
    assert_eq!(score["updates"][0]["update"], "leaves:5");
    assert_eq!(score["updates"][1]["update"], "library:libssl3");
    for update in 0..2 {
        assert!(number(&score["updates"][update], "changed_bytes") > 1e7, "{score}");
        for data in ["kept", "renewed"] {
            assert!((1.0..1.2).contains(&after(update, data, "ratio")), "{score}");
            assert!(after(update, data, "chain_ratio") < 6.5, "{score}");
        }
    }
    // Most of what is above a leaf is its own.
    assert!(after(0, "kept", "chain_ratio") < 2.0, "{score}");
    // Nobody has the others' figures changed.
    assert_eq!(scores(&[], &["images-1.txt"])[0]["transferred_bytes"], score["transferred_bytes"]);
}

#[test]
fn says_what_is_wrong() {
    let fails = |output: Output, code: i32, message: &str| {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(message), "{text}");
    };
    fails(simulate(&["--strategy", "best"], &["images-1.txt"]), 2, "there are sharing and popularity");
    fails(simulate(&["--budget", "0"], &["images-1.txt"]), 2, "--budget");
    fails(simulate(&[], &[]), 2, "--images");
    fails(simulate(&["--update", "leaves"], &["images-1.txt"]), 2, "leaves:PERCENT or library:NAME");
    fails(simulate(&["--update", "library:libnone"], &["images-1.txt"]), 2, "the graph has no libnone");
    fails(simulate(&[], &["no-such-file"]), 1, "cannot read");
    fails(simulate(&[], &["debian-graph.json.gz"]), 1, "cannot read");
}
