//! `firn simulate` on Debian's dependency graph, by which layering is measured.

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
fn sharing_makes_pulls_short() {
    // Upper limits: bytes fetched by content, by chain; average number of layers; seconds for all images, and for one
    // alone.
    let table = [
        ("images-1.txt", 1.25, 2.62, 16.0, 172.0, 4.0),
        ("images-2.txt", 1.21, 2.46, 16.0, 179.0, 3.85),
        ("images-3.txt", 1.25, 2.55, 16.0, 176.0, 3.85),
        // Lines of the above combined until an image has 300 paths.
        ("large-1.txt", 1.25, 2.7, 47.0, 171.0, 13.8),
        ("large-2.txt", 1.21, 2.46, 47.0, 175.0, 13.8),
        ("large-3.txt", 1.25, 2.55, 46.0, 175.0, 12.8),
        // The same line of all three files.
        ("together.txt", 1.33, 3.75, 32.0, 370.0, 8.9),
        // Drawn anew until an image has 300 paths: 358 on average.
        ("drawn.txt", 1.39, 3.65, 49.0, 585.0, 13.2),
    ];
    let workloads: Vec<&str> = table.iter().map(|row| row.0).collect();
    for ((workload, content, chain, layers, time, first), score) in
        table.into_iter().zip(scores(&[], &workloads))
    {
        assert!(number(&score, "ratio") <= content, "{workload}: {score}");
        assert!(number(&score, "chain_ratio") <= chain, "{workload}: {score}");
        assert!(number(&score, "layers_mean") <= layers, "{workload}: {score}");
        assert!(number(&score, "layers_max") <= 94.0, "{workload}: {score}");
        assert!(number(&score, "time_seconds") <= time, "{workload}: {score}");
        assert!(number(&score, "first_seconds") <= first, "{workload}: {score}");
        // Every image is the union of its packages' layers.
        assert_eq!(score["composable"], 1.0, "{workload}: {score}");
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
    // Nothing is known of the package set. Most bytes are still shared, in few layers.
    assert!(number(&alone, "ratio") < 1.18 && number(&alone, "layers_mean") < 21.0, "{alone}");
    assert!(number(&alone, "time_seconds") < 179.0 && number(&alone, "first_seconds") < 4.4, "{alone}");
    assert_eq!(alone["composable"], 1.0);
    // All bytes of all images make 5.22; a few of the images are equal.
    assert!((number(&one, "chain_ratio") - 5.183).abs() < 0.001, "{one}");
    assert_eq!(one["chain_ratio"], one["ratio"]);
    assert_eq!(number(&one, "layers_mean"), 1.0);
    assert!(number(&popularity, "ratio") > 1.5 && number(&popularity, "chain_ratio") > 3.5, "{popularity}");
    assert!(number(&popularity, "composable") < 0.5, "{popularity}");
}

/// The cost of a layer decides how many there are.
#[test]
fn layers_have_a_price() {
    let [free, cheap, dear] = ["0", "0.005", "0.1"]
        .map(|seconds| scores(&["--layer-seconds", seconds], &["images-3.txt"]).remove(0));
    // Layers are so cheap that an image has as many as the budget allows. A lower cost would change nothing.
    assert_eq!(free["transferred_bytes"], cheap["transferred_bytes"]);
    assert!(number(&cheap, "ratio") < 1.07 && number(&cheap, "layers_mean") > 27.0, "{cheap}");
    assert!(number(&dear, "ratio") < 1.4 && number(&dear, "layers_mean") < 12.0, "{dear}");
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
            assert!(after(update, data, "ratio") >= 1.0, "{score}");
        }
    }
    // An updated leaf changes the layers of what only its package needs. An updated library changes the layers of
    // what needs it.
    assert!(after(0, "kept", "ratio") < 3.1 && after(0, "kept", "chain_ratio") < 3.1, "{score}");
    assert!(after(1, "kept", "ratio") < 1.65 && after(1, "kept", "chain_ratio") < 6.0, "{score}");
    // A new profile chooses other paths for layers of their own.
    assert!(after(1, "renewed", "ratio") < 1.75, "{score}");
    // An update does not change the figures without it.
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
