//! `firn fsck`: reads everything in the store and reports what is wrong.

use super::{Failure, upkeep};
use crate::{
    config::StorageArgs,
    upkeep::{FsckReport, check},
};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(super) struct FsckArgs {
    /// Move what is corrupt to quarantine and remove the records that depend on it, so that the next request makes it
    /// again; servers may go on running
    #[arg(long)]
    repair: bool,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    storage: StorageArgs,
}

/// Returns exit code 1 if it found a problem that was not repaired.
pub(super) fn run(args: &FsckArgs) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::error(&error))?;
    let report = runtime.block_on(fsck(args))?;
    match args.json {
        true => println!("{}", serde_json::to_string(&report).expect("reports have text keys")),
        false => print(&report),
    }
    let is_clean = report.findings.iter().all(|finding| finding.repaired);
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn fsck(args: &FsckArgs) -> Result<FsckReport, Failure> {
    let store = upkeep::open(&args.storage)?;
    let bar = ProgressBar::new(0);
    let style = "{bar:40} {bytes}/{total_bytes} of blobs, {bytes_per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a constant template"));
    let progress = |done: u64, all: u64| {
        bar.set_length(all);
        bar.set_position(done);
    };
    let report = check(&store, args.repair, progress).await;
    bar.finish_and_clear();
    report.map_err(|error| Failure::error(&error))
}

fn print(report: &FsckReport) {
    for finding in &report.findings {
        let problem = serde_json::to_value(finding.problem).expect("a text");
        let problem = problem.as_str().unwrap_or_default().replace('_', " ");
        let repaired = if finding.repaired { ", repaired" } else { "" };
        println!("{problem:20} {}: {}{repaired}", finding.object, finding.detail);
    }
    println!(
        "{} blobs with {} MiB and {} records read, {} problems, {} objects in quarantine",
        report.blobs,
        report.bytes >> 20,
        report.records,
        report.findings.len(),
        report.quarantined
    );
}
