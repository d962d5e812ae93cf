//! Packages, and builders of images of them.

use crate::builder;
use firn_backend::{
    images::{BuildResult, Builder, ImageStatus},
    package_set::PackageSet,
    store::Store,
    waiting::Client,
};
use firn_shared::{
    naming::{
        image_name::ImageName,
        package_source::{PackageSource, Revisions},
    },
    oci::reference::Tag,
};
use firn_tests::{package_set, random::Random};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A few packages that Nix has never built, and a directory for their builders.
pub(crate) struct Site {
    dir: TempDir,
    pub(crate) random: Random,
}

impl Site {
    /// `count` packages, for the test of this name.
    pub(crate) fn new(test: &str, count: usize) -> Self {
        let problem = "Nix is not configured; run: source setup/nix-env.sh";
        assert!(std::env::var_os("NIX_CONFIG").is_some(), "{problem}");
        let random = Random::seeded(test);
        let dir = tempfile::tempdir().expect("a directory");
        package_set::write(&dir.path().join("set"), &package_set::many(count, random.clone().number()));
        Self { dir, random }
    }

    /// The directory for staging folders.
    pub(crate) fn staging(&self) -> PathBuf {
        self.dir.path().join("staging")
    }

    /// A builder of images of the packages.
    pub(crate) fn builder(&self, store: Store) -> Arc<Builder> {
        let source = PackageSource::Path { path: self.dir.path().join("set"), flake: None };
        let packages = PackageSet::new(source, Revisions::Fixed, self.dir.path(), Duration::from_secs(60));
        builder::builder(store, packages.expect("a directory"), self.dir.path())
    }
}

/// Asks for an image and waits for it.
pub(crate) async fn image(builder: &Arc<Builder>, name: &ImageName) -> BuildResult {
    let set = builder.package_set(&Tag::default(), Client::NOBODY).await?;
    match builder.image(name, &Tag::default(), &set, Client::NOBODY).await? {
        ImageStatus::Ready(image) => Ok(image),
        ImageStatus::Building(waiting) => waiting.outcome().await,
    }
}
