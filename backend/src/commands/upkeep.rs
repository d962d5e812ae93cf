//! What the commands that look after the storage have in common.

use super::{Failure, data_dir};
use crate::{config::StorageArgs, process::OwnFolder, store::Store};

/// The store, without what killed processes have left on this machine: unfinished blobs and GC roots.
pub(super) fn open(args: &StorageArgs) -> Result<Store, Failure> {
    let (url, data) = (args.storage_url()?, data_dir::make(args)?);
    let store = Store::open(&url, &data.join("staging"));
    let store = store.map_err(|error| Failure::Usage(crate::error_chain::chain(&error)))?;
    OwnFolder::new(&data.join("gcroots")).map_err(|error| Failure::error(&error))?;
    Ok(store)
}
