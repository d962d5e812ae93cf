//! skopeo copies an image into a directory; umoci unpacks it.

use crate::program::Program;
use std::path::{Path, PathBuf};

/// Copies an image to a location such as `oci:DIR:TAG` with skopeo, which verifies it.
pub fn copy(address: &str, image: &str, to: &str) {
    let from = format!("docker://{address}/{image}");
    skopeo(&["copy", "--quiet", "--src-tls-verify=false", &from, to]).succeeded();
}

/// Runs skopeo without the machine's trust policy.
pub fn skopeo(arguments: &[&str]) -> crate::program::Finished {
    Program::new("skopeo").args(["--insecure-policy"]).args(arguments).run()
}

/// Unpacks an image of an OCI layout with umoci. Returns the directory of its root.
pub fn unpack(layout: &Path, tag: &str, to: &Path) -> PathBuf {
    let root = to.join("rootfs");
    let image = format!("{}:{tag}", layout.display());
    Program::new("umoci").args(["raw", "unpack", "--image", &image]).args([&root]).run().succeeded();
    root
}
