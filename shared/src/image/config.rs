//! Image configs (OCI image spec, "config.md").
//!
//! These are our own structs because `oci-spec` keeps labels in a `HashMap`, whose order differs from run to run. The
//! config's bytes must not differ, because its digest is part of the image. Tests parse the config with `oci-spec`.

use crate::oci::{digest::DiffId, platform::Platform};
use serde::Serialize;
use std::collections::BTreeMap;

/// An image config, which serialises to the JSON of the specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageConfig {
    /// The image's time, as in RFC 3339.
    pub created: String,
    /// The architecture: `amd64` or `arm64`.
    pub architecture: &'static str,
    /// The operating system, always `linux`.
    pub os: &'static str,
    /// The defaults of containers.
    pub config: ExecutionConfig,
    /// The layers' diff ids.
    pub rootfs: RootFs,
    /// One entry for each layer, bottom first.
    pub history: Vec<History>,
}

/// The defaults of containers made from the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExecutionConfig {
    /// User and group as `uid:gid`; `None` for root. Both are numbers because Kubernetes' `runAsNonRoot` does not
    /// look up names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Environment variables as `NAME=value`.
    pub env: Vec<String>,
    /// The default command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// The working directory; `None` for `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<&'static str>,
    /// The image's labels. The manifest has the same as annotations.
    pub labels: BTreeMap<String, String>,
}

/// The `rootfs` object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RootFs {
    /// The type, always `layers`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Digests of the uncompressed layers, bottom first.
    pub diff_ids: Vec<DiffId>,
}

/// The description of one layer, which `docker history` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct History {
    /// The image's time, as in RFC 3339.
    pub created: String,
    /// The program that made the layer.
    pub created_by: String,
    /// The content of the layer.
    pub comment: String,
}

impl ImageConfig {
    /// A config for this platform.
    pub fn new(
        created: String,
        platform: Platform,
        config: ExecutionConfig,
        layers: Vec<(DiffId, String)>,
    ) -> Self {
        let history = |comment| History { created: created.clone(), created_by: "firn".into(), comment };
        let (diff_ids, history) = layers.into_iter().map(|(id, comment)| (id, history(comment))).unzip();
        Self {
            architecture: platform.architecture(),
            os: "linux",
            config,
            rootfs: RootFs { kind: "layers", diff_ids },
            history,
            created,
        }
    }
}
