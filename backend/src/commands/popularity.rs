//! `firn popularity`: collects data for layering, from a binary cache, from the local Nix store, or from the records
//! of a backend.

use super::{Failure, pull_costs::PullCostsArgs, upkeep};
use crate::{
    binary_cache::{CacheUrl, Journal, crawl},
    commands::output::OutputFile,
    config::StorageArgs,
};
use clap::Args;
use firn_shared::{
    StorePath,
    layering::{PopularityCounts, RevisionProfile},
    nix::{
        closure::{Closure, PathInfo},
        dump_db,
    },
};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("from").required(true).args(["cache", "store", "records"])))]
pub(super) struct PopularityArgs {
    /// URL of a binary cache (https://, file:// or s3://) to read .narinfo files from
    #[arg(long, value_name = "URL", requires = "paths")]
    cache: Option<CacheUrl>,

    /// File with the store paths to start from, one a line, or - for standard input; for example a channel's
    /// store-paths.xz, unpacked
    #[arg(long, value_name = "FILE")]
    paths: Option<PathBuf>,

    /// Read the database of the local Nix store instead
    #[arg(long)]
    store: bool,

    /// Read the records of packages in a server's storage instead
    #[arg(long)]
    records: bool,

    /// File that records what has been read, so that an interrupted crawl can resume
    #[arg(long, value_name = "FILE", requires = "cache")]
    journal: Option<PathBuf>,

    /// Where to write popularity data (counts by name), for --strategy popularity [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Where to write which paths get layers of their own, for --strategy sharing
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,

    #[command(flatten)]
    costs: PullCostsArgs,

    #[command(flatten)]
    storage: StorageArgs,
}

pub(super) fn run(args: PopularityArgs) -> Result<(), Failure> {
    let infos = match &args.cache {
        Some(cache) => from_cache(cache, &args)?,
        None if args.records => from_records(&args.storage)?,
        None => from_store()?,
    };
    let counts: PopularityCounts = infos
        .iter()
        .flat_map(|info| info.references.iter().filter(|path| **path != info.path))
        .map(|path| (path.name().to_owned(), 1))
        .collect();
    let counts = serde_json::to_vec(&counts).expect("names and counts serialise");
    match &args.output {
        Some(path) => write(path, &counts)?,
        None => std::io::stdout().write_all(&counts).map_err(|error| Failure::error(&error))?,
    }
    if let Some(path) = &args.profile {
        let closure = Closure::new(&closed(infos)).map_err(|error| Failure::error(&error))?;
        let profile = RevisionProfile::of_package_set(&closure, args.costs.costs());
        eprintln!("firn: profile {} of {} store paths", profile.id(), closure.len());
        write(path, &serde_json::to_vec(&profile).expect("names serialise"))?;
    }
    Ok(())
}

fn from_cache(cache: &CacheUrl, args: &PopularityArgs) -> Result<Vec<PathInfo>, Failure> {
    let paths = args.paths.as_deref().expect("clap requires it");
    let error = |error: std::io::Error| Failure::Error(format!("{}: {error}", paths.display()));
    let text = if paths == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(error)?;
        text
    } else {
        std::fs::read_to_string(paths).map_err(error)?
    };
    let roots: Vec<StorePath> = text
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::Usage(format!("{}: {error}", paths.display())))?;
    let (mut journal, known) = match &args.journal {
        None => (Journal::none(), Vec::new()),
        Some(path) => {
            Journal::open(path).map_err(|error| Failure::Error(format!("{}: {error}", path.display())))?
        }
    };
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} store paths, {per_sec}, {eta} left");
    bar.set_style(style.expect("a constant template"));
    let progress = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::error(&error))?;
    let infos = runtime.block_on(crawl(cache, roots, known, &mut journal, progress));
    bar.finish_and_clear();
    let infos = infos.map_err(|error| Failure::error(&error))?;
    eprintln!("firn: {} store paths read", infos.len());
    Ok(infos)
}

/// The closures of all packages in the records. A store path may have been built more than once. Its name and
/// references are the same each time, and its size nearly so, so one of its path infos is kept.
fn from_records(storage: &StorageArgs) -> Result<Vec<PathInfo>, Failure> {
    let store = upkeep::open(storage)?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::error(&error))?;
    let packages = runtime.block_on(store.recorded_packages()).map_err(|error| Failure::error(&error))?;
    let mut infos = BTreeMap::new();
    for info in packages.into_iter().flat_map(|package| package.closure) {
        infos.entry(info.path.clone()).or_insert(info);
    }
    Ok(infos.into_values().collect())
}

/// How many times the store is read. Nix lists the paths and fails if one of them is deleted meanwhile.
const ATTEMPTS: usize = 5;

fn from_store() -> Result<Vec<PathInfo>, Failure> {
    let mut attempts = 0;
    let dump = loop {
        attempts += 1;
        let output = std::process::Command::new("nix-store")
            .arg("--dump-db")
            .output()
            .map_err(|error| Failure::Error(format!("cannot run nix-store: {error}; is Nix installed?")))?;
        if output.status.success() {
            break output.stdout;
        }
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if attempts == ATTEMPTS || !stderr.contains("is not valid") {
            return Err(Failure::Error(format!("nix-store --dump-db failed: {stderr}")));
        }
    };
    let mut infos =
        dump_db::parse(&String::from_utf8_lossy(&dump)).map_err(|error| Failure::error(&error))?;
    // Derivations are in the store too, but in no image.
    infos.retain(|info| !info.path.is_derivation());
    Ok(infos)
}

/// The path infos without references to paths that are not among them: a cache may lack paths.
fn closed(mut infos: Vec<PathInfo>) -> Vec<PathInfo> {
    let there: HashSet<StorePath> = infos.iter().map(|info| info.path.clone()).collect();
    infos.iter_mut().for_each(|info| info.references.retain(|path| there.contains(path)));
    infos
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = OutputFile::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.complete()
    });
    written.map_err(|error| Failure::Error(format!("cannot write {}: {error}", path.display())))
}
