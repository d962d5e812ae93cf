//! The names of a package set: one evaluation of `nix/index.nix`.

use super::{Nix, ProcessError, ResolveError};
use crate::{
    audience::{Audience, Client},
    package_set::Source,
};
use firn_shared::{name_index::Names, platform::Platform};
use serde::Serialize;

/// How far to look, most first.
const DEPTHS: [&str; 3] = ["sets", "named", "top"];

#[derive(Serialize)]
struct IndexRequest<'a> {
    source: &'a Source,
    system: &'static str,
    config: super::resolve::Config,
    depth: &'static str,
}

impl Nix {
    /// The names of a package set. An attribute that takes the whole evaluation down with it (`abort`, a type
    /// error, endless recursion) costs depth: the sets' own names are always there.
    ///
    /// # Errors
    /// When the package set itself cannot be loaded, or Nix cannot be run.
    pub async fn names(
        &self,
        source: &Source,
        platform: Platform,
        allow_unfree: bool,
    ) -> Result<Names, ResolveError> {
        let mut last = None;
        let firn = Audience::of(Client::NOBODY);
        for depth in DEPTHS {
            let config = super::resolve::config(allow_unfree);
            let request = IndexRequest { source, system: platform.system(), config, depth };
            let _turn = self.evaluations.take(&firn).await?;
            match self.evaluate_file(self.expressions.index(), &request, self.eval_timeout).await {
                Ok(answer) => return serde_json::from_slice(&answer).map_err(ResolveError::Answer),
                Err(error @ (ProcessError::Failed { .. } | ProcessError::Timeout { .. })) => {
                    tracing::info!(depth, error = %error, "names cannot be listed in this depth");
                    last = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.expect("every depth was tried").into())
    }
}
