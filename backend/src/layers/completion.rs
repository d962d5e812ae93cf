//! Packing, in the background, layers that other images of the same packages will need.

use super::LayerPacker;
use crate::{
    error_chain::chain,
    waiting::{Audience, Client, Progress},
};
use firn_shared::{image::layer::LayerPlan, naming::image_name::ImageName};
use std::collections::HashMap;
use std::slice;
use std::sync::Arc;

impl LayerPacker {
    /// Packs layers of an image's packages that the image itself does not have, and then does `afterwards`. Ends early
    /// when `is_ending`.
    ///
    /// Layers of one image at a time are packed. If those of another image are, this does nothing: a later image of the
    /// same packages packs them.
    pub(crate) fn complete(
        self: &Arc<Self>,
        image: &ImageName,
        plans: Vec<LayerPlan>,
        is_ending: impl Fn() -> bool + Send + 'static,
        afterwards: impl Future<Output = ()> + Send + 'static,
    ) {
        let Ok(turn) = Arc::clone(&self.completing).try_lock_owned() else { return };
        let (layers, image) = (Arc::clone(self), image.clone());
        tokio::spawn(async move {
            let _turn = turn;
            let progress = Progress::new(image.to_string(), Audience::of(Client::NOBODY));
            // One after the other, so that an image that needs one of them waits for no more than one.
            for plan in &plans {
                if is_ending() {
                    return;
                }
                let packed = layers.pack_missing(slice::from_ref(plan), &HashMap::new(), &progress).await;
                if let Err(error) = packed {
                    // It is packed when an image needs it. Most often the Nix store has lost a path of it.
                    tracing::info!(image.name = %image, error = %chain(&error), "a layer stays unpacked");
                }
            }
            afterwards.await;
        });
    }

    /// Returns when nothing is packed or written in the background.
    pub(crate) async fn completed(&self) {
        drop(self.completing.lock().await);
        self.paths.written().await;
    }
}
