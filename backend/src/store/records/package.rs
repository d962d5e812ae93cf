//! What is kept of a package, and of the names of a package set.

use super::{super::StoreError, RecordKind, Store};
use firn_shared::{
    cache_key::CacheKey,
    naming::{
        package::{PackageProblem, PackageRecord},
        package_name::PackageName,
        package_source::Revision,
    },
    oci::platform::Platform,
};
use serde::{Deserialize, Serialize};

/// What was found out about a name at a revision.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NameRecord {
    /// When the revision was committed, in seconds since 1970.
    pub(crate) revision_date: Option<i64>,
    /// The package of this name, or why there is none.
    pub(crate) package: Result<PackageRecord, PackageProblem>,
    /// Stands for the keys and the binary caches that were trusted then
    /// ([`BinaryCaches::trust`](crate::binary_cache::BinaryCaches::trust)). None if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trust: Option<String>,
}

impl NameRecord {
    /// Whether it still holds with this trust. The hashes of its closure may come from a key that has been revoked since. What
    /// was made without binary caches comes from the Nix store.
    pub(crate) fn is_trusted(&self, trust: Option<CacheKey>) -> bool {
        self.trust.is_none() || self.trust == trust.map(|trust| trust.to_string())
    }
}

impl Store {
    /// All packages on record, of any revision and platform, in no particular order.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn recorded_packages(&self) -> Result<Vec<PackageRecord>, StoreError> {
        let all = self.records::<NameRecord>(RecordKind::Package).await?;
        Ok(all.into_iter().filter_map(|record| record.package.ok()).collect())
    }
}

/// The key of the [`NameRecord`] of a name.
pub(crate) fn package_key(
    revision: &Revision,
    platform: Platform,
    allow_unfree: bool,
    name: &PackageName,
) -> CacheKey {
    CacheKey::builder("package-2")
        .field(serde_json::to_vec(revision).expect("revisions serialise"))
        .field(platform.system())
        .field([u8::from(allow_unfree)])
        .field(name.as_str())
        .build()
}

/// The key of the index of a package set's names.
pub(crate) fn names_key(revision: &Revision, platform: Platform, allow_unfree: bool) -> CacheKey {
    CacheKey::builder("names-2")
        .field(serde_json::to_vec(revision).expect("revisions serialise"))
        .field(platform.system())
        .field([u8::from(allow_unfree)])
        .build()
}

/// The key of a part of what a survey collects for the index with the key `names`.
pub(crate) fn survey_key(names: &CacheKey, part: usize) -> CacheKey {
    CacheKey::builder("survey-1").field(names.to_string()).field(part.to_string()).build()
}
