//! Asking for an image: it is there, or somebody builds it, or a build begins.

use super::{BuildError, Builder, ImageRecord, PackageSetState, Phase, Progress, chain};
use crate::{flights::Flight, store::RecordKind, turns::Client};
use firn_shared::{cache_key::CacheKey, image_name::ImageName, package_source::Revision, reference::Tag};
use std::sync::Arc;
use std::time::Instant;

/// What a build comes to. Shared by all who wait for it.
pub type Outcome = Result<Arc<ImageRecord>, Arc<BuildError>>;

/// Where a request for an image stands.
pub enum Request {
    /// It is there.
    Ready(Arc<ImageRecord>),
    /// It is being built.
    Building(Flight<Outcome>, Progress),
}

impl Builder {
    /// The image of this name, or the build that it is waiting for; starts the build if nobody has.
    ///
    /// # Errors
    /// When the store cannot be read, or there is no place in the queue.
    pub async fn image(
        self: &Arc<Self>,
        name: &ImageName,
        tag: &Tag,
        set: &PackageSetState,
        client: Client,
    ) -> Result<Request, BuildError> {
        let key = set.image_key(name);
        if let Some(record) = self.made(&key).await? {
            self.store.note_pull(&key);
            return Ok(Request::Ready(record));
        }
        if let Some(error) = self.failures.get(&key) {
            return Err(BuildError::Shared(error));
        }
        let start = || {
            let place = self.queue.enter(client)?;
            let progress = Progress::new(name.to_string(), client);
            self.builds.add(key, &progress);
            let (name, tag, revision) = (name.clone(), tag.clone(), set.revision.clone());
            let build = Arc::clone(self).build_and_tell(name, tag, revision, key, progress);
            Ok(async move {
                let _place = place;
                build.await
            })
        };
        let flight = self.images.join_or(key, start).map_err(BuildError::Queue)?;
        // Forgotten only when hundreds of other builds have begun since.
        let progress = self.builds.latest(&key).unwrap_or_else(|| Progress::new(name.to_string(), client));
        Ok(Request::Building(flight, progress))
    }

    /// The image, if it has been made and all of it is there.
    async fn made(&self, key: &CacheKey) -> Result<Option<Arc<ImageRecord>>, BuildError> {
        let Some(record) = self.store.record::<ImageRecord>(RecordKind::Image, key).await? else {
            return Ok(None);
        };
        if self.is_whole(key, &record).await? {
            return Ok(Some(Arc::new(record)));
        }
        self.store.remove_record(RecordKind::Image, key).await?;
        Ok(None)
    }

    /// The image of a build that has its turn: another build may have ended since the image was looked up.
    async fn made_or_built(
        self: &Arc<Self>,
        name: &ImageName,
        revision: &Revision,
        key: &CacheKey,
        progress: &Progress,
    ) -> Result<Arc<ImageRecord>, BuildError> {
        match self.made(key).await? {
            Some(record) => Ok(record),
            None => self.build(name, revision, key, progress).await.map(Arc::new),
        }
    }

    /// Notes that an image is there by this tag. Several tags can mean one revision, so that an image may
    /// have been built by another.
    pub async fn note_tag(&self, name: &ImageName, tag: &Tag) {
        // Only the tag list depends on it.
        if let Err(error) = self.store.note_tag(name, tag).await {
            tracing::warn!(image.name = %name, error = %chain(&error), "tag not noted");
        }
    }

    /// A whole build, with everything said that there is to say about it.
    async fn build_and_tell(
        self: Arc<Self>,
        name: ImageName,
        tag: Tag,
        revision: Revision,
        key: CacheKey,
        progress: Progress,
    ) -> Outcome {
        let _ends = progress.ends();
        let started = Instant::now();
        let result = match self.made_or_built(&name, &revision, &key, &progress).await {
            Err(BuildError::Selection(error)) => {
                Err(self.suggest(error, &revision, self.platform_of(&name)).await)
            }
            result => result,
        };
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match result {
            Ok(record) => {
                self.note_tag(&name, &tag).await;
                tracing::info!(image.name = %name, image.digest = %record.oci.digest, duration_ms, "built");
                progress.enter(Phase::Done { digest: record.oci.digest.to_string() });
                Ok(record)
            }
            Err(error) => {
                tracing::warn!(image.name = %name, error = %chain(&error), duration_ms, "not built");
                progress
                    .enter(Phase::Failed { message: error.to_oci_error_with(self.words(&revision)).message });
                let error = Arc::new(error);
                if error.is_lasting() {
                    self.failures.insert(key, Arc::clone(&error));
                }
                Err(error)
            }
        }
    }
}
