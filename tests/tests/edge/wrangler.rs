//! `wrangler.toml`: what a deployment costs and keeps, as far as the file decides it.

use std::collections::BTreeMap;
use std::path::Path;

/// The tables of the file, by name, with their keys and values as they are written. The settings before the first table
/// are in the one without a name.
fn tables() -> Vec<(String, BTreeMap<String, String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wrangler.toml");
    let text = std::fs::read_to_string(path).expect("wrangler.toml");
    let mut tables = vec![(String::new(), BTreeMap::new())];
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            tables.push((name.trim_matches(['[', ']']).to_owned(), BTreeMap::new()));
        } else if let Some((key, value)) = line.split_once(" = ") {
            let (_, table) = tables.last_mut().expect("a table");
            table.insert(key.to_owned(), value.trim_matches('"').to_owned());
        }
    }
    tables
}

fn table(name: &str) -> Option<BTreeMap<String, String>> {
    tables().into_iter().find(|(known, _)| known == name).map(|(_, table)| table)
}

/// The environments that are deployed.
fn environments() -> Vec<String> {
    let names = tables().into_iter().filter_map(|(name, _)| name.strip_prefix("env.").map(str::to_owned));
    let names: Vec<_> = names.filter(|name| !name.contains('.')).collect();
    assert!(names.len() >= 2, "{names:?}");
    names
}

/// Cloudflare's own lines for each request have all its headers, addresses and credentials among them, whatever
/// `FIRN_LOG` says. And a line costs twice as much as a request.
#[test]
fn invocations_are_not_logged_and_lines_are_sampled() {
    for name in environments() {
        let logs = table(&format!("env.{name}.observability.logs")).unwrap_or_default();
        assert_eq!(logs.get("invocation_logs").map(String::as_str), Some("false"), "{name}");
        let rate = logs.get("head_sampling_rate").and_then(|rate| rate.parse::<f64>().ok());
        let rate = rate.unwrap_or_else(|| panic!("{name} says which part of its lines is kept"));
        let most = if name == "production" { 0.5 } else { 1.0 };
        assert!(rate > 0.0 && rate <= most, "{name}: {rate}");
    }
}

/// An account cannot deploy with Analytics Engine before somebody has switched it on (error 10089).
#[test]
fn analytics_are_not_required() {
    let tables = tables();
    let named: Vec<_> = tables.iter().filter(|(name, _)| name.contains("analytics_engine")).collect();
    assert!(named.is_empty(), "{named:?}");
}

/// Workers Cache turns HEAD into GET, so a signed redirect would be for the wrong method. And what an older version has
/// answered must not outlive it.
#[test]
fn workers_cache_is_in_front_of_nothing_that_it_breaks() {
    for name in environments() {
        let Some(cache) = table(&format!("env.{name}.cache")).or_else(|| table("cache")) else { continue };
        assert!(!cache.contains_key("cross_version_cache"), "{name}");
        if cache.get("enabled").is_some_and(|enabled| enabled == "true") {
            let variables = table(&format!("env.{name}.vars")).expect("variables");
            assert!(["r2", "public"].contains(&&*variables["FIRN_BLOBS"]), "{name}");
            assert_eq!(variables["FIRN_ACCESS"], "public", "{name}");
        }
    }
}
