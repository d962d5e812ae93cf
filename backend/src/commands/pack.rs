//! `firn pack`: packs one layer without a store.

use super::Failure;
use crate::{
    commands::output::OutputFile,
    packing::{Encoder, FileTree, PackedLayer, Packer},
};
use clap::Args;
use serde_json::json;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Debug, Args)]
pub(super) struct PackArgs {
    /// What goes into the layer: store paths, or any other files and directories; each has the same absolute path in
    /// the layer
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// File to write the layer to; it appears when it is complete
    #[arg(long, value_name = "FILE")]
    output: PathBuf,

    /// How the layer is compressed: gzip or zstd, optionally with :LEVEL
    #[arg(long, env = "FIRN_COMPRESSION", value_name = "METHOD", default_value_t = Encoder::GZIP)]
    compression: Encoder,

    /// Number of threads that read and compress [default: one per core]; it does not change the layer
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: PackArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let threads = match args.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism().map_err(|error| Failure::error(&error))?,
    };
    let trees = args.paths.iter().map(|path| tree(path)).collect::<Result<_, _>>()?;
    let packer = Packer::new(args.compression, threads).map_err(|error| Failure::error(&error))?;

    let failed = |error| Failure::Error(format!("cannot write {}: {error}", args.output.display()));
    let mut output = OutputFile::create(&args.output).map_err(failed)?;
    let packed = packer.pack(trees, &mut output).map_err(|error| Failure::error(&error))?;
    output.complete().map_err(failed)?;
    tell(&packed, &args, started);
    Ok(())
}

fn tell(packed: &PackedLayer, args: &PackArgs, started: Instant) {
    if args.json {
        let result = json!({
            "digest": packed.digest,
            "diff_id": packed.diff_id,
            "size": packed.size,
            "uncompressed": packed.uncompressed,
            "seconds": started.elapsed().as_secs_f64(),
        });
        println!("{result}");
    } else {
        println!("{}", packed.digest);
    }
}

fn tree(path: &Path) -> Result<FileTree, Failure> {
    let absolute = std::path::absolute(path).map_err(|error| Failure::error(&error))?;
    // Collecting the components drops a trailing slash, such as a shell's completion adds.
    FileTree::absolute(&absolute.components().collect::<PathBuf>())
        .map_err(|error| Failure::Usage(crate::error_chain::chain(&error)))
}
