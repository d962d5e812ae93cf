//! `firn pack`: one layer, without a store.

use super::Failure;
use crate::packing::{Encoder, PackedLayer, Packer, Tree};
use clap::Args;
use crossbeam_channel::{Sender, bounded};
use serde_json::json;
use std::fs;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;
use tempfile::NamedTempFile;

#[derive(Debug, Args)]
pub(super) struct PackArgs {
    /// What goes into the layer: store paths, or any other files and directories; each has the same absolute
    /// path in the layer
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// File to write the layer to; appears when it is complete
    #[arg(long, value_name = "FILE")]
    output: PathBuf,

    /// How the layer is compressed: gzip or zstd, with :LEVEL where the default does not suit
    #[arg(long, env = "FIRN_COMPRESSION", value_name = "METHOD", default_value_t = Encoder::GZIP)]
    compression: Encoder,

    /// Threads that read and compress [default: one per core]; the layer is the same with any number
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
    // A device or a pipe is written to, not replaced.
    if args.output.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        let mut output = fs::OpenOptions::new().write(true).open(&args.output).map_err(failed)?;
        let packed = packer.pack(trees, &mut output).map_err(|error| Failure::error(&error))?;
        tell(&packed, &args, started);
        return Ok(());
    }
    let directory = args.output.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let file = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(directory)
        .map_err(failed)?;
    let packed = {
        let out = SyncedEarly::new(&file).map_err(failed)?;
        packer.pack(trees, out).map_err(|error| Failure::error(&error))?
    };
    file.as_file().sync_all().map_err(failed)?;
    file.persist(&args.output).map_err(|error| failed(error.error))?;
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
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

fn tree(path: &Path) -> Result<Tree, Failure> {
    let absolute = std::path::absolute(path).map_err(|error| Failure::error(&error))?;
    // Collecting the components drops a trailing slash, as from completion in a shell.
    Tree::absolute(&absolute.components().collect::<PathBuf>())
        .map_err(|error| Failure::Usage(crate::build::chain(&error)))
}

/// A file that goes to the disk while the rest of it is still being made, so that little is left to wait for.
struct SyncedEarly<'a> {
    file: &'a fs::File,
    unsynced: usize,
    sync: Sender<()>,
}

impl<'a> SyncedEarly<'a> {
    /// Bytes that are worth a sync.
    const BATCH: usize = 8 << 20;

    fn new(file: &'a NamedTempFile) -> io::Result<Self> {
        let (sync, asked) = bounded(1);
        // Opened by itself: the kernel reports a failure to each opener once, and the last sync must see it.
        let disk = file.reopen()?;
        // Ends with the channel.
        thread::Builder::new()
            .name("sync".into())
            .spawn(move || while asked.recv().is_ok() && disk.sync_data().is_ok() {})?;
        Ok(Self { file: file.as_file(), unsynced: 0, sync })
    }
}

impl Write for SyncedEarly<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        // While one sync is under way and another is asked for, this waits for the next batch.
        if self.unsynced >= Self::BATCH && self.sync.try_send(()).is_ok() {
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
