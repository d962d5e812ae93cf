//! What each kind of pull costs, to the operation. The numbers are in `snapshots/`; tests/README.md says how to rewrite them.

use firn_tests::edge::{
    Origin,
    planet::{Bill, Planet, Prices, Settings},
    receipts::{Mode, Receipt, receipts},
};
use std::fmt::Write;
use std::time::Duration;

/// The counts of each kind of pull. One a line, so that changes of several can be merged.
async fn table(mode: Mode) -> String {
    let mut table = String::new();
    let (receipts, planet) = receipts(mode).await;
    for (kind, Receipt { bill, redirects }) in receipts {
        writeln!(table, "{}", kind.name()).expect("writing to a text");
        for (name, count) in bill.lines().into_iter().chain([("redirects", redirects)]) {
            writeln!(table, "    {name:<16} {count}").expect("writing to a text");
        }
    }
    // Shown if the test fails.
    println!("{}: {:#?}", mode.name(), planet.operations().await);
    table
}

#[tokio::test]
async fn blobs_from_the_backend() {
    insta::assert_snapshot!(table(Mode::Backend).await);
}

#[tokio::test]
async fn blobs_from_a_public_bucket() {
    insta::assert_snapshot!(table(Mode::Public).await);
}

#[tokio::test]
async fn blobs_by_a_redirect_rule() {
    insta::assert_snapshot!(table(Mode::PublicByRule).await);
}

#[tokio::test]
async fn blobs_by_presigned_urls() {
    insta::assert_snapshot!(table(Mode::Presigned).await);
}

#[tokio::test]
async fn blobs_through_the_worker() {
    insta::assert_snapshot!(table(Mode::R2).await);
}

#[tokio::test]
async fn private_blobs_through_the_worker() {
    insta::assert_snapshot!(table(Mode::PrivateR2).await);
}

#[tokio::test]
async fn private_blobs_by_presigned_urls() {
    insta::assert_snapshot!(table(Mode::PrivatePresigned).await);
}

#[test]
fn everything_has_a_price() {
    let prices = Prices::list();
    for (kind, _) in Bill::default().lines() {
        assert!(prices.of(kind) > 0.0, "{kind}");
        assert!(
            kind == "worker_runs" || kind.starts_with("r2_") || prices.free_per_day.contains_key(kind),
            "{kind}"
        );
    }
    let bill = Bill { worker_requests: 2, kv_writes: 1, ..Bill::default() };
    assert!((bill.dollars_per_million(&prices) - 5.6).abs() < 1e-9);
}

/// One tag that is pulled all day long. More pulls by the same isolates change no more than the number of requests.
#[tokio::test]
async fn a_day_is_within_the_free_plan() {
    const PULLS: u32 = 500;
    let origin = Origin::start().await;
    let planet = Planet::start(Settings::new(&origin.named()).free()).await;
    let (bill, ()) = planet
        .bill_for(async {
            for i in 0..PULLS {
                let place = planet.at(if i % 3 == 0 { "nrt" } else { "lhr" });
                assert_eq!(place.head("/v2/shell/git/manifests/latest").await.status(), 200);
                planet.settle().await;
                planet.advance(Duration::from_secs(24 * 3600) / PULLS).await;
            }
        })
        .await;
    let free = Prices::list().free_per_day;
    for (kind, count) in bill.lines() {
        if let Some(free) = free.get(kind) {
            assert!(count <= *free, "{kind}: {count} of {free}, in {bill}");
        }
    }
    println!("{bill}");
}
