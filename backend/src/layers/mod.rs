//! Layers of store paths: found where they were packed before, or packed now.
//!
//! [`crate::packing`] makes the bytes. This room decides what has to be packed, from where: from binary caches, or from the Nix
//! store, where it keeps the store paths meanwhile. It records the result. It knows nothing of packages and images.

mod completion;
mod error;
mod pack;

pub use error::LayerError;

use crate::{
    nix::Nix,
    packing::{Encoder, Packer},
    store::Store,
    store_paths::StorePaths,
    waiting::Flights,
};
use firn_shared::image::layer::LayerRecord;
use std::sync::Arc;

/// Packs each layer once, however many images want it at the same time.
pub struct LayerPacker {
    store: Store,
    nix: Arc<Nix>,
    paths: Arc<StorePaths>,
    packer: Arc<Packer>,
    flights: Flights<Result<LayerRecord, Arc<LayerError>>>,
    /// Held while layers are packed that no image has asked for yet.
    completing: Arc<tokio::sync::Mutex<()>>,
}

impl LayerPacker {
    pub(crate) fn new(store: Store, nix: Arc<Nix>, paths: Arc<StorePaths>, packer: Packer) -> Arc<Self> {
        let (flights, completing) = Default::default();
        Arc::new(Self { store, nix, paths, packer: Arc::new(packer), flights, completing })
    }

    /// How layers are compressed.
    pub(crate) fn encoder(&self) -> Encoder {
        self.packer.encoder()
    }
}
