//! Nix, run as child processes: evaluates, realises, reads closures.
//!
//! Nix resolves names and realises store paths, and does nothing else: no graph, tar or hash is a derivation. Names
//! are validated types, and reach Nix as one JSON argument.

mod clock;
mod complaint;
mod configuration;
mod derivation;
mod expressions;
mod failure;
mod family;
mod index;
mod isolation;
mod launch;
mod limits;
mod pieces;
mod probe;
mod process;
mod realise;
mod requirement;
mod requisites;
mod resolve;
mod restriction;
mod running;

pub use configuration::{CacheConfiguration, ConfigurationError};
pub use failure::{Blame, Fault, Obstacle};
pub use firn_shared::nix::log::BuildLog;
pub use index::NamesRequest;
pub use isolation::{Isolation, IsolationError, OwnFiles};
pub use limits::{IsolationPolicy, NixLimits};
pub use process::ProcessError;
use process::{Bounds, Memory};
pub use realise::{GcRoot, RealiseError};
pub use requisites::RequisitesError;
pub use resolve::{EvaluationBudget, ResolveError, ResolveRequest, Resolved};
use running::RunningGroups;

use crate::{process::OwnFolder, waiting::Turns};
use expressions::Expressions;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often background work checks whether all evaluations have ended.
const LOOK_FOR_QUIET: Duration = Duration::from_millis(500);

/// The folder of the store for evaluations.
const OWN_STORE: &str = "expressions";

/// Where evaluations write what their expressions refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvaluationStore {
    /// The store that Nix is configured with.
    OfNix,
    /// A store in Firn's data directory, which holds expressions alone. Then no store is needed at `/nix/store`, but nothing
    /// that was evaluated can be built.
    Own,
}

/// A Nix installation with its limits.
#[derive(Debug)]
pub struct Nix {
    expressions: Expressions,
    /// None if Nix runs without isolation.
    isolation: Option<Isolation>,
    /// Links to the store paths that builds need. Links of killed processes have been removed.
    gc_roots: OwnFolder,
    /// A store for evaluations alone, where nothing is realised.
    own_store: Option<PathBuf>,
    /// Settings for processes that realise: which binary caches they use.
    substituters: Vec<OsString>,
    limits: NixLimits,
    evaluations: Arc<Turns>,
    realisations: Arc<Turns>,
    processes: AtomicU64,
    running: RunningGroups,
}

impl Nix {
    /// Nix with its state (expressions, GC roots) in this directory. Nix cannot see this directory, nor the files in
    /// `others`.
    ///
    /// # Errors
    /// If the directory cannot be written to, or isolation is required and does not work.
    pub fn new(
        limits: NixLimits,
        isolation: IsolationPolicy,
        dir: &Path,
        others: OwnFiles,
        store: EvaluationStore,
    ) -> io::Result<Self> {
        let gc_roots = OwnFolder::new(&dir.join("gcroots"))?;
        let expressions = Expressions::install(&dir.join("nix"))?;
        let mut own = others.clone();
        own.hidden.push(dir.to_owned());
        own.written.extend([dir.join("nix"), dir.join("gcroots")]);
        let own_store = match store {
            EvaluationStore::OfNix => None,
            EvaluationStore::Own => {
                let store = dir.join(OWN_STORE);
                std::fs::create_dir_all(&store)?;
                own.written.push(store.clone());
                Some(store)
            }
        };
        own.read.push(dir.join("sources"));
        let isolation = match isolation {
            IsolationPolicy::Always => Some(Isolation::new(&own).map_err(io::Error::other)?),
            // If isolation is needed and does not work, the caller reports it.
            IsolationPolicy::Auto if others.strangers => Isolation::new(&own).ok(),
            IsolationPolicy::Auto | IsolationPolicy::Never => None,
        };
        Ok(Self {
            expressions,
            isolation,
            gc_roots,
            own_store,
            substituters: Vec::new(),
            limits,
            evaluations: Turns::new(limits.evaluations),
            realisations: Turns::new(limits.realisations),
            processes: AtomicU64::new(0),
            running: RunningGroups::default(),
        })
    }

    /// Lets what is realised come from these binary caches, in place of those that Nix is configured with. A daemon heeds it
    /// only for users whom it trusts.
    #[must_use]
    pub fn with_substituters(self, settings: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let option = |(name, value): (&str, String)| ["--option".into(), name.into(), value.into()];
        Self { substituters: settings.into_iter().flat_map(option).collect(), ..self }
    }

    /// The arguments that say in which store something is evaluated.
    fn store_for_evaluations(&self) -> impl Iterator<Item = OsString> {
        self.own_store.iter().flat_map(|store| ["--store".into(), store.into()])
    }

    /// Removes the GC roots, before this process ends.
    pub(crate) fn remove_roots(&self) {
        self.gc_roots.remove();
    }

    /// Whether package code is isolated from Firn's memory and secrets.
    pub fn is_apart(&self) -> bool {
        self.isolation.is_some()
    }

    /// Timeout of a build.
    pub fn build_timeout(&self) -> Duration {
        self.limits.build_time
    }

    /// Returns when no evaluation runs.
    pub async fn quiet(&self) {
        while !self.evaluations.is_idle() {
            tokio::time::sleep(LOOK_FOR_QUIET).await;
        }
    }

    /// How many Nix processes have been started for images so far. Images of known packages start none.
    pub fn processes(&self) -> u64 {
        self.processes.load(Ordering::Relaxed)
    }
}
