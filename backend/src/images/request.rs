//! Asking for an image: it is in the store, or a build of it runs, or a build begins.

use super::{BuildError, Builder, PackageSetState};
use crate::{
    error_chain::chain,
    package_set::Trust,
    packages::{PackageError, Recalled},
    store::{ImageRecord, RecordKind},
    waiting::{Attendance, Audience, Client, Flight, Phase, Place, Progress, QueueError},
};
use firn_shared::{
    cache_key::CacheKey,
    naming::{image_name::ImageName, package_source::Revision},
    oci::reference::Tag,
};
use std::sync::Arc;
use std::time::Instant;

/// The result of a build, shared by all requests that wait for it.
pub type BuildResult = Result<Arc<ImageRecord>, Arc<BuildError>>;

/// A build, with what it starts from.
struct Build {
    name: ImageName,
    tag: Tag,
    revision: Revision,
    key: CacheKey,
    trust: Trust,
    recalled: Recalled,
    place: Place,
    progress: Progress,
}

/// Whether an image can be served.
pub enum ImageStatus {
    /// It is in the store.
    Ready(Arc<ImageRecord>),
    /// It is being built.
    Building(Waiting),
}

/// A request that waits for a build. While it does, the client belongs to the build's audience.
pub struct Waiting {
    flight: Flight<BuildResult>,
    /// How the build stands.
    pub progress: Progress,
    _attendance: Attendance,
}

impl Waiting {
    /// What the build comes to.
    pub async fn outcome(&self) -> BuildResult {
        self.flight.clone().await
    }
}

impl Builder {
    /// The image of this name, or the build that it is waiting for; starts the build if nobody has.
    ///
    /// Clients take turns here: this may wait for as long as others are many.
    ///
    /// # Errors
    /// When the store cannot be read, or there is no place in the queue for this client.
    pub async fn image(
        self: &Arc<Self>,
        name: &ImageName,
        tag: &Tag,
        set: &PackageSetState,
        client: Client,
    ) -> Result<ImageStatus, BuildError> {
        let key = set.image_key(name);
        // As it is now; it may change while the image is being made.
        let trust = self.packages.trust(&set.revision);
        let flight_key = trust.failure_key(key);
        if let Some(record) = self.made(&key).await? {
            self.store.note_pull(&key);
            return Ok(ImageStatus::Ready(record));
        }
        loop {
            if let Some(error) = self.failures.get(&flight_key) {
                return Err(BuildError::Remembered(error));
            }
            if let Some(waiting) = self.join(&flight_key, client).await {
                return Ok(ImageStatus::Building(waiting));
            }
            // With nobody else in the audience, it waits only for as long as the request does.
            let turn = self.composing.take(&Audience::of(client)).await?;
            let recalled =
                self.packages.recall(&set.revision, trust, self.platform_of(name), name.candidates()).await?;
            let audience = Audience::new(self.limits.abandon_after);
            let attendance = audience.attend(client).expect("nobody has dismissed it");
            let start = || {
                let place = if recalled.is_complete() {
                    self.queue.pass(&audience, turn)?
                } else {
                    self.packages.admit(client)?;
                    self.queue.enter(client, &audience)?
                };
                let progress = Progress::new(name.to_string(), Arc::clone(&audience));
                self.builds.add(&progress);
                let build = Build {
                    name: name.clone(),
                    tag: tag.clone(),
                    revision: set.revision.clone(),
                    key,
                    trust,
                    recalled,
                    place,
                    progress: progress.clone(),
                };
                Ok::<_, QueueError>((progress, Arc::clone(self).build_and_tell(build)))
            };
            let (flight, progress) = self.flights.join_or(flight_key, start)?;
            if Arc::ptr_eq(progress.audience(), &audience) {
                return Ok(ImageStatus::Building(Waiting { flight, progress, _attendance: attendance }));
            }
            // Another request has begun the build meanwhile: join it.
        }
    }

    /// Joins the build of an image, if there is one.
    async fn join(&self, key: &CacheKey, client: Client) -> Option<Waiting> {
        loop {
            let (flight, progress) = self.flights.get(key)?;
            if let Some(_attendance) = progress.audience().attend(client) {
                return Some(Waiting { flight, progress, _attendance });
            }
            // It was given up a moment ago. Its place is free when it is over.
            let _ = flight.await;
        }
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

    /// Notes that an image is there by this tag. Several tags can mean one revision, so that an image may
    /// have been built by another.
    pub async fn note_tag(&self, name: &ImageName, tag: &Tag) {
        // Only the tag list depends on it.
        if let Err(error) = self.store.note_tag(name, tag).await {
            tracing::warn!(image.name = %name, error = %chain(&error), "tag not noted");
        }
    }

    /// Runs a build, and reports its result in the log and on its page.
    async fn build_and_tell(self: Arc<Self>, build: Build) -> BuildResult {
        let Build { name, tag, revision, key, trust, recalled, place: _place, progress } = build;
        let _ends = progress.ends();
        let started = Instant::now();
        // Another build may have ended since the image was looked up.
        let result = match self.made(&key).await {
            Ok(Some(record)) => Ok(record),
            Ok(None) => self.build(&name, &revision, &key, recalled, &progress).await.map(Arc::new),
            Err(error) => Err(error),
        };
        let result = match result {
            Err(BuildError::Packages(PackageError::Selection(error))) => {
                Err(self.packages.suggest(error, &revision, self.platform_of(&name)).await.into())
            }
            result => result,
        };
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match result {
            Ok(record) => {
                self.note_tag(&name, &tag).await;
                tracing::info!(image.name = %name, image.digest = %record.digest(), duration_ms, "built");
                progress.enter(Phase::Done { digest: record.digest().to_string() });
                Ok(record)
            }
            Err(error) => {
                if error.is_abandoned() {
                    tracing::info!(image.name = %name, duration_ms, "given up");
                } else {
                    tracing::warn!(image.name = %name, error = %chain(&error), duration_ms, "not built");
                }
                let message = error.explain(self.words(&revision));
                progress.enter(Phase::Failed { message });
                let error = Arc::new(error);
                if error.is_lasting() {
                    self.failures.insert(trust.failure_key(key), Arc::clone(&error));
                }
                Err(error)
            }
        }
    }
}
