//! Nix, driven as child processes: evaluate, realise, ask for closures.
//!
//! Nix resolves names and realises store paths, nothing else: no graph, tar or hash is ever a derivation.
//! Callers give names as validated types; they reach Nix as one JSON argument.

mod complaint;
mod derivation;
mod expressions;
mod failure;
mod family;
mod index;
mod isolation;
mod launch;
mod pieces;
mod probe;
mod process;
mod realise;
mod requirement;
mod requisites;
mod resolve;
mod restriction;

pub use failure::{Blame, Fault, Obstacle};
pub use firn_shared::nix::log::BuildLog;
pub use index::NamesRequest;
pub use isolation::{Isolation, IsolationError, OwnFiles};
pub use process::ProcessError;
use process::{Bounds, Groups, Memory};
pub use realise::{GcRoot, RealiseError};
pub use requisites::RequisitesError;
pub use resolve::{Budget, ResolveError, ResolveRequest, Resolved};

use crate::{
    config::{IsolationArg, NixArgs},
    store::OwnFolder,
    turns::Turns,
};
use expressions::Expressions;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often background work looks whether all evaluations have ended.
const LOOK_FOR_QUIET: Duration = Duration::from_millis(500);

/// A Nix installation with its limits.
#[derive(Debug)]
pub struct Nix {
    expressions: Expressions,
    /// None where Nix runs beside Firn as any other process.
    isolation: Option<Isolation>,
    /// For links to what builds need; what a killed process has left is gone.
    gc_roots: OwnFolder,
    eval_timeout: Duration,
    build_timeout: Duration,
    eval_memory_bytes: u64,
    build_memory_bytes: Option<u64>,
    evaluations: Arc<Turns>,
    realisations: Arc<Turns>,
    processes: AtomicU64,
    groups: Groups,
}

impl Nix {
    /// Nix with state (expressions, GC roots) in this directory. `others` are what Nix must not see besides.
    ///
    /// # Errors
    /// When the directory cannot be written, or Nix cannot be kept apart although it has to.
    pub fn new(args: &NixArgs, dir: &Path, others: OwnFiles) -> io::Result<Self> {
        let gc_roots = OwnFolder::new(&dir.join("gcroots"))?;
        let expressions = Expressions::install(&dir.join("nix"))?;
        let mut own = others.clone();
        own.hidden.push(dir.to_owned());
        own.written.extend([dir.join("nix"), dir.join("gcroots")]);
        own.read.push(dir.join("sources"));
        let isolation = match args.isolation {
            IsolationArg::Always => Some(Isolation::new(&own).map_err(io::Error::other)?),
            // Where it has to be and does not work, the caller says so.
            IsolationArg::Auto if others.strangers => Isolation::new(&own).ok(),
            IsolationArg::Auto | IsolationArg::Never => None,
        };
        Ok(Self {
            expressions,
            isolation,
            gc_roots,
            eval_timeout: Duration::from_secs(args.eval_timeout),
            build_timeout: Duration::from_secs(args.nix_timeout),
            eval_memory_bytes: args.eval_memory << 20,
            build_memory_bytes: args.build_memory.map(|mebibytes| mebibytes << 20),
            evaluations: Turns::new(args.max_evaluations),
            realisations: Turns::new(args.max_realisations),
            processes: AtomicU64::new(0),
            groups: Groups::default(),
        })
    }

    /// Removes the links to what builds need, for when this process ends.
    pub(crate) fn remove_roots(&self) {
        self.gc_roots.remove();
    }

    /// Whether package code is kept away from Firn's memory and secrets.
    pub fn is_apart(&self) -> bool {
        self.isolation.is_some()
    }

    /// How long a build may take.
    pub fn build_timeout(&self) -> Duration {
        self.build_timeout
    }

    /// Returns when no evaluation runs.
    pub async fn quiet(&self) {
        while !self.evaluations.is_idle() {
            tokio::time::sleep(LOOK_FOR_QUIET).await;
        }
    }

    /// How many Nix processes have been started so far. An image of known packages starts none.
    pub fn processes(&self) -> u64 {
        self.processes.load(Ordering::Relaxed)
    }
}
