//! Prints what a million pulls cost on Cloudflare: each kind of pull in each mode, as counted on the planet, beside a
//! plain bucket and a registry that reads every blob through a Worker. `make bench BENCH=bill` runs it.

use firn_tests::edge::{
    planet::{Bill, Prices},
    receipts::{LAYERS, Mode, Receipt, receipts},
};

/// Config and layers.
const BLOBS: u64 = LAYERS as u64 + 1;

#[tokio::main]
async fn main() {
    let prices = Prices::list();
    let missed = 1.0 - prices.assumed_cdn_hit_ratio;
    println!("Dollars per million pulls of an image of {LAYERS} layers by clients that have nothing");
    println!("(the composed image has 5 blobs)\n");
    let line = |mode: &str, kind: &str, dollars: f64, operations: &str| {
        println!("{mode:<24} {kind:<22} {dollars:>8.2}   {operations}");
    };
    for mode in Mode::ALL {
        for (kind, Receipt { bill, redirects }) in receipts(mode).await.0 {
            // What the bucket charges for blobs that clients fetch there.
            let reads = redirects as f64
                * match mode {
                    Mode::Public | Mode::PublicByRule => missed,
                    Mode::Presigned | Mode::PrivatePresigned => 1.0,
                    Mode::Backend | Mode::R2 | Mode::PrivateR2 => 0.0,
                };
            let dollars = bill.dollars_per_million(&prices) + reads * prices.of("r2_class_b");
            line(mode.name(), kind.name(), dollars, &format!("{bill}, bucket_reads {reads:.1}"));
        }
        println!();
    }
    // HEAD and GET of the manifest, and the blobs.
    let bucket = Bill { r2_class_b: 2 + BLOBS, ..Bill::default() };
    let dollars = bucket.dollars_per_million(&prices);
    line("plain public R2 bucket", "nothing cached", dollars, &bucket.to_string());
    let ratio = format!("{:.0} % cached by CDN", 100.0 * prices.assumed_cdn_hit_ratio);
    line(
        "plain public R2 bucket",
        &ratio,
        dollars * missed,
        &format!("bucket_reads {:.1}", (2 + BLOBS) as f64 * missed),
    );
    // As in cloudflare/serverless-registry: each request but the log-in is one read of R2 by the Worker.
    let through =
        Bill { worker_requests: 3 + BLOBS, worker_runs: 3 + BLOBS, r2_class_b: 2 + BLOBS, ..Bill::default() };
    line("serverless-registry", "always", through.dollars_per_million(&prices), &through.to_string());
}
