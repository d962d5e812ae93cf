//! Checks that a store works as Firn requires.

use super::{Store, StoreError};
use object_store::{ObjectStoreExt, path::Path};

impl Store {
    /// Writes an object, tries to create it again, reads it back and deletes it.
    ///
    /// # Errors
    /// If one of these steps fails, if other bytes are read than were written, or if the object was created again.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let started = started.map_or(0, |since| since.as_nanos());
        let location = Path::from(format!("probes/{}-{started}", std::process::id()));
        let content = started.to_string();
        self.put(&location, content.clone().into_bytes()).await?;
        let created = self.create(&location, content.clone().into_bytes()).await;
        let read = async { self.objects.get(&location).await?.bytes().await }.await;
        self.objects.delete(&location).await?;
        if created? {
            return Err(StoreError::Unconditional);
        }
        if read? == content.as_bytes() { Ok(()) } else { Err(StoreError::Unfaithful) }
    }
}
