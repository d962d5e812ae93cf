//! What Cloudflare charges for.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Sub;

/// Cloudflare's prices, and what is free each day on the free plan.
#[derive(Debug, Deserialize)]
pub struct Prices {
    /// Dollars per million operations, by kind, beyond what is included.
    pub dollars_per_million: BTreeMap<String, f64>,
    /// Operations a day on the free plan, by kind.
    pub free_per_day: BTreeMap<String, u64>,
    /// Which part of the requests to a bucket's domain its cache answers, with a cache rule.
    pub assumed_cdn_hit_ratio: f64,
}

impl Prices {
    /// The prices in `tests/prices.json`.
    ///
    /// # Panics
    /// If it is no list of prices.
    pub fn list() -> Self {
        serde_json::from_str(include_str!("../../../prices.json")).expect("a list of prices")
    }

    /// The price of a kind of operation in dollars per million.
    ///
    /// # Panics
    /// If it has none.
    pub fn of(&self, kind: &str) -> f64 {
        *self
            .dollars_per_million
            .get(kind)
            .unwrap_or_else(|| panic!("{kind} has no price in tests/prices.json"))
    }
}

/// The number of operations of each kind that is charged for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bill {
    /// Requests to the Worker, also those that Workers Cache answers.
    pub worker_requests: u64,
    /// Runs of the Worker, which use CPU time. Workers Cache also has it run after an answer.
    pub worker_runs: u64,
    /// Reads of KV, also those that find nothing.
    pub kv_reads: u64,
    /// Writes to KV, also those that are refused.
    pub kv_writes: u64,
    /// Deletions in KV.
    pub kv_deletes: u64,
    /// Lists of KV, one a page.
    pub kv_lists: u64,
    /// Writes to R2, and lists.
    pub r2_class_a: u64,
    /// Reads of R2.
    pub r2_class_b: u64,
    /// Requests to Durable Objects.
    pub object_requests: u64,
    /// Rows that Durable Objects read.
    pub rows_read: u64,
    /// Rows that Durable Objects wrote.
    pub rows_written: u64,
    /// Points in Analytics Engine.
    pub analytics_points: u64,
    /// Lines in the log.
    pub log_lines: u64,
}

impl Bill {
    /// The kinds with their numbers, as they are named in `tests/prices.json`.
    pub fn lines(&self) -> [(&'static str, u64); 13] {
        [
            ("worker_requests", self.worker_requests),
            ("worker_runs", self.worker_runs),
            ("kv_reads", self.kv_reads),
            ("kv_writes", self.kv_writes),
            ("kv_deletes", self.kv_deletes),
            ("kv_lists", self.kv_lists),
            ("r2_class_a", self.r2_class_a),
            ("r2_class_b", self.r2_class_b),
            ("object_requests", self.object_requests),
            ("rows_read", self.rows_read),
            ("rows_written", self.rows_written),
            ("analytics_points", self.analytics_points),
            ("log_lines", self.log_lines),
        ]
    }
}

impl Bill {
    /// What a million of this costs, in dollars.
    pub fn dollars_per_million(&self, prices: &Prices) -> f64 {
        self.lines().into_iter().map(|(kind, count)| count as f64 * prices.of(kind)).sum()
    }
}

impl Sub for Bill {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            worker_requests: self.worker_requests - before.worker_requests,
            worker_runs: self.worker_runs - before.worker_runs,
            kv_reads: self.kv_reads - before.kv_reads,
            kv_writes: self.kv_writes - before.kv_writes,
            kv_deletes: self.kv_deletes - before.kv_deletes,
            kv_lists: self.kv_lists - before.kv_lists,
            r2_class_a: self.r2_class_a - before.r2_class_a,
            r2_class_b: self.r2_class_b - before.r2_class_b,
            object_requests: self.object_requests - before.object_requests,
            rows_read: self.rows_read - before.rows_read,
            rows_written: self.rows_written - before.rows_written,
            analytics_points: self.analytics_points - before.analytics_points,
            log_lines: self.log_lines - before.log_lines,
        }
    }
}

/// The kinds of which there are any.
impl fmt::Display for Bill {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines().into_iter().filter(|(_, count)| *count > 0);
        let lines: Vec<String> = lines.map(|(kind, count)| format!("{kind} {count}")).collect();
        formatter.write_str(&lines.join(", "))
    }
}
