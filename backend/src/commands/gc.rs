//! `firn gc`: removes images that no client pulls, and whatever nothing needs any more.

use super::{Failure, upkeep};
use crate::{
    config::{RetentionArgs, StorageArgs},
    upkeep::{Collection, collect},
};
use clap::Args;

#[derive(Debug, Args)]
pub(super) struct GcArgs {
    /// Print what would be removed and why, and remove nothing
    #[arg(long)]
    dry_run: bool,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    storage: StorageArgs,

    #[command(flatten)]
    retention: RetentionArgs,
}

pub(super) fn run(args: &GcArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::error(&error))?;
    let collection = runtime.block_on(gc(args))?;
    match args.json {
        true => println!("{}", serde_json::to_string(&collection).expect("reports have text keys")),
        false => print(&collection),
    }
    Ok(())
}

async fn gc(args: &GcArgs) -> Result<Collection, Failure> {
    let store = upkeep::open(&args.storage)?;
    let policy = args.retention.policy();
    let store = store.with_grace(policy.grace);
    let collection = collect(&store, &policy, args.dry_run).await.map_err(|error| Failure::error(&error))?;
    collection.ok_or_else(|| Failure::Error("another process is collecting garbage in this storage".into()))
}

fn print(collection: &Collection) {
    let would = if collection.dry_run { "would be " } else { "" };
    if !collection.images.is_empty() {
        println!("{:8} {:>12}  {:12}  IMAGE", "REASON", "UNUSED FOR", "REVISION");
    }
    for image in &collection.images {
        let reason = serde_json::to_value(image.reason).expect("a text");
        let (hours, days) = (image.unused_seconds / 3600, image.unused_seconds / 86_400);
        let unused = if days > 1 { format!("{days} days") } else { format!("{hours} hours") };
        let revision: String = image.revision.chars().take(12).collect();
        println!("{:8} {unused:>12}  {revision:12}  {}", reason.as_str().unwrap_or_default(), image.name);
    }
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "{} images, {} records and {} blobs {would}removed, {} MiB {would}freed",
        collection.images.len(),
        collection.records,
        collection.blobs,
        mib(collection.freed_bytes)
    );
    println!(
        "{} images stay; {} blobs with {} MiB will be removed after their grace period; {} MiB in use",
        collection.images_kept,
        collection.condemned,
        mib(collection.condemned_bytes),
        mib(collection.used_bytes)
    );
}
