//! Realising: making store paths exist, by building or substituting, and keeping them while they are needed.

use super::{Bounds, Memory, Nix, ProcessError};
use crate::turns::Client;
use firn_shared::package::Package;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// Keeps store paths from being garbage-collected while it exists.
#[derive(Debug)]
pub struct GcRoot {
    links: Vec<PathBuf>,
}

impl Drop for GcRoot {
    fn drop(&mut self) {
        for link in &self.links {
            // A link that stays behind costs disk space; the next process removes it.
            let _ = std::fs::remove_file(link);
        }
    }
}

/// Why store paths could not be realised.
#[derive(Debug, thiserror::Error)]
pub enum RealiseError {
    /// A builder failed, took too long by itself or made something else than it promised. Other packages have
    /// been realised all the same.
    #[error("a builder failed")]
    Builder(#[source] ProcessError),
    /// Anything else: Nix could not be run, its store is full or locked, its time ran out.
    #[error(transparent)]
    Process(ProcessError),
}

/// The exit codes by which `nix-store --realise` tells that builders are to blame (Nix manual, nix-store,
/// "Special exit codes"): 100 and more, with a bit each for time-out, hash mismatch and nondeterminism.
const BUILDER_FAILED: std::ops::RangeInclusive<i32> = 100..=111;

static NEXT_ROOT: AtomicU64 = AtomicU64::new(0);

impl Nix {
    /// Realises the selected outputs of packages; they stay in the store while the root exists.
    ///
    /// One package that fails does not stop the others. Clients take turns. Each line of Nix's structured log goes to `line`.
    ///
    /// # Errors
    /// When a package fails to build, Nix cannot be run or takes too long.
    pub async fn realise(
        &self,
        packages: &[&Package],
        client: Client,
        line: impl FnMut(&str) + Send,
    ) -> Result<GcRoot, RealiseError> {
        let _turn = self.realisations.take(client).await;
        let link = self.gc_roots.path().join(NEXT_ROOT.fetch_add(1, Ordering::Relaxed).to_string());
        let timeout = self.build_timeout.as_secs();
        let mut arguments = vec!["--realise".into()];
        for package in packages {
            for output in &package.outputs {
                arguments.push(format!("{}!{}", package.drv, output.name).into());
            }
        }
        // Nix numbers the links of further paths: link, link-2, …
        let links = (0..arguments.len()).map(|i| match i {
            0 => link.clone(),
            i => PathBuf::from(format!("{}-{}", link.display(), i + 1)),
        });
        let root = GcRoot { links: links.collect() };
        arguments.extend(["--add-root".into(), link.clone().into(), "--indirect".into()]);
        arguments.extend(["--keep-going".into(), "--timeout".into(), timeout.to_string().into()]);
        arguments.extend(["--log-format".into(), "internal-json".into()]);
        let bounds = Bounds { time: self.build_timeout, memory: Memory::Family(self.build_memory_bytes) };
        match self.run("nix-store", arguments, bounds, line).await {
            Ok(_) => Ok(root),
            Err(error @ ProcessError::Failed { status, .. }) if BUILDER_FAILED.contains(&status) => {
                Err(RealiseError::Builder(error))
            }
            Err(other) => Err(RealiseError::Process(other)),
        }
    }
}
