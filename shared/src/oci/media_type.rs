//! Media types (OCI image spec, "media-types.md"; Docker's "image manifest version 2, schema 2").

/// The two families of manifests that clients accept. They differ in media types alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ManifestFormat {
    /// OCI image manifest.
    Oci,
    /// Docker image manifest version 2, schema 2, for clients that do not accept OCI.
    Docker,
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerCompression {
    /// What every client reads.
    Gzip,
    /// Faster and smaller; needs OCI media types and Docker 23 or newer.
    Zstd,
}

/// `application/vnd.oci.image.manifest.v1+json`
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// `application/vnd.docker.distribution.manifest.v2+json`
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// `application/vnd.oci.image.index.v1+json`
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// `application/vnd.docker.distribution.manifest.list.v2+json`
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// What blobs are served as: the registry does not know what a client will make of them.
pub const BLOB: &str = "application/octet-stream";
/// What errors, tag lists and everything else that is no manifest are served as.
pub const JSON: &str = "application/json";

/// This media type, if it is a manifest's or an index's.
pub fn of_document(text: &str) -> Option<&'static str> {
    [OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_INDEX].into_iter().find(|known| *known == text)
}

impl ManifestFormat {
    /// The format that a document of this media type has.
    pub(super) fn of(media_type: &str) -> Self {
        match media_type {
            DOCKER_MANIFEST | DOCKER_INDEX => Self::Docker,
            _ => Self::Oci,
        }
    }

    /// The format for a client with these `Accept` header lines, each of which may hold several types.
    ///
    /// OCI unless the client accepts Docker's format alone: one that names neither is most likely to manage
    /// with OCI, and a refusal would help nobody.
    pub fn negotiate<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let mut docker = false;
        for media_range in accept.into_iter().flat_map(|line| line.split(',')) {
            let media_type = media_range.split(';').next().unwrap_or_default().trim();
            match media_type {
                OCI_MANIFEST | "*/*" | "application/*" => return Self::Oci,
                DOCKER_MANIFEST => docker = true,
                _ => {}
            }
        }
        if docker { Self::Docker } else { Self::Oci }
    }

    /// The manifest's own media type.
    pub const fn manifest(self) -> &'static str {
        match self {
            Self::Oci => OCI_MANIFEST,
            Self::Docker => DOCKER_MANIFEST,
        }
    }

    /// The media type of an index of such manifests.
    pub const fn index(self) -> &'static str {
        match self {
            Self::Oci => OCI_INDEX,
            Self::Docker => DOCKER_INDEX,
        }
    }

    /// The config's media type.
    pub const fn config(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.config.v1+json",
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    /// A layer's media type; Docker's format has none for zstd.
    pub const fn layer(self, compression: LayerCompression) -> Option<&'static str> {
        match (self, compression) {
            (Self::Oci, LayerCompression::Gzip) => Some("application/vnd.oci.image.layer.v1.tar+gzip"),
            (Self::Oci, LayerCompression::Zstd) => Some("application/vnd.oci.image.layer.v1.tar+zstd"),
            (Self::Docker, LayerCompression::Gzip) => {
                Some("application/vnd.docker.image.rootfs.diff.tar.gzip")
            }
            (Self::Docker, LayerCompression::Zstd) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiates() {
        let check = |accept: &[&str], expect| {
            assert_eq!(ManifestFormat::negotiate(accept.iter().copied()), expect, "{accept:?}");
        };
        check(&[], ManifestFormat::Oci);
        check(&["*/*"], ManifestFormat::Oci);
        check(&["text/html"], ManifestFormat::Oci);
        check(&[DOCKER_MANIFEST], ManifestFormat::Docker);
        check(&[&format!("{DOCKER_MANIFEST}, {OCI_MANIFEST}")], ManifestFormat::Oci);
        // skopeo sends one type a line.
        check(&[DOCKER_MANIFEST, OCI_MANIFEST], ManifestFormat::Oci);
        check(&["application/vnd.docker.distribution.manifest.v2+json;q=0.5"], ManifestFormat::Docker);
    }
}
