//! What the commands that maintain the storage have in common.

use super::{Failure, data_dir};
use crate::{config::StorageArgs, process::OwnFolder, store::Store};

/// Opens the store, and removes what killed processes left on this machine: unfinished blobs and GC roots.
pub(super) fn open(args: &StorageArgs) -> Result<Store, Failure> {
    let (url, data) = (args.storage_url()?, data_dir::make(args)?);
    let store = Store::open(&url, &data.join("staging"));
    let store = store.map_err(|error| Failure::Usage(crate::error_chain::chain(&error)))?;
    OwnFolder::new(&data.join("gcroots")).map_err(|error| Failure::error(&error))?;
    Ok(store)
}
