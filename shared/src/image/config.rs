//! Image configs (OCI image spec, "config.md").
//!
//! Written by hand because `oci-spec` keeps labels in a `HashMap`, whose order differs from run to run, and
//! the config's digest is part of the image's identity. Tests parse the result with `oci-spec`.

use crate::oci::{digest::DiffId, platform::Platform};
use serde::Serialize;
use std::collections::BTreeMap;

/// An image config, as the spec's JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageConfig {
    /// RFC 3339 time.
    pub created: String,
    /// `amd64`, `arm64`.
    pub architecture: &'static str,
    /// Always `linux`.
    pub os: &'static str,
    /// How containers start.
    pub config: ExecutionConfig,
    /// The layers' contents, bottom first.
    pub rootfs: RootFs,
    /// One entry a layer.
    pub history: Vec<History>,
}

/// The defaults of containers made from the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExecutionConfig {
    /// `uid:gid`; root where nothing is said. Numbers, because Kubernetes' `runAsNonRoot` reads no names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// The command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Where the command starts; `/` where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<&'static str>,
    /// Facts about the image; the same as the manifest's annotations.
    pub labels: BTreeMap<String, String>,
}

/// The `rootfs` object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Digests of the uncompressed layers, bottom first.
    pub diff_ids: Vec<DiffId>,
}

/// What one layer is, for `docker history`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct History {
    /// RFC 3339 time.
    pub created: String,
    /// What made the layer.
    pub created_by: String,
    /// What is in the layer.
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
