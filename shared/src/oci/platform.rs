//! Platforms that images are made for: what OCI calls `architecture` and Nix calls `system`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A Linux platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// 64-bit x86.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

/// A text that names no platform Firn builds for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown platform {0:?}: one of amd64, arm64, x86_64-linux, aarch64-linux")]
pub struct ParsePlatformError(String);

impl Platform {
    /// The word for it in image names and image configs (Go's `GOARCH`, as the OCI image spec asks).
    pub const fn architecture(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Nix's word for it.
    pub const fn system(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux",
            Self::Arm64 => "aarch64-linux",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.architecture())
    }
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Amd64, Self::Arm64]
            .into_iter()
            .find(|platform| text == platform.architecture() || text == platform.system())
            .ok_or_else(|| ParsePlatformError(text.chars().take(40).collect()))
    }
}
