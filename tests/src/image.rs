//! An image as received, with every digest and size checked.

use crate::{
    layer::{Layer, sha256},
    registry::{Answer, Registry},
};
use oci_spec::image::{ImageConfiguration, ImageManifest};

/// A pulled image.
#[derive(Debug, Clone)]
pub struct Image {
    /// The name by which it was requested.
    pub name: String,
    /// The digest of the manifest.
    pub digest: String,
    /// The manifest, parsed by the OCI project's own crate.
    pub manifest: ImageManifest,
    /// The config, parsed by the same crate.
    pub config: ImageConfiguration,
}

impl Image {
    /// Pulls an image's manifest and config.
    ///
    /// # Panics
    /// If anything about them violates the specs.
    pub fn pull(registry: &Registry, name: &str) -> Self {
        Self::from_answer(registry, name, &registry.built(name, "latest"))
    }

    /// The image of a manifest that was fetched.
    ///
    /// # Panics
    /// If anything about it violates the specs.
    pub fn from_answer(registry: &Registry, name: &str, answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let manifest = ImageManifest::from_reader(answer.body.as_slice()).expect("an OCI manifest");
        let digest = sha256(answer.body.as_slice()).expect("memory can be read");
        assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()), "{name}");
        let media_type = manifest.media_type().as_ref().expect("manifests name their type").to_string();
        assert_eq!(answer.header("content-type"), Some(media_type.as_str()), "{name}");

        let descriptor = manifest.config();
        let mut config = Vec::new();
        std::io::copy(&mut registry.blob(name, descriptor.digest().as_ref()), &mut config)
            .expect("the config");
        assert_eq!(
            sha256(config.as_slice()).expect("memory can be read"),
            descriptor.digest().to_string(),
            "{name}"
        );
        assert_eq!(config.len() as u64, descriptor.size(), "{name}");
        let config = ImageConfiguration::from_reader(config.as_slice()).expect("an OCI config");
        Self { name: name.to_owned(), digest, manifest, config }
    }

    /// The digests of its layers, bottom first.
    pub fn layer_digests(&self) -> Vec<String> {
        self.manifest.layers().iter().map(|layer| layer.digest().to_string()).collect()
    }

    /// Digests of the manifest, the config and the layers.
    pub fn digests(&self) -> Vec<String> {
        let mut digests = vec![self.digest.clone(), self.manifest.config().digest().to_string()];
        digests.extend(self.layer_digests());
        digests
    }

    /// Reads its layers, bottom first.
    ///
    /// # Panics
    /// If a layer is not gzip, or its digest in the manifest or config is wrong.
    pub fn layers(&self, registry: &Registry) -> Vec<Layer> {
        let diff_ids = self.config.rootfs().diff_ids();
        assert_eq!(diff_ids.len(), self.manifest.layers().len(), "{}: one diff_id a layer", self.name);
        let layers = self.manifest.layers().iter().zip(diff_ids).map(|(descriptor, diff_id)| {
            let digest = descriptor.digest().to_string();
            assert_eq!(descriptor.media_type().to_string(), "application/vnd.oci.image.layer.v1.tar+gzip");
            let layer = Layer::read(registry.blob(&self.name, &digest))
                .unwrap_or_else(|error| panic!("{}: layer {digest}: {error}", self.name));
            assert_eq!(
                layer.digest, digest,
                "{}: the manifest has the digest of the compressed layer",
                self.name
            );
            assert_eq!(layer.size, descriptor.size(), "{}: layer {digest}", self.name);
            assert_eq!(&layer.diff_id, diff_id, "{}: the config has the digest of the tar", self.name);
            layer
        });
        layers.collect()
    }
}
